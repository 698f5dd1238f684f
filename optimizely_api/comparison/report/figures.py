"""The figures of the table, each over all trials of a mode: its median, its spread, and what it stands on. No IO."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from optimizely_api.comparison.report.arithmetic import LEAST_REQUESTS
from optimizely_api.comparison.report.trials import EQUAL, OWN_SHARE, Trial, stated

Figure = dict[str, Any]
"""`value` is the median of the trials, `least` and `most` the extremes of all; `text` has all three in words."""

CONFIDENCE = 1.96  # standard deviations on either side of a rank, for an interval of 95 %


def share_text(share: float) -> str:
    """A share of requests; 0 % and 100 % only if it is exactly none or all."""
    if 0 < share < 0.001:
        return "< 0.1%"
    if 0.999 < share < 1:
        return "> 99.9%"
    return f"{share:.1%}"


def figure(
    value: float,
    form: Callable[[float], str],
    *,
    least: float | None = None,
    most: float | None = None,
    trials: int = 1,
    requests: int | None = None,
) -> Figure:
    """A figure with its text; without `least` and `most` it has no spread."""
    least, most = value if least is None else least, value if most is None else most
    text = form(value)
    if form(least) != form(most):
        text += f" ({form(least)} to {form(most)})"
    return {
        "value": value,
        "least": least,
        "most": most,
        "trials": trials,
        "requests": requests,
        "text": text,
    }


def of_values(
    values: Sequence[float], form: Callable[[float], str], requests: int | None = None
) -> Figure | None:
    """The figure of one value per trial; None without any."""
    if not values:
        return None
    return figure(
        median(values), form, least=min(values), most=max(values), trials=len(values), requests=requests
    )


def p99(trials: Sequence[Trial]) -> Figure | None:
    """The median p99 of the trials; of all their requests together if each has too few; None if these are too few."""
    values = [each["percentiles_ms"]["99"] for each in trials if each["percentiles_ms"]["99"] is not None]
    requests = sum(each["offered"] for each in trials)
    if len(values) == len(trials):
        return of_values(values, _ms, requests)
    if requests < LEAST_REQUESTS[99.0]:
        return None
    return _pooled_p99(trials, requests)


def _pooled_p99(trials: Sequence[Trial], requests: int) -> Figure | None:
    """By ranks among the requests of all trials, with an interval of 95 %; one without a good response comes last."""
    waits = sorted((ms, count) for trial in trials for ms, count in trial["distribution"])
    ranks = 0.99 * requests
    margin = CONFIDENCE * math.sqrt(requests * 0.99 * 0.01)
    places = (ranks, ranks - margin, min(ranks + margin, requests))
    value, least, most = (_at_rank(waits, math.ceil(place)) for place in places)
    if value is None or least is None or most is None:
        return None
    return figure(value, _ms, least=least, most=most, trials=len(trials), requests=requests)


def _at_rank(waits: Sequence[tuple[float, int]], rank: int) -> float | None:
    passed = 0
    for ms, count in waits:
        passed += count
        if passed >= rank:
            return ms
    return None


def _ms(value: float) -> str:
    return f"{value:.0f} ms"


def _per_second(value: float) -> str:
    return f"{value:.3g}/s" if value < 1000 else f"{value:.0f}/s"


def _megabytes(value: float) -> str:
    return f"{value:.0f} MB"


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def _count(value: float) -> str:
    return f"{value:.0f}"


@dataclass(frozen=True)
class Wanted:
    """A figure of one value per trial: of which trials, how it is read, and how it is written."""

    scenario: str
    read: Callable[[Trial], float]
    form: Callable[[float], str]
    rate_kind: str | None = None


def _error_share(trial: Trial) -> float:
    return float(trial["error_share"])


def _median_ms(trial: Trial) -> float:
    # Nothing was answered: as long as anybody waited.
    return float(trial["percentiles_ms"]["50"] or 0.0)


WANTED = {
    "steady_equal_p50_ms": Wanted("steady", _median_ms, _ms, EQUAL),
    "steady_equal_error_share": Wanted("steady", _error_share, share_text, EQUAL),
    "steady_share_p50_ms": Wanted("steady", _median_ms, _ms, OWN_SHARE),
    "steady_share_error_share": Wanted("steady", _error_share, share_text, OWN_SHARE),
    **{
        f"{name}_error_share": Wanted(name, _error_share, share_text)
        for name in ("ramp", "slow", "restart", "blocking")
    },
    "cpu_answers_per_second": Wanted("cpu", lambda trial: float(trial["answers_per_second"]), _per_second),
    # During the growing load, which offers all modes the same; a restart would count the workers twice.
    "most_memory_mb": Wanted("ramp", lambda trial: float(trial["usage"]["most_memory_mb"]), _megabytes),
    "most_processes": Wanted("ramp", lambda trial: float(trial["usage"]["most_processes"]), _count),
}
P99 = {
    "steady_equal_p99_ms": ("steady", EQUAL),
    "steady_share_p99_ms": ("steady", OWN_SHARE),
    "ramp_p99_ms": ("ramp", None),
    "slow_p99_ms": ("slow", None),
    "restart_p99_ms": ("restart", None),
}
STARTS = {
    "start_seconds": ("seconds", _seconds),
    "idle_memory_mb": ("memory_mb", _megabytes),
    "idle_processes": ("processes", _count),
}


def figures(
    mode: str, description: Mapping[str, Any], trials: Sequence[Trial], overloads: Sequence[float]
) -> dict[str, Figure | None]:
    """The figures of a mode by their keys; None where nothing that may be stated was measured."""
    found: dict[str, Figure | None] = {}
    for key, wanted in WANTED.items():
        chosen = stated(trials, mode, wanted.scenario, rate_kind=wanted.rate_kind)
        requests = sum(each.get("offered", each.get("answers", 0)) for each in chosen)
        found[key] = of_values([wanted.read(each) for each in chosen], wanted.form, requests)
    for key, (scenario, kind) in P99.items():
        chosen = stated(trials, mode, scenario, rate_kind=kind)
        found[key] = p99(chosen) if chosen else None
    for factor in overloads:
        found |= _overload(f"overload_{factor:g}", stated(trials, mode, "overload", share=factor))
    for key, (part, form) in STARTS.items():
        found[key] = of_values([each[part] for each in description["starts"]], form)
    return {**found, "one_request_ms": _one(stated(trials, mode, "one"))}


def _one(trials: Sequence[Trial]) -> Figure | None:
    """Over the requests of all trials, each of which was alone."""
    durations = [ms for each in trials for ms in each["durations_ms"]]
    made = of_values(durations, _ms, len(durations))
    return {**made, "trials": len(trials)} if made else None


def _overload(key: str, trials: Sequence[Trial]) -> dict[str, Figure | None]:
    """Good responses per second during an overload, over all of its seconds, and how long the recovery took."""
    names = (f"{key}_goodput", f"{key}_recovery_seconds")
    if not trials:
        return dict.fromkeys(names)
    goodput = [each for trial in trials for each in trial["goodput"]]
    requests = sum(each["offered"] for each in trials)
    mean = sum(goodput) / len(goodput)
    good = figure(
        mean, _per_second, least=min(goodput), most=max(goodput), trials=len(trials), requests=requests
    )
    return dict(zip(names, (good, _recovery(trials, requests)), strict=True))


def _recovery(trials: Sequence[Trial], requests: int) -> Figure | None:
    seconds = [each["recovery_seconds"] for each in trials]
    if None not in seconds:
        return of_values(seconds, _seconds, requests)
    window = max(each["recovery_window_seconds"] for each in trials)
    return {
        "value": None,
        "least": None,
        "most": None,
        "trials": len(trials),
        "requests": requests,
        "text": f"not within {window:g} s",
    }


__all__ = ["Figure", "figure", "figures", "of_values", "p99", "share_text"]
