"""A metric's `time_window`: conversions count for so long after the visitor's first decision."""

from __future__ import annotations

import pytest

from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    HOUR,
    MINUTE,
    NOON,
    PURCHASE,
    SIGNUP,
    TREATMENT,
    conversion,
    impression,
    iso,
    metric,
)

C, T = str(CONTROL), str(TREATMENT)
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("window", "length"), [("7d", 7 * DAY), ("2h", 2 * HOUR), ("90m", 90 * MINUTE), ("48", 48 * HOUR)]
)
async def test_conversions_count_within_the_window(results: Results, window: str, length: int) -> None:
    await results.send(impression("in time"), impression("late", TREATMENT))
    await results.send(conversion("in time", at=NOON + length - 1), conversion("late", at=NOON + length))
    assert await results.figures(metric(time_window=window)) == {C: (1, 1), T: (0, 1)}
    assert await results.figures(metric()) == {C: (1, 1), T: (1, 1)}


async def test_each_visitor_has_a_window_of_his_own(results: Results) -> None:
    for number in range(30):
        entered = NOON + number * HOUR
        await results.send(impression(f"v{number}", at=entered))
        await results.send(conversion(f"v{number}", at=entered + 30 * MINUTE, revenue=100))
        await results.send(conversion(f"v{number}", at=entered + 90 * MINUTE, revenue=10))
    asked = [
        metric("count", time_window="1h"),
        metric("sum", field="revenue", time_window="2h"),
        metric("sum", None, field="revenue", time_window="1h"),
        metric("sum", field="revenue", scope="event", time_window="1h"),
        metric("unique", SIGNUP, time_window="1h"),
        metric("count"),
    ]
    answer = await results.ask(*asked, start_time=iso(NOON + 7 * MINUTE))
    found = [measured["results"][C] for measured in answer["metrics"]]
    assert [(one["value"], one["samples"]) for one in found] == [
        (29, 29),
        (3190, 29),
        (2900, 29),
        (2900, 29),
        (0, 29),
        (58, 29),
    ]


async def test_a_metric_with_a_window_has_a_verdict(results: Results) -> None:
    for variation, converting in ((CONTROL, 30), (TREATMENT, 90)):
        names = [f"{variation}-{number}" for number in range(300)]
        await results.send(*[impression(name, variation) for name in names])
        await results.send(*[conversion(name, PURCHASE) for name in names[:converting]])
        await results.send(*[conversion(name, PURCHASE, NOON + DAY) for name in names[converting:]])
    inside, whole = (await results.ask(metric(time_window="1h"), metric()))["metrics"]
    assert inside["results"][T]["lift"]["lift_status"] == "better"
    assert inside["results"][T]["lift"]["value"] == pytest.approx(2)
    assert whole["results"][T]["value"] == 300


@pytest.mark.parametrize("window", ["soon", "0d", "1w", "-1h"])
async def test_a_window_that_cannot_be_read_gives_no_results(results: Results, window: str) -> None:
    await results.send(impression("ann"), conversion("ann"))
    unread, other = (await results.ask(metric(time_window=window), metric()))["metrics"]
    assert (unread["time_window"], unread["results"]) == (window, {})
    assert other["results"][C]["value"] == 1
