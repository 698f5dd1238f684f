"""A visitor's first decision that counts is the first; one before the start, or for an unknown variation, is not."""

from __future__ import annotations

from typing import Any

import pytest

from optimizely_api.services.results.ingest import later_decisions
from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    HOUR,
    MINUTE,
    NOON,
    PLAN,
    SECOND,
    TREATMENT,
    attribute,
    conversion,
    impression,
    iso,
    metric,
)
from tests.services.results.test_epochs import epoch, send_day

C, T = str(CONTROL), str(TREATMENT)
UNKNOWN = 9_999
STARTED = {"earliest": iso(NOON)}

PASSED_OVER = {
    "before the start": (impression("ann", CONTROL, NOON - HOUR), STARTED),
    "unknown variation": (impression("ann", UNKNOWN, NOON), {}),
    "paused": (
        impression("ann", CONTROL, NOON),
        {"epochs": [epoch(NOON - HOUR, NOON), epoch(NOON + SECOND)]},
    ),
}


@pytest.mark.parametrize(("entry", "asked"), PASSED_OVER.values(), ids=PASSED_OVER)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)], ids=str)
async def test_the_next_decision_counts_with_the_conversions_from_then_on(
    results: Results, entry: Any, asked: dict[str, Any], order: tuple[int, ...]
) -> None:
    """Whatever the order of arrival."""
    counts = NOON + MINUTE
    entries = [
        entry,
        impression("ann", TREATMENT, counts),
        conversion("ann", at=counts - 1, revenue=5),
        conversion("ann", at=counts, revenue=300),
    ]
    for number in order:
        await results.send(entries[number])
    await results.send(impression("ann", CONTROL, counts + 1))
    assert await results.figures(metric("sum", field="revenue"), **asked) == {C: (0, 0), T: (300, 1)}
    assert await results.figures(metric("sum", None, field="revenue"), **asked) == {C: (0, 0), T: (300, 1)}


async def test_a_visitor_without_a_decision_that_counts_does_not_count(results: Results) -> None:
    await results.send(impression("ann", at=NOON - HOUR), impression("ann", UNKNOWN, NOON + HOUR))
    assert await results.figures(**STARTED) == {}


async def test_the_first_decision_that_counts_must_lie_in_the_interval(results: Results) -> None:
    await results.send(impression("ann", at=NOON - HOUR), impression("ann", at=NOON + MINUTE))
    await results.send(impression("ann", at=NOON + 2 * HOUR))
    assert await results.figures(**STARTED, start_time=iso(NOON + HOUR)) == {}
    assert await results.figures(**STARTED, end_time=iso(NOON + HOUR)) == {C: (0, 1), T: (0, 0)}


async def test_segments_and_windows_hold_for_them_too(results: Results) -> None:
    gold = [attribute("plan", "gold")]
    for name, attributes in (("ann", gold), ("bob", [])):
        await results.send(impression(name, UNKNOWN, attributes=attributes))
        await results.send(impression(name, at=NOON + HOUR), conversion(name, at=NOON + 3 * HOUR))
    segment = {"attribute_id": PLAN, "attribute_value": "gold"}
    assert await results.figures(segment=segment) == {C: (1, 1), T: (0, 0)}
    assert await results.figures(metric(time_window="1h")) == {C: (0, 2), T: (0, 0)}


async def test_a_verdict_of_an_earlier_day_stays_with_them(results: Results) -> None:
    await send_day(results, 0, {CONTROL: (300, 30), TREATMENT: (300, 75)})
    await send_day(results, 1, {CONTROL: (300, 60), TREATMENT: (300, 45)})
    await results.send(impression("ann", UNKNOWN), impression("ann", TREATMENT, NOON + MINUTE))
    await results.send(conversion("ann", at=NOON + HOUR))
    result = (await results.ask())["metrics"][0]["results"][T]
    assert (result["value"], result["samples"]) == (121, 601)
    assert result["lift"]["lift_status"] == "better"


async def test_no_more_than_so_many_decisions_of_a_visitor_are_kept(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later_decisions, "MAX_LATER", 3)
    for number in range(5):
        await results.send(impression("ann", UNKNOWN + number, NOON + number))
    await results.send(impression("ann", at=NOON + HOUR))
    assert await results.figures() == {}
