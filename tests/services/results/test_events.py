"""POST /v1/events: what is taken, what is left out, and that everything counts once."""

from __future__ import annotations

import asyncio
import copy
import gzip
import itertools
import json
import logging
from io import BytesIO
from typing import Any

import pytest

from optimizely_api.services.results.ingest.rollups import neutral_rank
from tests.services.conftest import migrate_to
from tests.services.results.conftest import Results
from tests.services.results.malformed import BAD_EVENTS, BAD_VISITORS, MALFORMED, NO_UUIDS, ODD_TAGS, REVENUES
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    HOUR,
    NOON,
    PURCHASE,
    SECOND,
    SIGNUP,
    TREATMENT,
    batch,
    conversion,
    impression,
    metric,
    question,
    the_event,
)

REVENUE = metric("sum", field="revenue")
COUNT = metric("count")


async def test_204_and_the_events_count(results: Results) -> None:
    await results.send(impression("ann"), conversion("ann"), impression("bob", TREATMENT))
    assert await results.figures() == {str(CONTROL): (1, 1), str(TREATMENT): (0, 1)}


async def test_413_above_the_size_limit_and_not_below(results: Results) -> None:
    body = json.dumps(batch(impression("ann"))).encode()
    status, error = await results.caller.call("POST", "/v1/events", data=BytesIO(body.ljust(3_670_017)))
    assert (status, error["code"]) == (413, "body_too_large")
    assert (await results.caller.call("POST", "/v1/events", data=BytesIO(body.ljust(3_670_016))))[0] == 204


async def test_the_body_is_read_whatever_its_content_type(results: Results) -> None:
    types = ["application/json", "text/plain;charset=UTF-8", None, "image/png"]
    for number, content_type in enumerate(types):
        async with results.caller.session.post(
            f"{results.caller.url}/v1/events",
            data=json.dumps(batch(impression(f"visitor {number}"))).encode(),
            headers={"Content-Type": content_type} if content_type else {},
            skip_auto_headers=["Content-Type"],
        ) as response:
            assert (response.status, await response.read()) == (204, b"")
    assert (await results.ask())["reach"]["total_count"] == len(types)


async def test_400_and_never_500_for_what_is_no_batch(results: Results) -> None:
    for name, (body, says) in MALFORMED.items():
        status, error = await results.caller.call("POST", "/v1/events", data=body)
        assert (status, error["code"]) == (400, "bad_request"), name
        assert says in error["message"], name


async def test_a_compressed_body_is_read_and_a_broken_one_is_a_400(results: Results) -> None:
    body = gzip.compress(json.dumps(batch(impression("ann"))).encode())
    bomb = gzip.compress(bytes(20_000_000))
    for data, expected in ((body, 204), (b"no gzip", 400), (bomb, 413)):
        async with results.caller.session.post(
            f"{results.caller.url}/v1/events", data=data, headers={"Content-Encoding": "gzip"}
        ) as response:
            assert response.status == expected
    assert (await results.ask())["reach"]["total_count"] == 1


async def test_bad_parts_do_not_cost_the_rest_of_the_batch(
    results: Results, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [*BAD_VISITORS.values(), *BAD_EVENTS.values(), *ODD_TAGS]
    with caplog.at_level(logging.WARNING, "optimizely_api.services.results"):
        await results.send(
            impression("ann"), *bad, conversion("ann", revenue=7), impression("bob", TREATMENT)
        )
    assert await results.figures(REVENUE) == {str(CONTROL): (7, 1), str(TREATMENT): (0, 1)}
    logged = [getattr(record, "fields", {}) for record in caplog.records]
    (fields,) = [fields for fields in logged if "dropped" in fields]
    assert fields["dropped"] == len(BAD_VISITORS) + len(BAD_EVENTS)


async def test_the_log_says_what_was_left_out_and_the_sums_of_what_was_not(
    results: Results, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "optimizely_api.services.results"):
        await results.send(
            impression("ann"),
            conversion("ann", revenue="ten", value=0.1),
            conversion("ann", revenue=1998.9999999999998, value="much"),
            conversion("ann", revenue=10**12, value=0.2),
            conversion("ann", revenue=None),
        )
    (fields,) = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert fields["reasons"] == {"an unusable revenue": 2, "an unusable value": 1}
    assert (fields["dropped"], fields["kept_events"]) == (3, 5)
    assert (fields["kept_revenue"], fields["kept_value"]) == (1999, 0.3)
    assert await results.figures(REVENUE) == {str(CONTROL): (1999, 1), str(TREATMENT): (0, 0)}
    assert await results.figures(COUNT) == {str(CONTROL): (4, 1), str(TREATMENT): (0, 0)}


async def test_odd_numbers_are_stored_as_far_as_they_mean_something(results: Results) -> None:
    await results.send(impression("ann"))
    for revenue, _ in REVENUES:
        await results.send(conversion("ann", revenue=revenue, value=revenue))
    expected = sum(cents or 0 for _, cents in REVENUES)
    answer = await results.ask(REVENUE, COUNT)
    assert answer["metrics"][0]["results"][str(CONTROL)]["value"] == expected
    assert answer["metrics"][1]["results"][str(CONTROL)]["value"] == len(REVENUES)


async def test_a_visitor_held_back_is_not_in_the_experiment(results: Results) -> None:
    entry = impression("ann")
    entry["snapshots"][0]["decisions"][0]["is_campaign_holdback"] = True
    await results.send(entry, impression("bob"))
    assert (await results.ask())["reach"]["total_count"] == 1


async def test_sparse_senders_are_understood(results: Results) -> None:
    """Type in place of key, decisions an empty array, numbers for ids, no project and no revision."""
    decided = impression("ann")
    event = the_event(decided)
    event["type"] = event.pop("key")
    decided["snapshots"][0]["decisions"] = [{"experiment_id": EXPERIMENT, "variation_id": CONTROL}]
    converted = conversion("ann", revenue=5)
    del the_event(converted)["key"], converted["attributes"]
    the_event(converted)["entity_id"] = PURCHASE
    converted["snapshots"][0]["decisions"] = []
    await results.send(decided, converted, project_id=None, revision=None, account_id=77)
    assert (await results.figures(REVENUE))[str(CONTROL)] == (5, 1)
    assert (await results.figures(metric("sum", None, field="revenue")))[str(CONTROL)] == (5, 1)


async def test_an_impression_is_no_conversion_even_of_its_own_entity(results: Results) -> None:
    await results.send(impression("ann"))
    assert (await results.figures(metric("count", 9100)))[str(CONTROL)] == (0, 1)
    assert (await results.figures(metric("count", None)))[str(CONTROL)] == (0, 1)


async def test_the_same_batch_twice_counts_once(results: Results) -> None:
    entries = [impression("ann"), conversion("ann", revenue=5), conversion("ann", revenue=6)]
    await results.send(*entries)
    await results.send(*entries)
    assert (await results.figures(REVENUE))[str(CONTROL)] == (11, 1)
    assert (await results.figures(COUNT))[str(CONTROL)] == (2, 1)


async def test_a_uuid_counts_once_within_a_batch_and_however_it_is_spelled(results: Results) -> None:
    event = conversion("ann", revenue=5)
    shouting = copy.deepcopy(event)
    the_event(shouting)["uuid"] = the_event(event)["uuid"].upper()
    await results.send(impression("ann"), event, shouting, copy.deepcopy(event))
    assert (await results.figures(COUNT))[str(CONTROL)] == (1, 1)


async def test_a_uuid_that_was_used_before_decides_nothing(results: Results) -> None:
    first, second = impression("ann"), impression("bob")
    the_event(second)["uuid"] = the_event(first)["uuid"]
    await results.send(first)
    await results.send(second)
    assert (await results.ask())["reach"]["total_count"] == 1


# What an event of the same visitor, with the same uuid, has otherwise.
DIFFERENT: dict[str, dict[str, Any]] = {
    "another entity": {"entity_id": str(SIGNUP)},
    "another time": {"timestamp": NOON + SECOND + 1},
    "a named entity": {"entity_id": "refund"},
    "no entity": {"entity_id": None},
}


async def test_one_uuid_is_two_events_when_entity_or_time_differ(results: Results) -> None:
    expected = 0
    for (name, difference), together in itertools.product(DIFFERENT.items(), (True, False)):
        visitor = f"{name}, {together}"
        first = conversion(visitor)
        other = conversion(visitor, uuid=the_event(first)["uuid"])
        the_event(other).update(difference)
        await results.send(impression(visitor))
        for entries in ([[first, other]] if together else [[first], [other]]) * 2:
            await results.send(*entries)
        expected += 2
        assert (await results.figures(metric("count", None)))[str(CONTROL)][0] == expected, visitor


async def test_events_without_uuid_count_once_by_visitor_entity_and_time(results: Results) -> None:
    entries = [
        conversion("ann", uuid=None, revenue=1),
        *(conversion("ann", uuid=other, revenue=10) for other in NO_UUIDS),  # the same event
        conversion("bob", uuid=None, revenue=100),
        conversion("ann", SIGNUP, uuid=None, revenue=1_000),
        conversion("ann", at=NOON + 2 * SECOND, uuid=None, revenue=10_000),
        conversion("ann", entity_id="refund", uuid=None, revenue=100_000),
        conversion("ann", entity_id=None, key="signed up", uuid=None, revenue=1_000_000),
        conversion("ann", entity_id=None, key="signed off", uuid=None, revenue=10_000_000),
    ]
    await results.send(impression("ann"), impression("bob"))
    for _ in range(2):
        await results.send(*entries)
    figures = await results.figures(metric("sum", None, field="revenue"))
    assert figures[str(CONTROL)] == (11_111_101, 2)


async def test_visitors_of_two_accounts_without_uuids_do_not_share_an_event(results: Results) -> None:
    entries = [impression("ann"), conversion("ann", uuid=None)]
    await results.send(*entries)
    the_event(entries[0])["uuid"] = None
    await results.send(*entries, account_id="78")
    assert (await results.figures(COUNT))[str(CONTROL)] == (2, 2)


async def test_a_database_of_the_release_before_knows_its_events_after_the_migration(
    database_url: str, results: Results
) -> None:
    entries = [impression("ann"), conversion("ann", revenue=5), conversion("ann", revenue=6)]
    await results.send(*entries)
    await migrate_to(database_url, "results", "0004")
    await migrate_to(database_url, "results", "head")
    await results.send(*entries)
    assert (await results.figures(REVENUE))[str(CONTROL)] == (11, 1)
    other = conversion("ann", SIGNUP)
    the_event(other)["uuid"] = the_event(entries[1])["uuid"]
    await results.send(other)
    assert (await results.figures(metric("count", None)))[str(CONTROL)] == (3, 1)


async def test_uuids_that_are_none_still_count_once(results: Results) -> None:
    entry = conversion("ann")
    the_event(entry)["uuid"] = "order-4711"
    await results.send(impression("ann"), entry)
    await results.send(entry)
    assert (await results.figures(COUNT))[str(CONTROL)] == (1, 1)


async def test_one_batch_sent_by_twenty_at_once_counts_once(results: Results) -> None:
    entries = [impression("ann"), conversion("ann", revenue=5), impression("bob", TREATMENT)]
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(results.send(*entries))
    assert await results.figures(REVENUE) == {str(CONTROL): (5, 1), str(TREATMENT): (0, 1)}


async def test_two_services_on_one_database_count_once(
    serve: Any, database_url: str, results: Results
) -> None:
    other = Results(await serve("results", database_url))
    entries = [impression(f"v{n}") for n in range(30)] + [conversion(f"v{n}", revenue=1) for n in range(30)]
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task((results, other)[number % 2].send(*entries[number:], *entries[:number]))
    assert (await results.figures(REVENUE))[str(CONTROL)] == (30, 30)
    assert (await results.figures(COUNT))[str(CONTROL)] == (30, 30)


async def test_two_services_add_to_one_visitor_without_losing_anything(
    serve: Any, database_url: str, results: Results
) -> None:
    other = Results(await serve("results", database_url))
    await results.send(impression("ann"), impression("bob"))
    async with asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task((results, other)[number % 2].send(conversion("ann", revenue=1)))
    (answer,) = (await results.ask(REVENUE))["metrics"]
    assert answer["results"][str(CONTROL)]["value"] == 60
    assert answer["results"][str(CONTROL)]["variance"] == 1800  # of 60 and 0


async def test_visitors_of_two_accounts_are_two_visitors(results: Results) -> None:
    await results.send(impression("ann"))
    await results.send(conversion("ann", revenue=5), account_id="78")
    assert (await results.figures(REVENUE))[str(CONTROL)] == (0, 1)
    await results.send(impression("ann"), account_id="78")
    assert (await results.figures(REVENUE))[str(CONTROL)] == (5, 2)


async def test_a_conversion_in_the_same_millisecond_as_the_decision_counts(results: Results) -> None:
    await results.send(conversion("ann", at=NOON), impression("ann", at=NOON))
    assert (await results.figures())[str(CONTROL)] == (1, 1)


async def test_a_conversion_before_the_decision_does_not_count(results: Results) -> None:
    await results.send(conversion("ann", at=NOON - 1), impression("ann", at=NOON))
    assert (await results.figures())[str(CONTROL)] == (0, 1)


async def test_late_events_are_attributed_by_their_timestamps(results: Results) -> None:
    await results.send(conversion("ann", at=NOON + SECOND, revenue=3))
    await results.send(conversion("ann", at=NOON - SECOND, revenue=5))
    await results.send(impression("ann", at=NOON))
    assert (await results.figures(REVENUE))[str(CONTROL)] == (3, 1)


async def test_the_first_decision_stays(results: Results) -> None:
    await results.send(impression("ann", CONTROL, NOON), conversion("ann", at=NOON + 2 * HOUR))
    await results.send(impression("ann", TREATMENT, NOON + HOUR))
    assert await results.figures() == {str(CONTROL): (1, 1), str(TREATMENT): (0, 0)}


async def test_an_earlier_decision_that_arrives_late_moves_the_visitor_and_the_conversions(
    results: Results,
) -> None:
    await results.send(impression("ann", CONTROL, NOON), conversion("ann", at=NOON + SECOND, revenue=3))
    await results.send(conversion("ann", at=NOON - SECOND, revenue=5))
    await results.send(impression("ann", TREATMENT, NOON - 2 * HOUR))
    assert await results.figures(REVENUE) == {str(CONTROL): (0, 0), str(TREATMENT): (8, 1)}
    variance = (await results.ask(REVENUE))["metrics"][0]["results"][str(TREATMENT)]["variance"]
    assert variance == 0.0


async def test_nothing_is_left_behind_where_visitors_have_moved_away(results: Results) -> None:
    """0.7 + 0.1 - 0.7 - 0.1 is not zero in floating point."""
    for name, value in (("ann", 0.7), ("bob", 0.1)):
        await results.send(impression(name, CONTROL), conversion(name, value=value))
    for name in ("ann", "bob"):
        await results.send(impression(name, TREATMENT, NOON - 1))
    await results.send(impression("eve", CONTROL))
    figures = await results.figures(metric("sum", field="value"))
    assert figures == {str(CONTROL): (0, 1), str(TREATMENT): (pytest.approx(0.8), 2)}


@pytest.mark.parametrize("order", [(CONTROL, TREATMENT), (TREATMENT, CONTROL)])
async def test_two_decisions_in_one_millisecond_end_alike_in_either_order(
    results: Results, order: tuple[int, int]
) -> None:
    for variation in order:
        await results.send(impression("ann", variation))
    arrived = await results.figures()
    first = min((CONTROL, TREATMENT), key=lambda variation: neutral_rank("ann", variation))
    assert {int(variation) for variation, figures in arrived.items() if figures[1]} == {first}


async def test_decisions_in_one_millisecond_favour_no_variation(results: Results) -> None:
    await results.send(
        *[impression(f"v{n}", variation) for n in range(400) for variation in (CONTROL, TREATMENT)]
    )
    figures = await results.figures()
    assert 150 < figures[str(CONTROL)][1] < 250


async def test_a_visitor_in_two_experiments_counts_in_both(results: Results) -> None:
    await results.send(impression("ann"), impression("ann", 9302, experiment=9301), conversion("ann"))
    assert (await results.figures())[str(CONTROL)] == (1, 1)
    body = question(variations=[{"variation_id": 9302, "name": "Other"}])
    status, answer = await results.caller.post("/results/9301", body)
    assert status == 200
    assert answer["metrics"][0]["results"]["9302"]["value"] == 1


async def test_a_snapshot_may_hold_decision_and_conversion_together(results: Results) -> None:
    entry = impression("ann", at=NOON)
    entry["snapshots"][0]["events"].append(the_event(conversion("ann", at=NOON)))
    await results.send(entry)
    assert (await results.figures())[str(CONTROL)] == (1, 1)


async def test_405_and_404_have_the_one_error_shape(results: Results) -> None:
    status, error = await results.caller.get("/v1/events")
    assert (status, error["code"]) == (405, "method_not_allowed")
    assert (await results.caller.post("/results/abc", question()))[0] == 404
