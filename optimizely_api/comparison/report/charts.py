"""The charts of the report, as PNG files in memory.

Every mode has the same colour, marker and line style in all charts. The colours are those of Okabe and Ito, which
colour-blind people can distinguish.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from optimizely_api.comparison.report.captions import captions, fit_from_the_start
from optimizely_api.comparison.report.refusals import EVENTS
from optimizely_api.comparison.report.report import Report
from optimizely_api.comparison.report.trials import by_mode

WIDTH, HEIGHT = 9.0, 5.6  # inches
DOTS_PER_INCH = 110
GREY = "#555555"
SHADE = "#dddddd"


@dataclass(frozen=True)
class Style:
    """How a mode is drawn."""

    colour: str
    marker: str
    line: Any


STYLES = {
    "multiprocessing": Style("#D55E00", "s", "-"),
    "multiprocessing-kept": Style("#882255", "v", "-."),
    "multiprocessing-more": Style("#AA4499", "P", ":"),
    "threads": Style("#E69F00", "^", "--"),
    "gevent": Style("#009E73", "X", "-."),
    "asyncio": Style("#0072B2", "o", "-"),
    "asyncio-blocked": Style("#CC79A7", "D", ":"),
}


@dataclass(frozen=True)
class Chart:
    """A picture with its title and caption."""

    name: str
    title: str
    caption: str
    png: bytes


def charts(report: Report) -> list[Chart]:
    """The charts that have figures."""
    modes = by_mode(report)
    drawn = {
        "ramp": ("Offered load grows", _ramp(modes, report["options"])),
        "slow": ("One upstream becomes slow", _eventful(modes, "slow")),
        "restart": ("Restart under load", _eventful(modes, "restart")),
        "blocking": ("One view that blocks the event loop", _blocking(modes)),
        "distribution": ("How long callers waited", _distribution(modes, report["options"])),
        "highest": ("Highest rate that keeps the objective", _highest(report)),
        "resources": ("Memory and processes", _resources(report)),
        "no_help": ("One request alone, and computing", _no_help(report)),
    }
    captions_by_name = captions(report)
    return [
        Chart(name, title, captions_by_name.get(name, ""), _png(figure))
        for name, (title, figure) in drawn.items()
        if figure is not None
    ]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def _two_panels() -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_ylabel("5XX or no response, % of requests")
    upper.set_ylim(-4, 104)
    lower.set_ylabel("p99 of latency, ms")
    _logarithmic(lower)
    for axes in (upper, lower):
        axes.grid(visible=True, color="#e6e6e6")
    return figure, upper, lower


def _measured(modes: Mapping[str, Any], scenario: str) -> dict[str, Any]:
    return {name: outcome[scenario] for name, outcome in modes.items() if outcome.get(scenario)}


def _stated(modes: Mapping[str, Any], scenario: str) -> dict[str, Any]:
    return {name: outcome[scenario] for name, outcome in modes.items() if outcome.get(scenario)}


def _draw(axes: Axes, name: str, x: Sequence[float], y: Sequence[float | None], label: str) -> None:
    style = STYLES[name]
    values = [float("nan") if value is None else value for value in y]
    axes.plot(
        x, values, color=style.colour, marker=style.marker, linestyle=style.line, markersize=4, label=label
    )


def _draw_seconds(
    upper: Axes, lower: Axes, name: str, label: str, x: list[float], seconds: list[Any]
) -> None:
    _draw(upper, name, x, [_error_percent(second) for second in seconds], label)
    _draw(lower, name, x, [second["p99_ms"] for second in seconds], label)


def _error_percent(second: Mapping[str, Any]) -> float | None:
    return 100 * second["lost"] / second["offered"] if second["offered"] else None


def _ramp(modes: Mapping[str, Any], options: Mapping[str, Any]) -> Figure | None:
    measured = _measured(modes, "ramp")
    if not measured:
        return None
    figure, upper, lower = _two_panels()
    for name, outcome in measured.items():
        seconds = fit_from_the_start(outcome["seconds"])
        _draw_seconds(
            upper, lower, name, modes[name]["title"], [second["end"] for second in seconds], seconds
        )
    _label_with_rates(lower, max((outcome["seconds"] for outcome in measured.values()), key=len))
    _line(lower, options["objective_ms"], "objective")
    _line(lower, options["timeout_seconds"] * 1000, "time limit")
    _legend(figure, upper)
    return figure


def _label_with_rates(axes: Axes, seconds: list[Any]) -> None:
    """Time, and below it the load that was offered at that time."""
    every = max(1, len(seconds) // 8)
    shown = seconds[::every]
    axes.set_xticks([second["end"] for second in shown])
    axes.set_xticklabels([f"{second['end']:g}\n{second['rate']:.0f}/s" for second in shown])
    axes.set_xlabel("time, s, and the load offered in that second, requests/s")


def _eventful(modes: Mapping[str, Any], scenario: str) -> Figure | None:
    measured = _stated(modes, scenario)
    if not measured:
        return None
    figure, upper, lower = _two_panels()
    for name, outcome in measured.items():
        title = f"{modes[name]['title']} at {outcome['rate']:g}/s"
        middles = [(second["start"] + second["end"]) / 2 for second in outcome["seconds"]]
        _draw_seconds(upper, lower, name, title, middles, outcome["seconds"])
    _shade((upper, lower), measured, EVENTS[scenario])
    lower.set_xlabel("time, s")
    _legend(figure, upper)
    return figure


def _shade(panels: Sequence[Axes], measured: Mapping[str, Any], between: tuple[str, str]) -> None:
    """Shade the time from the first mode's beginning to the last mode's end; they differ by fractions of a second."""
    begins = [
        event["at"]
        for outcome in measured.values()
        for event in outcome["events"]
        if event["what"] == between[0]
    ]
    ends = [
        event["at"]
        for outcome in measured.values()
        for event in outcome["events"]
        if event["what"] == between[1]
    ]
    if begins and ends:
        for axes in panels:
            axes.axvspan(min(begins), max(ends), color=SHADE, zorder=0, label=f"{between[0]} … {between[1]}")


def _blocking(modes: Mapping[str, Any]) -> Figure | None:
    outcome = modes.get("asyncio-blocked", {}).get("blocking")
    if not outcome:
        return None
    figure = Figure(figsize=(WIDTH, HEIGHT * 0.7), layout="constrained")
    axes = figure.subplots()
    middles = [(second["start"] + second["end"]) / 2 for second in outcome["seconds"]]
    style = STYLES["asyncio-blocked"]
    for key, label, line in (("p99_ms", "p99", "-"), ("p50_ms", "median", "--")):
        values = [second[key] if second[key] is not None else float("nan") for second in outcome["seconds"]]
        axes.plot(
            middles,
            values,
            color=style.colour,
            marker=style.marker,
            linestyle=line,
            markersize=4,
            label=label,
        )
    _shade([axes], {"asyncio-blocked": outcome}, EVENTS["blocking"])
    _logarithmic(axes)
    axes.set_xlabel("time, s")
    axes.set_ylabel("latency of everybody else, ms")
    axes.grid(visible=True, color="#e6e6e6")
    _legend(figure, axes)
    return figure


def _distribution(modes: Mapping[str, Any], options: Mapping[str, Any]) -> Figure | None:
    measured = _stated(modes, "ramp")
    if not measured:
        return None
    figure = Figure(figsize=(WIDTH, HEIGHT * 0.8), layout="constrained")
    axes = figure.subplots()
    for name, outcome in measured.items():
        style = STYLES[name]
        x, y = cumulated(outcome["distribution"], outcome["offered"])
        axes.plot(x, y, color=style.colour, linestyle=style.line, label=modes[name]["title"], linewidth=2)
    axes.axvline(options["objective_ms"], color=GREY, linewidth=1, linestyle="-.", label="objective")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(0, 102)
    axes.set_xlabel("latency, ms, from when a request was due")
    axes.set_ylabel("well answered within it, % of all offered")
    axes.grid(visible=True, color="#e6e6e6")
    _legend(figure, axes)
    return figure


def cumulated(distribution: Sequence[Sequence[float]], offered: int) -> tuple[list[float], list[float]]:
    """Latencies, and for each the percentage of all offered requests with a good response within it."""
    x, y, cumulated_count = [], [], 0.0
    for latency, count in distribution:
        cumulated_count += count
        x.append(latency)
        y.append(100 * cumulated_count / offered)
    return x, y


def _highest(report: Report) -> Figure | None:
    rows = _with(report, "highest_rate")
    if not rows:
        return None
    figure = Figure(figsize=(WIDTH, 0.7 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    _bars(
        axes,
        rows,
        _values(rows, "highest_rate"),
        labels=[row["highest_rate_text"] for row in rows.values()],
    )
    objective = report["options"]["objective_ms"] / 1000
    axes.set_xlabel(f"highest rate without a 5XX and with p99 under {objective:g} s, requests/s")
    return figure


def _resources(report: Report) -> Figure | None:
    rows = _with(report, "most_memory_mb")
    if not rows:
        return None
    figure = Figure(figsize=(WIDTH, 0.6 * len(rows) + 1.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _bars(left, rows, _values(rows, "most_memory_mb"), "{:.0f} MB")
    left.set_xlabel("most memory of the gateway, MB")
    _bars(right, rows, _values(rows, "most_processes"), "{:.0f}")
    right.set_xlabel("most processes of the gateway")
    right.set_yticklabels([])
    return figure


def _no_help(report: Report) -> Figure | None:
    rows = _with(report, "one_request_ms", "cpu_answers_per_second")
    if not rows:
        return None
    figure = Figure(figsize=(WIDTH, 0.6 * len(rows) + 1.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _bars(left, rows, _values(rows, "one_request_ms"), "{:.0f} ms")
    left.set_xlabel("one slow request alone, ms")
    _bars(right, rows, _values(rows, "cpu_answers_per_second"), "{:.0f}/s")
    right.set_xlabel(f"answers/s with {report['options']['cpu_ms']:g} ms of computing each")
    right.set_yticklabels([])
    return figure


def _with(report: Report, *keys: str) -> dict[str, Any]:
    """The summary's modes that have all these figures."""
    rows = report["summary"]["modes"]
    return {name: row for name, row in rows.items() if all(row["figures"].get(key) for key in keys)}


def _values(rows: Mapping[str, Any], key: str) -> list[float]:
    return [row["figures"][key]["value"] for row in rows.values()]


def _bars(
    axes: Axes, rows: Mapping[str, Any], values: Sequence[float], form: str = "", labels: Sequence[str] = ()
) -> None:
    names = [row["title"] for row in rows.values()]
    bars = axes.barh(names, values, color=[STYLES[name].colour for name in rows])
    axes.bar_label(bars, labels=labels or [form.format(value) for value in values], padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.spines[["top", "right"]].set_visible(False)


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis with numbers as marks, not powers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _line(axes: Axes, y: float, label: str) -> None:
    axes.axhline(y, color=GREY, linewidth=1, linestyle="-.")
    axes.annotate(label, (0.005, y), xycoords=("axes fraction", "data"), fontsize=8, color=GREY, va="bottom")


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)), frameon=False)
