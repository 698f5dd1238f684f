"""The captions of the charts, with the figures of this run."""

from collections.abc import Mapping
from typing import Any

from optimizely_api.comparison.report.figures import share_text
from optimizely_api.comparison.report.report import Report
from optimizely_api.comparison.report.statements import (
    blocking_verdict,
    cpu_words,
    highest_words,
    one_words,
)
from optimizely_api.comparison.report.trials import by_mode


def captions(report: Report) -> dict[str, str]:
    """A caption for each chart that has figures."""
    modes, options = by_mode(report), report["options"]
    texts = {
        "ramp": _ramp(modes),
        "slow": _slow(modes, options),
        "restart": _restart(modes, options),
        "blocking": _blocking(modes),
        "distribution": _distribution(modes),
        "highest": highest_words(report),
        "resources": _resources(report),
        "no_help": " ".join(filter(None, (one_words(report), cpu_words(report)))),
    }
    return {name: text for name, text in texts.items() if text}


def fit_from_the_start(seconds: list[Any]) -> list[Any]:
    """The seconds before the first in which the generator did not keep the rate."""
    for index, second in enumerate(seconds):
        if not second["fit"]:
            return seconds[:index]
    return seconds


def _ramp(modes: Mapping[str, Any]) -> str:
    parts = [
        f"{outcome['title']} {_first_error(outcome['ramp'])}"
        for outcome in modes.values()
        if "ramp" in outcome
    ]
    return f"The same load is offered to every mode. {'; '.join(parts)}." if parts else ""


def _first_error(measured: Mapping[str, Any]) -> str:
    seconds = fit_from_the_start(measured["seconds"])
    cut = f" up to {seconds[-1]['rate']:.0f}/s, where the load generator fell behind" if seconds else ""
    if len(seconds) == len(measured["seconds"]):
        cut = ""
    first = next((second for second in seconds if second["lost"]), None)
    if first is None:
        return f"has no failure{cut}"
    share = "" if measured["not_fit"] else f", and {share_text(measured['error_share'])} in all"
    return f"has its first failure at {first['rate']:.0f}/s{share}{cut}"


def _slow(modes: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    parts = _eventful(modes, "slow")
    how = (
        f"answers after {options['slow_delay_ms'] / 1000:g} s instead of {options['delay_ms']:g} ms"
        if options["upstreams"] == "stub"
        else "stands still"
    )
    return f"While it is shaded the results service {how}. {parts}" if parts else ""


def _restart(modes: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    parts = _eventful(modes, "restart")
    how = (
        "New workers are started beside the old ones (TTIN), which leave when those can serve (TTOU)"
        if options["restart"] == "rolling"
        else "gunicorn gets a HUP and ends the old workers while the new ones are still starting"
    )
    return f"{how}. {parts}" if parts else ""


def _eventful(modes: Mapping[str, Any], scenario: str) -> str:
    parts = []
    for outcome in modes.values():
        if measured := outcome.get(scenario):
            slowest = measured["percentiles_ms"]["100"]
            took = f", the slowest ended after {slowest / 1000:.1f} s" if slowest is not None else ""
            parts.append(
                f"{outcome['title']} at {measured['rate']:g}/s: {measured['lost']} of {measured['offered']} "
                f"requests got a 5XX or no response{took}"
            )
    return "; ".join(parts) + "." if parts else ""


def _blocking(modes: Mapping[str, Any]) -> str:
    measured = modes.get("asyncio-blocked", {}).get("blocking")
    if not measured:
        return ""
    return (
        f"While it is shaded, {measured['blocking_rate']:g} request a second goes to a view that sleeps "
        f"{measured['blocking_ms']:g} ms on the event loop. The chart shows all other requests, at "
        f"{measured['rate']:g}/s: {blocking_verdict([measured])}."
    )


def _distribution(modes: Mapping[str, Any]) -> str:
    parts = [
        f"{outcome['title']} {share_text(ramp['good'] / ramp['offered'])}"
        for outcome in modes.values()
        if (ramp := outcome.get("ramp")) and ramp["offered"]
    ]
    if not parts:
        return ""
    return (
        "All requests of the growing load. A curve that ends below 100 % leaves the rest without a good answer; "
        f"well answered in all: {', '.join(parts)}."
    )


def _resources(report: Report) -> str:
    parts = [
        f"{row['title']} {row['figures']['idle_memory_mb']['text']} and {row['figures']['idle_processes']['text']} "
        "processes when idle"
        for row in report["summary"]["modes"].values()
        if row["figures"]["idle_memory_mb"]
    ]
    return (
        "The maximum of two samples a second during the growing load; memory shared by forked processes counts once. "
        + "; ".join(parts)
        + "."
        if parts
        else ""
    )
