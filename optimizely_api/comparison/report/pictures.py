"""The two kinds of pictures that the charts are made of: curves over an axis, and figures below each other.

A picture is drawn, described in words and listed as a table, all three from the same points. Knows no report.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from optimizely_api.comparison.report.alt_texts import InWords, of_curves, of_rows, requests_words
from optimizely_api.comparison.report.axes import Axis, linear, logarithmic
from optimizely_api.comparison.report.drawing import (
    CHARACTER,
    LEFT,
    LINE,
    RIGHT,
    WIDTH,
    Curve,
    Drawing,
    Point,
    Row,
    across,
    curve,
    finite,
    frame,
    horizontal,
    labels_at_ends,
    legend,
    rows,
    shade,
)

HEIGHT = 170  # of the area within the axes
BELOW = 40  # for the numbers and the title of the x axis
ABOVE = 26  # for the title of the y axis
MOST_DIRECT_LABELS = 4
LONGEST_DIRECT_LABEL = 16

Table = list[list[str]]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawing, what one sees in it, a note under it, and the figures."""

    name: str
    title: str
    description: str
    note: str
    drawing: Drawing
    table: Table

    @property
    def has_figures(self) -> bool:
        return len(self.table) > 1


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The values along one axis of a picture: their name, their words, how they are spaced, and some that it holds.

    `numbers` are the words beside the axis, if they are not plain numbers.
    """

    title: str
    words: InWords
    is_logarithmic: bool = False
    holds: Sequence[float] = ()
    numbers: InWords | None = None

    def holding(self, values: Iterable[float]) -> "Scale":
        return replace(self, holds=(*self.holds, *values))

    def axis(self, values: Iterable[float], start: float, end: float) -> Axis:
        make: Callable[..., Axis] = logarithmic if self.is_logarithmic else linear
        return make(self.title, [*self.holds, *values], start, end, words=self.numbers)


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What is drawn beside the curves: the time of an event, and named limits."""

    shaded: tuple[float, float] | None = None
    limits: Sequence[tuple[float, str]] = ()


def lines(
    name: str, title: str, curves: Sequence[Curve], x: Scale, y: Scale, extras: Extras | None = None
) -> Picture:
    """Curves over an axis, labelled at their ends where they are few."""
    return Picture(
        name=name,
        title=title,
        description=of_curves(curves, f"{y.title} over {x.title}", x.words, y.words),
        note=requests_words([point for each in curves for point in each.points]),
        drawing=_draw_curves(curves, x, y, extras or Extras()),
        table=_table_of_curves(curves, x, y),
    )


def figures(name: str, title: str, found: Sequence[Row], x: Scale) -> Picture:
    """A figure of each mode on a line of its own."""
    counted = [[row.label, row.text, _count(row.point)] for row in found]
    return Picture(
        name=name,
        title=title,
        description=of_rows(found, x.title),
        note=requests_words([row.point for row in found]),
        drawing=_draw_rows(found, x),
        table=[["", x.title, "requests"], *counted],
    )


def _draw_curves(curves: Sequence[Curve], x: Scale, y: Scale, extras: Extras) -> Drawing:
    drawing = Drawing()
    top = 0.0
    labels_width = _width_of_labels(curves)
    if len(curves) > 1 and not labels_width:
        marks, top = legend(curves, LINE)
        drawing.add(*marks)
    bottom = top + ABOVE + HEIGHT
    points = [point for each in curves for point in each.points]
    x_axis = x.axis([point.x for point in points], LEFT, WIDTH - (labels_width or RIGHT))
    y_axis = y.axis(
        finite([each for point in points for each in (point.y, point.low, point.high)]), bottom, top + ABOVE
    )
    if extras.shaded:
        drawing.add(shade(x_axis, y_axis, *extras.shaded))
    drawing.add(*frame(x_axis, y_axis))
    for value, label in extras.limits:
        drawing.add(*across(x_axis, y_axis, value, label, points))
    for each in curves:
        drawing.add(*curve(each, x_axis, y_axis))
    if labels_width:
        drawing.add(*labels_at_ends(curves, x_axis, y_axis))
    drawing.height = bottom + BELOW
    return drawing


def _width_of_labels(curves: Sequence[Curve]) -> float:
    """The width of labels at the ends of curves; 0 where a legend is drawn instead, or one curve needs no label."""
    longest = max((len(each.label) for each in curves), default=0)
    if not 1 < len(curves) <= MOST_DIRECT_LABELS or longest > LONGEST_DIRECT_LABEL:
        return 0.0
    return CHARACTER * longest + 22


def _draw_rows(found: Sequence[Row], x: Scale) -> Drawing:
    drawing = Drawing()
    values = finite([each for row in found for each in (row.point.x, row.point.low, row.point.high)])
    axis = x.axis(values, 30, WIDTH - 34)
    marks, bottom = rows(found, axis, 0)
    drawing.add(*marks, *horizontal(axis, bottom))
    drawing.height = bottom + BELOW
    return drawing


def _table_of_curves(curves: Sequence[Curve], x: Scale, y: Scale) -> Table:
    body = [
        [each.label, x.words(point.x), _value(point, y), _spread(point, y), _count(point)]
        for each in curves
        for point in each.points
    ]
    head = ["", x.title, y.title, "least to most", "requests"]
    has_spread = any(spread for *_, spread, _ in body)
    return [head, *body] if has_spread else [[*line[:3], line[4]] for line in (head, *body)]


def _value(point: Point, scale: Scale) -> str:
    return "-" if point.y is None else scale.words(point.y)


def _spread(point: Point, scale: Scale) -> str:
    if point.low is None or point.high is None:
        return ""
    return f"{scale.words(point.low)} to {scale.words(point.high)}"


def _count(point: Point) -> str:
    return "" if point.requests is None else f"{point.requests:,}"


__all__ = ["Extras", "Picture", "Scale", "figures", "lines"]
