"""The charts of the report: which there are, and what each one shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from optimizely_api.comparison.report.captions import AFTER, BEFORE, Caption, captions
from optimizely_api.comparison.report.figures import share_text
from optimizely_api.comparison.report.pictures import Extras, Picture, Scale, figures, lines
from optimizely_api.comparison.report.points import (
    event,
    goodput,
    lost_share,
    named,
    over_rates,
    over_time,
    overloads,
    rows,
)
from optimizely_api.comparison.report.report import Report


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One or two pictures with a title and a caption."""

    name: str
    title: str
    caption: Caption
    pictures: Sequence[Picture]


def rate_words(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"


def ms_words(milliseconds: float) -> str:
    return f"{milliseconds:,.0f} ms"


def percent_words(share: float) -> str:
    return f"{share:.0%}"


OFFERED = Scale(title="requests offered per second", words=rate_words, is_logarithmic=True)
TIME = Scale(title="time, s", words="{:g} s".format)
LOST = Scale(title="5XX or no response", words=share_text, holds=(1.0,), numbers=percent_words)


def first_pair(report: Report) -> list[Picture]:
    """Before and after: the lost share of a growing load, on equal axes."""
    titles = {BEFORE: "Before", AFTER: "After"}
    curves = over_rates(report, lost_share, [mode for mode in titles if mode in report["modes"]])
    if len(curves) < len(titles):
        return []
    offered = OFFERED.holding(point.x for curve in curves for point in curve.points)
    return [
        lines(f"first-{mode}", f"{title}: {curve.label}", [curve], offered, LOST)
        for (mode, title), curve in zip(titles.items(), curves, strict=True)
    ]


def charts(report: Report) -> list[Chart]:
    """The charts that have figures."""
    drawn = {
        "highest": ("The highest rate that keeps the objective", _highest(report)),
        "ramp": ("The load grows", _ramp(report)),
        "steady": ("The same rate for every mode", _steady(report)),
        "overload": ("Too much load, and the time after it", _overload(report)),
        "slow": ("One upstream becomes slow", _eventful(report, "slow", "while one upstream is slow")),
        "restart": ("Restart under load", _eventful(report, "restart", "during a restart")),
        "blocking": ("One view that blocks the event loop", _blocking(report)),
        "no_help": ("One request alone, and computing", _no_help(report)),
        "resources": ("Memory and processes", _resources(report)),
    }
    texts = captions(report)
    return [
        Chart(name=name, title=title, caption=texts.get(name, Caption("")), pictures=pictures)
        for name, (title, found) in drawn.items()
        if (pictures := [picture for picture in found if picture.has_figures])
    ]


def _highest(report: Report) -> list[Picture]:
    scale = Scale(title="highest rate, requests per second", words=rate_words, is_logarithmic=True)
    found = rows(report, "highest_rate")
    return [figures("highest-rates", "Highest rate", found, scale)]


def _ramp(report: Report) -> list[Picture]:
    options = report["options"]
    limits = ((options["objective_ms"], "objective"), (options["timeout_seconds"] * 1000, "time limit"))
    latency = Scale(title="p99 of latency, ms", words=ms_words, is_logarithmic=True)
    latency = latency.holding(value for value, _ in limits)
    lost, late = over_rates(report, lost_share), over_rates(report, named("p99_ms"))
    return [
        lines("ramp-lost", "5XX while the load grows", lost, OFFERED, LOST),
        lines("ramp-p99", "p99 while the load grows", late, OFFERED, latency, Extras(limits=limits)),
    ]


def _steady(report: Report) -> list[Picture]:
    return [
        figures(
            f"steady-{name}",
            f"{name} at the same rate",
            rows(report, f"steady_equal_{key}_ms"),
            Scale(title=f"{name} of latency, ms", words=ms_words),
        )
        for key, name in (("p50", "median"), ("p99", "p99"))
    ]


def _overload(report: Report) -> list[Picture]:
    good = Scale(
        title="good responses, share of the highest rate", words=percent_words, numbers=percent_words
    )
    return [
        lines(
            f"overload-{number}",
            f"At {share:g} times its own highest rate",
            goodput(report, share),
            TIME,
            good,
            Extras(shaded=(0.0, seconds), limits=((1.0, "highest rate"),)),
        )
        for number, (share, seconds) in enumerate(sorted(overloads(report).items()))
    ]


def _eventful(report: Report, scenario: str, when: str) -> list[Picture]:
    slowest = Scale(title="slowest request of each second, ms", words=ms_words, is_logarithmic=True)
    extras = Extras(shaded=event(report, scenario))
    lost = over_time(report, scenario, lost_share)
    late = over_time(report, scenario, named("max_ms"))
    return [
        lines(f"{scenario}-lost", f"5XX {when}", lost, TIME, LOST, extras),
        lines(f"{scenario}-slowest", f"Slowest requests {when}", late, TIME, slowest, extras),
    ]


def _blocking(report: Report) -> list[Picture]:
    extras = Extras(shaded=event(report, "blocking"))
    return [
        lines(
            f"blocking-{name}",
            f"{words.capitalize()} of all others",
            over_time(report, "blocking", named(key)),
            TIME,
            Scale(title=f"{words} of all others, ms", words=ms_words),
            extras,
        )
        for name, key, words in (("median", "p50_ms", "median"), ("slowest", "max_ms", "slowest request"))
    ]


def _no_help(report: Report) -> list[Picture]:
    computing = f"responses per second, {report['options']['cpu_ms']:g} ms of computing each"
    alone = Scale(title="one slow request alone, ms", words=ms_words)
    return [
        figures("one-request", "One slow request alone", rows(report, "one_request_ms"), alone),
        figures(
            "computing",
            "Computing",
            rows(report, "cpu_answers_per_second"),
            Scale(title=computing, words=rate_words),
        ),
    ]


def _resources(report: Report) -> list[Picture]:
    memory = Scale(title="most memory of the gateway, MB", words="{:.0f} MB".format)
    processes = Scale(title="most processes of the gateway", words="{:g}".format)
    return [
        figures("memory", "Memory", rows(report, "most_memory_mb"), memory),
        figures("processes", "Processes", rows(report, "most_processes"), processes),
    ]
