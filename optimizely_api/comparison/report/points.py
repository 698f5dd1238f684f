"""The points of the charts, taken from a report: curves over the rate and over time, and a row for each mode."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from optimizely_api.comparison.report.drawing import AT_LEAST, BELOW, Curve, Point, Row
from optimizely_api.comparison.report.refusals import EVENTS
from optimizely_api.comparison.report.report import Report
from optimizely_api.comparison.report.styles import STYLES, css_class
from optimizely_api.comparison.report.trials import Trial, stated

Second = Mapping[str, Any]
Figure = Callable[[Second], float | None]


def lost_share(second: Second) -> float | None:
    return second["lost"] / second["offered"] if second["offered"] else None


def named(key: str) -> Figure:
    """The figure of a second that the report has under this name."""

    def figure(second: Second) -> float | None:
        value: float | None = second[key]
        return value

    return figure


def over_rates(report: Report, figure: Figure, modes: Iterable[str] = ()) -> list[Curve]:
    """For each mode the figure at each rate of the growing load, with the spread of the repetitions."""
    curves = []
    for mode in modes or report["modes"]:
        repetitions = [trial["seconds"] for trial in stated(report["trials"], mode, "ramp")]
        points = [_point(same[0]["rate"], same, figure) for same in zip(*repetitions, strict=False)]
        curves.append(_curve(report, mode, points))
    return _measured(curves)


def over_time(report: Report, scenario: str, figure: Figure) -> list[Curve]:
    """For each mode the figure of every second of a scenario, with the spread of the repetitions."""
    curves = []
    for mode in report["modes"]:
        repetitions = [trial["seconds"] for trial in stated(report["trials"], mode, scenario)]
        points = [_point(_middle(same[0]), same, figure) for same in zip(*repetitions, strict=False)]
        curves.append(_curve(report, mode, points))
    return _measured(curves)


def goodput(report: Report, share: float) -> list[Curve]:
    """For each mode the good responses of every second of its first overload, as a share of its own highest rate."""
    curves = []
    for mode in report["modes"]:
        for trial in stated(report["trials"], mode, "overload", share=share)[:1]:
            points = [
                Point(
                    x=_middle(second),
                    y=second["good"] / (second["end"] - second["start"]) / trial["limit_rate"],
                    requests=second["offered"],
                )
                for second in trial["seconds"]
            ]
            curves.append(_curve(report, mode, points))
    return _measured(curves)


def rows(report: Report, key: str) -> list[Row]:
    """A row for each mode that has this figure."""
    return [
        Row(
            label=summary["title"],
            css=css_class(mode),
            shape=STYLES[mode].shape,
            text=figure["text"],
            point=_of_figure(figure),
        )
        for mode, summary in report["summary"]["modes"].items()
        if (figure := summary["figures"].get(key)) and figure["value"] is not None
    ]


def event(report: Report, scenario: str) -> tuple[float, float] | None:
    """From the first beginning of the event to its last end, over all trials; they differ by fractions of a second."""
    at: dict[str, list[float]] = {}
    for trial in _all_stated(report, scenario):
        for each in trial["events"]:
            at.setdefault(each["what"], []).append(each["at"])
    first, last = EVENTS[scenario]
    return (min(at[first]), max(at[last])) if first in at and last in at else None


def overloads(report: Report) -> dict[float, float]:
    """The seconds of overload for each multiple of the modes' own limits."""
    return {trial["share"]: trial["overload_seconds"] for trial in _all_stated(report, "overload")}


def _all_stated(report: Report, scenario: str) -> list[Trial]:
    return [trial for mode in report["modes"] for trial in stated(report["trials"], mode, scenario)]


def _middle(second: Second) -> float:
    middle: float = (second["start"] + second["end"]) / 2
    return middle


def _point(x: float, seconds: Sequence[Second], figure: Figure) -> Point:
    """One point for the same second of several repetitions."""
    values = [value for second in seconds if (value := figure(second)) is not None]
    requests = sum(second["offered"] for second in seconds)
    if not values:
        return Point(x=x, y=None, requests=requests)
    low, high = (min(values), max(values)) if len(values) > 1 else (None, None)
    return Point(x=x, y=median(values), low=low, high=high, requests=requests)


def _of_figure(figure: Mapping[str, Any]) -> Point:
    """A figure with its spread; a bound where one of its ends is missing: nothing held, or nothing failed."""
    value, least, most, requests = (figure[key] for key in ("value", "least", "most", "requests"))
    if most is None:
        return Point(x=least, y=None, requests=requests, bound=AT_LEAST)
    if value == 0 < most:
        return Point(x=most, y=None, requests=requests, bound=BELOW)
    low, high = (least, most) if least < most else (None, None)
    return Point(x=value, y=None, low=low, high=high, requests=requests)


def _curve(report: Report, mode: str, points: Sequence[Point]) -> Curve:
    return Curve(
        label=report["modes"][mode]["title"], css=css_class(mode), shape=STYLES[mode].shape, points=points
    )


def _measured(curves: Iterable[Curve]) -> list[Curve]:
    return [curve for curve in curves if any(point.y is not None for point in curve.points)]
