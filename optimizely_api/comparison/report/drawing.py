"""The marks of a chart: lines, bands, symbols and texts at their coordinates. Knows no report.

`chart.svg.mako` writes them as SVG. Every chart is WIDTH units wide: on a phone one unit is one pixel, so that texts
are readable there; larger screens enlarge the whole chart. Colours and lines are CSS, by the marks' classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from optimizely_api.comparison.report.axes import Axis

WIDTH = 360
LEFT, RIGHT = 46, 14  # from the picture's edges to the axes
LINE = 15  # from one line of text to the next
CHARACTER = 6.2  # the width of a character in these texts, on average
BOLD_CHARACTER = 6.8
ROW = 44
CAP = 4  # half the width of the ends of an error bar
ARROW = 26
AT_LEAST, BELOW = "at least", "below"

SYMBOLS = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "square": "M-3.6 -3.6h7.2v7.2h-7.2z",
    "triangle": "M0 -4.6L4.4 3.4H-4.4z",
    "diamond": "M0 -5L5 0L0 5L-5 0z",
    "flag": "M0 4.6L4.4 -3.4H-4.4z",
    "bar": "M-1.8 -5h3.6v10h-3.6z",
    "cross": "M-1.5 -4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
}


@dataclass(frozen=True)
class Path:
    """A line or an area; `d` as in SVG."""

    css: str
    d: str


@dataclass(frozen=True)
class Text:
    css: str
    x: float
    y: float
    text: str
    anchor: str = "start"


@dataclass(frozen=True)
class Symbol:
    """A point of a chart."""

    css: str
    x: float
    y: float
    shape: str

    @property
    def d(self) -> str:
        return SYMBOLS[self.shape]


Mark = Path | Text | Symbol


@dataclass(frozen=True, kw_only=True)
class Point:
    """A measured figure: where it is, its spread if it was measured several times, and its number of requests.

    `y` is None where nothing could be measured. `bound` is AT_LEAST or BELOW if the figure is only known to be at least
    or below this.
    """

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None
    requests: int | None = None
    bound: str = ""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The points of one mode. `css` selects its colour and line, `shape` its symbol."""

    label: str
    css: str
    shape: str
    points: Sequence[Point]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure on a line of its own, below its label and its text."""

    label: str
    css: str
    shape: str
    text: str
    point: Point  # its x is the figure


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A length of time in a row."""

    css: str
    start: float
    end: float


@dataclass
class Drawing:
    """A chart's marks, from top to bottom."""

    height: float = 0.0
    width: int = WIDTH
    marks: list[Mark] = field(default_factory=list)

    def add(self, *marks: Mark) -> None:
        self.marks.extend(marks)


def frame(x: Axis, y: Axis) -> list[Mark]:
    """Both axes with their numbers, a grid, and the titles: that of `y` above, that of `x` below."""
    marks: list[Mark] = [Text("title", 2, y.end - 12, y.title)]
    for tick in y.ticks():
        marks.append(Path("grid", f"M{x.start:g} {tick.at:g}H{x.end:g}"))
        marks.append(Text("number", x.start - 5, tick.at + 4, tick.text, "end"))
    return [*marks, *horizontal(x, y.start)]


def horizontal(x: Axis, bottom: float) -> list[Mark]:
    """An axis below a chart, with its numbers and its title."""
    marks: list[Mark] = [Path("axis", f"M{x.start:g} {bottom:g}H{x.end:g}")]
    most = 5 if x.end - x.start < WIDTH / 2 else 7
    for tick in x.ticks(most):
        marks.append(Path("axis", f"M{tick.at:g} {bottom:g}v4"))
        # A long number at the end of the axis would reach beyond the picture.
        inside = min(tick.at, WIDTH - CHARACTER * len(tick.text) / 2)
        marks.append(Text("number", inside, bottom + 16, tick.text, "middle"))
    return [*marks, Text("title", (x.start + x.end) / 2, bottom + 32, x.title, "middle")]


def curve(each: Curve, x: Axis, y: Axis) -> list[Mark]:
    """A line with its symbols, broken where nothing was measured, over a band of the spread."""
    marks: list[Mark] = []
    for piece in _pieces(each.points):
        with_spread = [point for point in piece if point.low is not None and point.high is not None]
        if len(with_spread) > 1:
            upper = [f"{x.at(point.x):g} {y.at(point.high or 0):g}" for point in with_spread]
            lower = [f"{x.at(point.x):g} {y.at(point.low or 0):g}" for point in reversed(with_spread)]
            marks.append(Path(f"band {each.css}", f"M{'L'.join([*upper, *lower])}z"))
        ends = [f"{x.at(point.x):g} {y.at(point.y or 0):g}" for point in piece]
        marks.append(Path(f"line {each.css}", f"M{'L'.join(ends)}"))
        marks += [
            Symbol(f"symbol {each.css}", x.at(point.x), y.at(point.y or 0), each.shape) for point in piece
        ]
    return marks


def _pieces(points: Sequence[Point]) -> list[list[Point]]:
    pieces: list[list[Point]] = [[]]
    for point in points:
        if point.y is None:
            pieces.append([])
        else:
            pieces[-1].append(point)
    return [piece for piece in pieces if piece]


def labels_at_ends(curves: Sequence[Curve], x: Axis, y: Axis) -> list[Mark]:
    """The curves' symbols and labels, right of the last point of each and not on one another."""
    ends = [
        (y.at(measured[-1].y or 0), each)
        for each in curves
        if (measured := [point for point in each.points if point.y is not None])
    ]
    ends.sort(key=lambda end: end[0])
    places = spread_apart([at for at, _ in ends], LINE, y.end, y.start)
    marks: list[Mark] = []
    for place, (_, each) in zip(places, ends, strict=True):
        marks.append(Symbol(f"symbol {each.css}", x.end + 12, place, each.shape))
        marks.append(Text(f"label {each.css}", x.end + 20, place + 4, each.label))
    return marks


def spread_apart(places: Sequence[float], least: float, first: float, last: float) -> list[float]:
    """The ascending places, moved so that they are `least` apart and, if they fit, between `first` and `last`."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + least if moved else first))
    limit = last
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - least
    return moved


def legend(curves: Sequence[Curve], top: float) -> tuple[list[Mark], float]:
    """The curves' symbols and labels in lines from `top`; also the coordinate below them."""
    marks: list[Mark] = []
    x, y = 4.0, top
    for each in curves:
        width = 30 + CHARACTER * len(each.label)
        if x + width > WIDTH and x > 4:
            x, y = 4.0, y + LINE
        marks.append(Path(f"line {each.css}", f"M{x:g} {y - 4:g}h18"))
        marks.append(Symbol(f"symbol {each.css}", x + 9, y - 4, each.shape))
        marks.append(Text("label", x + 22, y, each.label))
        x += width + 8
    return marks, y + LINE


def rows(figures: Sequence[Row], x: Axis, top: float) -> tuple[list[Mark], float]:
    """A line for each figure: label and text above it, the symbol and its spread on it. Also the coordinate below."""
    marks: list[Mark] = []
    y = top
    for each in figures:
        # A text that would run into its label goes below it.
        below = LINE if (len(each.label) + len(each.text)) * BOLD_CHARACTER > WIDTH - 4 else 0
        marks.append(Text("label", 2, y + 12, each.label))
        marks.append(Text("value", WIDTH - 2, y + 12 + below, each.text, "end"))
        y += below + 26
        marks.append(Path("grid", f"M{x.start:g} {y:g}H{x.end:g}"))
        marks += figure(each, x, y)
        y += ROW - 26
    return marks, y


def figure(each: Row, x: Axis, y: float) -> list[Mark]:
    point = each.point
    at = x.at(point.x)
    marks: list[Mark] = []
    if point.low is not None and point.high is not None:
        low, high = x.at(point.low), x.at(point.high)
        ends = f"M{low:g} {y - CAP:g}v{2 * CAP}M{high:g} {y - CAP:g}v{2 * CAP}"
        marks.append(Path(f"range {each.css}", f"M{low:g} {y:g}H{high:g}{ends}"))
    if point.bound == AT_LEAST:
        marks.append(Path(f"range {each.css}", f"M{at:g} {y:g}h{ARROW}m-6 -4l6 4l-6 4"))
    elif point.bound == BELOW:
        marks.append(Path(f"range {each.css}", f"M{at:g} {y:g}h-{ARROW}m6 -4l-6 4l6 4"))
    return [*marks, Symbol(f"symbol {each.css}", at, y, each.shape)]


def shade(x: Axis, y: Axis, first: float, last: float) -> Path:
    """The time of an event, behind everything."""
    return Path("shade", f"M{x.at(first):g} {y.end:g}H{x.at(last):g}V{y.start:g}H{x.at(first):g}z")


def across(x: Axis, y: Axis, value: float, label: str, points: Sequence[Point]) -> list[Mark]:
    """A horizontal line at a value, named at the end where fewer points are near it."""
    at = y.at(value)
    line = Path("limit", f"M{x.start:g} {at:g}H{x.end:g}")
    near = [x.at(point.x) for point in points if point.y is not None and abs(y.at(point.y) - at) < 2 * LINE]
    width = CHARACTER * len(label) + 8
    text_at = at - 4 if at - y.end > LINE else at + LINE - 3  # above the axis is its title
    if sum(place < x.start + width for place in near) <= sum(place > x.end - width for place in near):
        return [line, Text("number", x.start + 4, text_at, label)]
    return [line, Text("number", x.end - 4, text_at, label, "end")]


def bars(lanes: Sequence[Sequence[Bar]], x: Axis, top: float, height: float) -> list[Mark]:
    """Lengths of time below each other: one lane for each sequence, from `top`."""
    marks: list[Mark] = []
    for index, lane in enumerate(lanes):
        y = top + index * height
        for each in lane:
            start, end = x.at(each.start), x.at(each.end)
            width = max(1.0, round(end - start, 1))
            marks.append(Path(each.css, f"M{start:g} {y:g}h{width:g}v{height - 1:g}h-{width:g}z"))
    return marks


def finite(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]
