"""The report's page in a real browser: on a wide and a narrow screen, light and dark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimizely_api.comparison.report.page import write_page
from optimizely_api.comparison.rig.modes import MODES
from optimizely_api.comparison.rig.modes import description as describe
from tests.comparison.known_report import known_report, modes, traces, trials
from tests.support.browser import ALL, NARROW, assert_readable

pytestmark = pytest.mark.slow

SLIDE = {"width": 1280, "height": 800}
# Pairs of texts of one chart that cover each other, and texts outside of their chart; a pixel is nothing.
BADLY_PLACED = """
() => [...document.querySelectorAll("svg")].flatMap(svg => {
    const whole = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(each => [each.textContent, each.getBoundingClientRect()]);
    const outside = texts.filter(([, at]) => at.left < whole.left - 1 || at.right > whole.right + 1
        || at.top < whole.top - 1 || at.bottom > whole.bottom + 1).map(([text]) => [text]);
    const covering = texts.flatMap(([text, at], number) => texts.slice(number + 1)
        .filter(([, other]) => at.left + 1 < other.right && other.left + 1 < at.right
            && at.top + 4 < other.bottom && other.top + 4 < at.bottom)
        .map(([other]) => [text, other]));
    return [...outside, ...covering].map(found => [svg.querySelector("title").textContent, ...found]);
})
"""


def crowded_report() -> dict[str, Any]:
    """Every mode, with what the known report has of one, so that labels are many and long."""
    (description, *_), (trace, *_) = modes().values(), traces()
    warning = [
        "the event loop is held for more than 0.1 s by:",
        '  File "view.py", line 40, in hold_the_loop',
    ]
    watchdog = {"stalls": 2, "longest_seconds": 0.5, "commonest_warning": warning}
    return known_report(
        modes={
            name: {**description, **describe(mode, workers=2, threads=32), "watchdog": watchdog}
            for name, mode in MODES.items()
        },
        trials=[{**each, "mode": name} for name in MODES for each in trials() if each["mode"] == "asyncio"],
        traces=[{**trace, "mode": name} for name in MODES],
    )


@pytest.fixture(scope="module", params=[known_report, crowded_report], ids=["few modes", "every mode"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = write_page(request.param(), tmp_path_factory.mktemp("report"))
    return path.as_uri()


@pytest.fixture(
    params=[
        pytest.param(("light", SLIDE), id="light and wide"),
        pytest.param(("light", NARROW), id="light and narrow", marks=pytest.mark.whole),
        pytest.param(("dark", SLIDE), id="dark and wide", marks=pytest.mark.whole),
        pytest.param(("dark", NARROW), id="dark and narrow"),
    ]
)
def shown(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[tuple[Any, str]]:
    scheme, size = request.param
    with browser.new_context(viewport=size, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(address)
        yield page, scheme


def test_it_is_readable_for_everybody(shown: tuple[Any, str], axe: str) -> None:
    page, scheme = shown
    assert_readable(page, axe, scheme, ALL)
    for details in page.locator("summary").all():
        details.click()
    assert_readable(page, axe, scheme, ALL)


def test_no_text_of_a_chart_is_cut_off_or_covers_another(shown: tuple[Any, str]) -> None:
    page, _ = shown
    assert page.evaluate(BADLY_PLACED) == []


def test_before_and_after_fit_on_one_slide(browser: Any, address: str) -> None:
    with browser.new_context(viewport=SLIDE) as context:
        page = context.new_page()
        page.goto(address)
        before, after = (page.locator(".first svg").nth(number).bounding_box() for number in (0, 1))
        assert before["y"] == after["y"]
        assert before["y"] + before["height"] <= SLIDE["height"]
        assert before["width"] + after["width"] > 0.85 * SLIDE["width"]


def test_texts_of_charts_are_readable_on_a_phone(browser: Any, address: str) -> None:
    with browser.new_context(viewport=NARROW) as context:
        page = context.new_page()
        page.goto(address)
        heights = page.evaluate(
            "() => [...document.querySelectorAll('svg text')].map(each => each.getBoundingClientRect().height)"
        )
        assert min(heights) >= 11


def test_every_chart_has_its_title_and_what_one_sees(browser: Any, address: str) -> None:
    with browser.new_context(viewport=SLIDE) as context:
        page = context.new_page()
        page.goto(address)
        charts = page.locator("svg").all()
        assert charts
        for chart in charts:
            assert chart.get_attribute("role") == "img"
            named = [page.locator(f"#{name}") for name in chart.get_attribute("aria-labelledby").split()]
            assert all(element.text_content() for element in named)
            assert [element.count() for element in named] == [1, 1], "ids are of one chart"
