"""Impressions by experiment and day: every decision event that is stored counts once for its experiment."""

from typing import Any

import pytest
from sqlalchemy import text

from optimizely_api.services.storage.database import Database
from tests.services.conftest import NewDatabase, Serve, migrate_to
from tests.services.results.conftest import Results
from tests.services.results.sending import EXPERIMENT, HOUR, NOON, TREATMENT, conversion, impression

DAY = 24 * HOUR
JANUARY = {"first_day": "2026-01-01", "last_day": "2026-01-31"}
OTHER_EXPERIMENT = 9109


ALL = {"after_id": 0, "limit": 1000}


async def counts(results: Results, **differing: Any) -> dict[int, int]:
    question = {**JANUARY, **ALL, **differing}
    status, body = await results.caller.post("/impressions", question)
    assert status == 200, body
    return {item["experiment_id"]: item["impressions"] for item in body["items"]}


async def test_each_decision_event_counts_also_those_of_one_visitor(results: Results) -> None:
    await results.send(impression("ada"), impression("ada", at=NOON + 1), impression("ben", TREATMENT))
    assert await counts(results) == {EXPERIMENT: 3}


async def test_conversions_are_no_impressions(results: Results) -> None:
    await results.send(impression("ada"), conversion("ada"))
    assert await counts(results) == {EXPERIMENT: 1}


async def test_an_event_sent_again_counts_once(results: Results) -> None:
    entry = impression("ada")
    await results.send(entry)
    await results.send(entry, impression("ben"))
    assert await counts(results) == {EXPERIMENT: 2}


async def test_both_days_count_and_no_other(results: Results) -> None:
    await results.send(*(impression(f"v{day}", at=NOON - day * DAY) for day in range(4)))
    assert await counts(results, first_day="2026-01-29", last_day="2026-01-30") == {EXPERIMENT: 2}


async def test_experiments_are_counted_apart_and_those_without_impressions_left_out(results: Results) -> None:
    await results.send(impression("ada"), impression("ben", experiment=OTHER_EXPERIMENT))
    await results.send(impression("eve", experiment=OTHER_EXPERIMENT))
    assert await counts(results) == {EXPERIMENT: 1, OTHER_EXPERIMENT: 2}


async def test_a_part_is_what_follows_an_id(results: Results) -> None:
    numbers = (9101, 9102, 9103)
    await results.send(*(impression(f"v{number}", experiment=number) for number in numbers))
    assert await counts(results, limit=2) == {9101: 1, 9102: 1}
    assert await counts(results, after_id=9102, limit=2) == {9103: 1}


@pytest.mark.parametrize(
    "question",
    [
        {},
        {**JANUARY, **ALL, "after_id": "1"},
        {**JANUARY, **ALL, "limit": 1001},
        {**ALL, "first_day": "2026-02-30", "last_day": "2026-02-31"},
    ],
)
async def test_400_for_what_is_no_question(results: Results, question: Any) -> None:
    assert (await results.caller.post("/impressions", question))[0] == 400


async def test_of_what_was_stored_before_each_visitors_first_decision_counts(
    serve: Serve, new_database: NewDatabase
) -> None:
    url = await new_database("results")
    results = Results(await serve("results", url))
    await results.send(impression("ada"), impression("ada", at=NOON + 1), impression("ben"))
    await migrate_to(url, "results", "0006")
    await migrate_to(url, "results", "head")
    assert await counts(results) == {EXPERIMENT: 2}


async def test_the_sums_by_day_are_found_by_their_key(results: Results) -> None:
    """In their order, so that a part is read without what precedes it, and without sorting the rest."""
    query = (
        "SELECT experiment_id, sum(impressions) FROM impressions WHERE experiment_id > 1 AND day BETWEEN 3 AND 4"
        " GROUP BY experiment_id ORDER BY experiment_id LIMIT 2"
    )
    database = Database(results.caller.database_url)
    try:
        async with database.snapshot() as connection:
            if connection.dialect.name == "sqlite":
                plan = (await connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))).all()
            else:  # an empty table it would read whole
                await connection.execute(text("SET LOCAL enable_seqscan = off"))
                plan = (await connection.execute(text(f"EXPLAIN {query}"))).all()
    finally:
        await database.close()
    shown = str(plan)
    assert "USING PRIMARY KEY (experiment_id>?)" in shown or "impressions_pkey" in shown
    assert "TEMP B-TREE" not in shown
