"""The marks of the charts: nothing is cut off or covers something else, and a bound is drawn as one."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizely_api.comparison.report.alt_texts import of_curves, of_rows, requests_words
from optimizely_api.comparison.report.axes import linear
from optimizely_api.comparison.report.drawing import (
    AT_LEAST,
    BELOW,
    LINE,
    WIDTH,
    Curve,
    Path,
    Point,
    Row,
    Symbol,
    Text,
    curve,
    legend,
    rows,
    spread_apart,
)
from optimizely_api.comparison.report.pictures import Extras, Scale, figures, lines
from optimizely_api.comparison.report.styles import DARK, LIGHT, STYLES, contrast
from optimizely_api.comparison.rig.modes import MODES

X, Y = Scale(title="rate", words="{:g}/s".format), Scale(title="lost", words="{:.0%}".format)
AXIS = linear("", [10.0], 40.0, 340.0)


def row(**point):
    return Row(label="threads", css="mode-threads", shape="circle", text="5/s", point=Point(y=None, **point))


def curve_of(*points, label="threads"):
    return Curve(label=label, css="mode-threads", shape="circle", points=points)


def of_kind(kind, marks):
    return [mark for mark in marks if isinstance(mark, kind)]


@given(st.lists(st.floats(20, 200), max_size=8).map(sorted))
def test_labels_do_not_cover_each_other(places):
    moved = spread_apart(places, LINE, 20.0, 200.0)
    assert all(later - earlier >= LINE - 1e-9 for earlier, later in pairwise(moved))
    assert all(20 - 1e-9 <= place <= 200 + 1e-9 for place in moved)


def test_a_legend_goes_on_below_where_a_line_is_full():
    marks, below = legend([curve_of(label="a mode with a long name") for _ in range(4)], LINE)
    assert all(text.x + 6 * len(text.text) <= WIDTH for text in of_kind(Text, marks))
    assert below == 3 * LINE


def test_a_text_that_would_run_into_its_label_goes_below_it():
    long = Row(label="l" * 30, css="", shape="circle", text="t" * 30, point=Point(x=1.0, y=None))
    (label, text), _ = of_kind(Text, rows([long], AXIS, 0)[0]), None
    assert text.y == label.y + LINE


def test_a_line_is_broken_where_nothing_was_measured():
    points = [Point(x=1.0, y=0.5), Point(x=2.0, y=None), Point(x=3.0, y=0.5)]
    marks = curve(curve_of(*points), AXIS, linear("", [1.0], 200.0, 20.0))
    assert len(of_kind(Path, marks)) == 2
    assert len(of_kind(Symbol, marks)) == 2


def test_the_spread_of_repetitions_is_a_band():
    points = [Point(x=float(x), y=0.5, low=0.4, high=0.6) for x in range(3)]
    band, line = of_kind(Path, curve(curve_of(*points), AXIS, linear("", [1.0], 200.0, 20.0)))
    assert (band.css, line.css) == ("band mode-threads", "line mode-threads")


def test_the_spread_of_a_figure_is_a_bar_with_ends():
    (bar,) = [
        mark for mark in rows([row(x=5.0, low=4.0, high=6.0)], AXIS, 0)[0] if mark.css.startswith("range")
    ]
    assert bar.d.startswith(f"M{AXIS.at(4):g} 26H{AXIS.at(6):g}")


@pytest.mark.parametrize(("bound", "towards"), [(AT_LEAST, "h26"), (BELOW, "h-26")])
def test_a_bound_is_a_symbol_with_an_arrow(bound, towards):
    marks = rows([row(x=5.0, bound=bound)], AXIS, 0)[0]
    (arrow,) = [mark for mark in marks if mark.css.startswith("range")]
    assert arrow.d.startswith(f"M{AXIS.at(5):g} 26{towards}")
    assert len(of_kind(Symbol, marks)) == 1


def test_a_few_lines_are_labelled_at_their_ends_and_many_in_a_legend():
    few = [curve_of(Point(x=1.0, y=0.1 * number), label=f"mode {number}") for number in range(4)]
    many = [*few, curve_of(Point(x=1.0, y=0.5), label="mode 5")]
    for curves, is_legend in ((few, False), (many, True)):
        labels = [
            text for text in of_kind(Text, lines("n", "t", curves, X, Y).drawing.marks) if "mode" in text.text
        ]
        assert len(labels) == len(curves)
        assert all((text.css == "label") is is_legend for text in labels)


def test_a_limit_is_named_where_no_points_are():
    points = [Point(x=float(x), y=1.0) for x in range(5)] + [Point(x=float(x), y=0.0) for x in range(5, 20)]
    picture = lines("n", "t", [curve_of(*points)], X, Y, Extras(limits=[(1.0, "limit")]))
    (text,) = [text for text in of_kind(Text, picture.drawing.marks) if text.text == "limit"]
    assert text.anchor == "end"


measured = st.lists(st.none() | st.integers(0, 100).map(lambda share: share / 100), min_size=1, max_size=9)


@given(measured)
def test_the_words_of_a_curve_are_its_first_highest_and_last_point(heights):
    curves = [curve_of(*(Point(x=float(x), y=y) for x, y in enumerate(heights)))]
    said = of_curves(curves, "lost over rate", X.words, Y.words)
    known = [(x, y) for x, y in enumerate(heights) if y is not None]
    if not known:
        assert "threads" not in said
    elif len({y for _, y in known}) == 1:
        assert f"threads: {known[0][1]:.0%} throughout, from {known[0][0]}/s to {known[-1][0]}/s" in said
    else:
        most = max(y for _, y in known)
        assert f"begins with {known[0][1]:.0%} at {known[0][0]}/s" in said
        assert f"ends with {known[-1][1]:.0%} at {known[-1][0]}/s" in said
        assert f"{most:.0%} at" in said


def test_the_words_of_rows_begin_with_the_greatest():
    rates = [
        Row(label=label, css="", shape="circle", text=text, point=Point(x=x, y=None))
        for label, text, x in (("threads", "200/s", 200.0), ("asyncio", "≥ 400/s", 400.0))
    ]
    assert (
        of_rows(rates, "highest rate")
        == "highest rate, the greatest first. asyncio: ≥ 400/s; threads: 200/s."
    )


def test_a_picture_says_how_many_requests_a_point_stands_on():
    points = [Point(x=1.0, y=0.0, requests=1), Point(x=2.0, y=0.0, requests=1200)]
    assert requests_words(points) == "A point is the outcome of 1 to 1,200 requests."
    assert requests_words(points[:1]) == "Each point is the outcome of 1 request."
    assert requests_words([Point(x=1.0, y=0.0)]) == ""


def test_a_picture_lists_the_figures_that_it_draws():
    points = [Point(x=1.0, y=0.5, low=0.25, high=0.75, requests=1200), Point(x=2.0, y=None, requests=0)]
    assert lines("n", "t", [curve_of(*points)], X, Y).table == [
        ["", "rate", "lost", "least to most", "requests"],
        ["threads", "1/s", "50%", "25% to 75%", "1,200"],
        ["threads", "2/s", "-", "", "0"],
    ]
    assert figures("n", "t", [row(x=5.0, requests=7)], X).table == [
        ["", "rate", "requests"],
        ["threads", "5/s", "7"],
    ]


def test_modes_differ_in_colour_and_symbol():
    assert set(STYLES) == set(MODES)
    for part in ("light", "dark", "shape"):
        assert len({getattr(style, part) for style in STYLES.values()}) == len(MODES)


@pytest.mark.parametrize("mode", STYLES)
def test_a_mode_is_seen_on_a_light_and_on_a_dark_page(mode):
    """WCAG 2.2, criterion 1.4.11: a contrast of 3 at least."""
    assert contrast(STYLES[mode].light, LIGHT) >= 3
    assert contrast(STYLES[mode].dark, DARK) >= 3
