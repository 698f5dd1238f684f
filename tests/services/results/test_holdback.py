"""Visitors who were held back from a campaign: a variant of their own, which variations can be compared with."""

from __future__ import annotations

from typing import Any

from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    HOUR,
    NOON,
    TREATMENT,
    conversion,
    impression,
    iso,
    metric,
    question,
)
from tests.services.results.test_impressions import counts

HELD_BACK = {"holdback": True, "baseline_variation_id": "holdback"}


def held_back(visitor: str, at: int = NOON, variation: int | None = CONTROL) -> dict[str, Any]:
    """The entry of a visitor who would have got the variation."""
    entry = impression(visitor, variation, at)
    entry["snapshots"][0]["decisions"][0]["is_campaign_holdback"] = True
    return entry


async def send_some(results: Results) -> None:
    """400 visitors held back and 400 in the treatment; 120 of each buy, and those of the treatment pay more."""
    entries = []
    for number in range(400):
        entries += [held_back(f"h{number}", variation=None), impression(f"t{number}", TREATMENT)]
    for number in range(120):
        entries += [conversion(f"t{number}", revenue=5), conversion(f"h{number * 3}", revenue=1)]
    await results.send(*entries)


async def test_they_are_the_variant_baseline(results: Results) -> None:
    await results.send(held_back("ann"), conversion("ann", revenue=700), impression("bob", TREATMENT))
    body = await results.ask(metric("sum", field="revenue"), holdback=True)
    variant = body["metrics"][0]["results"]["baseline"]
    assert (variant["value"], variant["samples"], variant["level"]) == (700, 1, "experiment")
    assert (variant["variation_id"], variant["is_baseline"]) == ("holdback", False)
    assert "lift" not in variant
    assert (body["reach"]["total_count"], "holdback" in body["reach"]["variations"]) == (1, False)


async def test_variations_can_be_compared_with_them(results: Results) -> None:
    await send_some(results)
    body = await results.ask(**HELD_BACK)
    variants = body["metrics"][0]["results"]
    assert variants["baseline"]["is_baseline"] is True
    lift = variants[str(TREATMENT)]["lift"]
    assert (lift["lift_status"], lift["is_significant"]) == ("equal", False)
    assert body["reach"]["baseline_count"] == body["reach"]["treatment_count"] == 400
    paid = await results.ask(metric("sum", field="revenue"), **HELD_BACK)
    assert paid["metrics"][0]["results"][str(TREATMENT)]["lift"]["lift_status"] == "better"
    assert paid["metrics"][0]["conclusion"] == {"winner": str(TREATMENT)}


async def test_they_cost_the_verdicts_of_other_comparisons_nothing(results: Results) -> None:
    await send_some(results)
    alone = (await results.ask(metric("count")))["metrics"][0]["results"]
    beside = (await results.ask(metric("count"), holdback=True))["metrics"][0]["results"]
    assert {name: variant for name, variant in beside.items() if name != "baseline"} == alone


async def test_a_visitor_who_gets_a_variation_later_counts_there_where_nobody_asks_for_them(
    results: Results,
) -> None:
    await results.send(held_back("ann"), impression("ann", TREATMENT, NOON + HOUR))
    assert (await results.figures())[str(TREATMENT)] == (0, 1)
    body = await results.ask(**HELD_BACK)
    assert body["reach"]["baseline_count"] == 1
    assert body["reach"]["total_count"] == 1


async def test_they_have_a_series_too(results: Results) -> None:
    await send_some(results)
    path = f"/results/{EXPERIMENT}/timeseries"
    asked = question(metric("count"), end_time=iso(NOON + 2 * HOUR), **HELD_BACK)
    _, body = await results.caller.post(path, asked)
    _, now = await results.caller.post(path.removesuffix("/timeseries"), asked)
    last = body["metrics"][0]["results"]["baseline"]["timeseries"][-1]
    assert last["value"] == now["metrics"][0]["results"]["baseline"]["value"]


async def test_they_are_no_impressions(results: Results) -> None:
    await results.send(held_back("ann"), impression("bob"))
    assert await counts(results) == {EXPERIMENT: 1}


async def test_400_for_a_baseline_of_visitors_held_back_where_there_are_none(results: Results) -> None:
    path, asked = f"/results/{EXPERIMENT}", question(baseline_variation_id="holdback")
    status, body = await results.caller.post(path, asked)
    assert (status, body["code"]) == (400, "bad_request")
