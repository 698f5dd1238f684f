"""The headline and the captions of the charts, chosen by rule from the figures of a report."""

from collections.abc import Sequence
from dataclasses import dataclass

from optimizely_api.comparison.report.report import Report
from optimizely_api.comparison.report.statements import (
    SAME,
    SMOKE_TEST,
    UNDECIDED,
    blocking_verdict,
    cpu_words,
    highest_words,
    one_words,
    overload_words,
    steady_words,
)
from optimizely_api.comparison.report.trials import Trial, stated

BEFORE, AFTER = "multiprocessing", "asyncio"


@dataclass(frozen=True)
class Caption:
    """A sentence about all modes, and a part for each."""

    sentence: str
    parts: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.sentence)


def headline(report: Report) -> str:
    """What asyncio carries, against the design before it; with the ratio if one may be quoted."""
    if report["options"]["quick"]:
        return SMOKE_TEST
    compared = report["summary"]["comparisons"].get(BEFORE)
    if compared is None:
        return "This report has no highest rates of asyncio and multiprocessing to compare."
    if compared["ratio"] is not None:
        return f"asyncio carries {compared['text']} the requests of multiprocessing"
    return {
        SAME: "asyncio and multiprocessing carry the same, within the spread",
        UNDECIDED: "asyncio and multiprocessing cannot be told apart",
    }.get(compared["relation"], f"asyncio carries {compared['relation']} requests than multiprocessing")


def headline_figures(report: Report) -> str:
    """The two rates of the headline, and the objective that they keep."""
    rates = {
        name: row["highest_rate_text"]
        for name, row in report["summary"]["modes"].items()
        if name in (BEFORE, AFTER) and row["highest_rate_text"]
    }
    if report["options"]["quick"] or len(rates) < 2:
        return ""
    objective = report["options"]["objective_ms"] / 1000
    return f"{rates[AFTER]} against {rates[BEFORE]}, without a 5XX and with a p99 under {objective:g} s."


def spread_words(report: Report) -> str:
    """How often the growing load of the first screen was measured, in each of its two modes."""
    counts = {mode: len(stated(report["trials"], mode, "ramp")) for mode in (BEFORE, AFTER)}
    if len(set(counts.values())) > 1:
        times = " and ".join(f"{count} times under {mode}" for mode, count in counts.items())
        return f"It was measured {times}; a point is the median, a band goes from the least to the most."
    if counts[AFTER] > 1:
        return (
            f"A point is the median of {counts[AFTER]} repetitions, the band goes from the least to the most."
        )
    return "It was measured once, so there is no spread."


def captions(report: Report) -> dict[str, Caption]:
    """A caption for each chart that has figures."""
    found = {
        "highest": Caption(highest_words(report)),
        "ramp": _ramp(report),
        "steady": Caption(steady_words(report)),
        "overload": _overload(report),
        "slow": _slow(report),
        "restart": _restart(report),
        "blocking": _blocking(report),
        "no_help": Caption(" ".join(filter(None, (one_words(report), cpu_words(report))))),
        "resources": _resources(report),
    }
    return {name: caption for name, caption in found.items() if caption}


def _ramp(report: Report) -> Caption:
    parts = [
        f"{_title(report, mode)} {_first_failure(found)}"
        for mode in report["modes"]
        if (found := stated(report["trials"], mode, "ramp"))
    ]
    return _caption("The same growing load is offered to every mode, a second at each rate.", parts)


def _first_failure(repetitions: list[Trial]) -> str:
    """The lowest rate at which a request was lost, over the repetitions."""
    rates = [second["rate"] for trial in repetitions for second in trial["seconds"]]
    lost = [second["rate"] for trial in repetitions for second in trial["seconds"] if second["lost"]]
    if not lost:
        return f"loses no request up to {max(rates):.0f}/s"
    return f"loses its first request at {min(lost):.0f}/s"


def _lost(trials: list[Trial]) -> str:
    lost, offered = (sum(trial[key] for trial in trials) for key in ("lost", "offered"))
    return f"{lost:,} of {offered:,} requests"


def _overload(report: Report) -> Caption:
    return _caption(
        "While it is shaded, each mode gets more than its own highest rate, and less again after it.",
        [sentence.removesuffix(".") for sentence in overload_words(report)],
    )


def _slow(report: Report) -> Caption:
    options = report["options"]
    how = (
        f"answers after {options['slow_delay_ms'] / 1000:g} s instead of {options['delay_ms']:g} ms"
        if options["upstreams"] == "stub"
        else "stands still"
    )
    return _caption(f"While it is shaded, the results service {how}.", _losses(report, "slow"))


def _restart(report: Report) -> Caption:
    how = (
        "New workers are started beside the old ones (TTIN), which leave when those can serve (TTOU)."
        if report["options"]["restart"] == "rolling"
        else "gunicorn gets a HUP: blocking workers end while the new ones start, the gateway's when those listen."
    )
    return _caption(how, _losses(report, "restart"))


def _losses(report: Report, scenario: str) -> list[str]:
    """How many requests each mode lost, at its share of its own highest rate."""
    return [
        f"{_title(report, mode)} at {trial['rate']:g}/s lost {_lost([trial])}"
        for mode in report["modes"]
        for trial in stated(report["trials"], mode, scenario)
    ]


def _blocking(report: Report) -> Caption:
    trials = [trial for mode in report["modes"] for trial in stated(report["trials"], mode, "blocking")]
    if not trials:
        return Caption("")
    return Caption(
        f"While it is shaded, {trials[0]['blocking_rate']:g} request a second goes to a view that sleeps "
        f"{trials[0]['blocking_ms']:g} ms on the event loop. The charts show all other requests, at "
        f"{trials[0]['rate']:g}/s: {blocking_verdict(trials)}."
    )


def _resources(report: Report) -> Caption:
    parts = [
        f"{row['title']} {memory['text']} when idle"
        for row in report["summary"]["modes"].values()
        if (memory := row["figures"].get("idle_memory_mb"))
    ]
    sentence = (
        "The maximum of two samples a second while the load grows; memory of forked processes counts once."
    )
    return _caption(sentence, parts)


def _caption(sentence: str, parts: Sequence[str]) -> Caption:
    """No caption without figures."""
    return Caption(sentence if parts else "", parts)


def _title(report: Report, mode: str) -> str:
    title: str = report["modes"][mode]["title"]
    return title
