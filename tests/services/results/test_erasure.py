"""A visitor is erased: afterwards results are those of a database that never had the visitor."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import Table, select

from optimizely_api.services.results.tables import (
    ATTRIBUTE,
    CELL,
    ENTRY_HOUR,
    GROWTH,
    METADATA,
    VISITOR,
)
from optimizely_api.services.storage.database import Database
from tests.services.conftest import NewDatabase, Serve
from tests.services.results.conftest import Results
from tests.services.results.sending import (
    ACCOUNT,
    CONTROL,
    EXPERIMENT,
    HOUR,
    NOON,
    PURCHASE,
    SIGNUP,
    TREATMENT,
    attribute,
    conversion,
    impression,
    metric,
    question,
)

ANN = "ann/?&=ä@shop.example"
ERASED = {"account_id": ACCOUNT, "key": ANN}
QUESTION = question(
    metric(),
    metric("count", SIGNUP),
    metric("sum", None, field="revenue"),
    metric("sum", field="value"),
    end_time="2026-02-10T00:00:00Z",
)


def entries_of(visitor: str, chance: random.Random) -> list[Any]:
    """Decisions, not all in order, and conversions of some days."""
    variations = [CONTROL, TREATMENT, CONTROL]
    decisions = [
        impression(
            visitor,
            chance.choice(variations),
            NOON + chance.randrange(3) * HOUR + chance.randrange(HOUR),
            experiment=experiment,
            attributes=[attribute("plan", chance.choice(["gold", "tin"]))],
        )
        for experiment in (EXPERIMENT, EXPERIMENT, EXPERIMENT + 1)
    ]
    conversions = [
        conversion(
            visitor,
            chance.choice([PURCHASE, SIGNUP]),
            NOON + chance.randrange(5 * 24 * HOUR),
            revenue=chance.randrange(-500, 90_000),
            value=chance.randrange(1000) / 7,
        )
        for _ in range(chance.randrange(6))
    ]
    entries = decisions + conversions
    chance.shuffle(entries)
    return entries


async def send(results: Results, *, with_ann: bool) -> None:
    """Forty visitors; and Ann, between them and alone in an hour."""
    chance = random.Random(20261126)
    others = [entry for number in range(40) for entry in entries_of(f"v{number}", chance)]
    anns = [
        *entries_of(ANN, chance),
        impression(ANN, TREATMENT, NOON - HOUR, experiment=EXPERIMENT + 2),
        conversion(ANN, PURCHASE, NOON + 30 * HOUR, revenue=2**30, value=0.1),
        impression(ANN, CONTROL, NOON, attributes=[attribute("plan", "gold"), attribute("email", ANN)]),
    ]
    for start in range(0, len(others), 10):
        sent = others[start : start + 10]
        await results.send(*sent, *(anns[start // 10 :: len(others) // 10 + 1] if with_ann else []))


def rounded(answer: Any) -> Any:
    """The answer without the rounding errors of sums in another order."""
    if isinstance(answer, dict):
        return {key: rounded(value) for key, value in answer.items()}
    if isinstance(answer, list | tuple):
        return [rounded(value) for value in answer]
    return float(f"{answer:.9g}") if isinstance(answer, float) else answer


async def answers(results: Results) -> list[Any]:
    """The results and time series of the experiments."""
    return [
        rounded(await results.caller.post(f"/results/{experiment}{view}", QUESTION))
        for experiment in (EXPERIMENT, EXPERIMENT + 1, EXPERIMENT + 2)
        for view in ("", "/timeseries")
    ]


async def rows(results: Results, table: Table) -> list[Any]:
    """What the table has."""
    database = Database(results.caller.database_url)
    async with database.snapshot() as connection:
        found = (await connection.execute(select(table).order_by(*table.primary_key))).all()
    await database.close()
    return [tuple(row) for row in found]


async def rollup(results: Results, table: Table) -> dict[Any, list[float]]:
    """The rows of a rollup by their keys, without those that nobody is left in; a sum has what rounding lost of it."""
    names = [column.key for column in table.c]
    keys = [column.key for column in table.primary_key]
    sums = [name for name in names if name not in keys and not name.endswith("_rest")]
    found = {}
    for row in (dict(zip(names, row, strict=True)) for row in await rows(results, table)):
        key = tuple(row[name] for name in keys)
        found[key] = [round(row[name] + row.get(f"{name}_rest", 0), 4) for name in sums]
    return {key: numbers for key, numbers in found.items() if any(numbers)}


async def test_204_results_are_those_of_a_database_that_never_had_the_visitor(
    serve: Serve, new_database: NewDatabase
) -> None:
    without, erased = [Results(await serve("results", await new_database("results"))) for _ in range(2)]
    await send(without, with_ann=False)
    await send(erased, with_ann=True)
    before = await answers(erased)
    assert await erased.caller.delete("/visitors", params=ERASED) == (204, None)
    assert await answers(erased) == await answers(without) != before
    for table in (CELL, ENTRY_HOUR, GROWTH):
        assert await rollup(erased, table) == await rollup(without, table)


async def test_nothing_of_the_visitor_is_left(results: Results) -> None:
    await send(results, with_ann=True)
    await results.caller.delete("/visitors", params=ERASED)
    assert ANN not in [row[2] for row in await rows(results, VISITOR)]
    assert {row[5] for row in await rows(results, ATTRIBUTE)} == {"gold", "tin"}  # which others have too
    ids = {row[0] for row in await rows(results, VISITOR)}
    for table in METADATA.sorted_tables:
        if "visitor_id" in table.c:
            of_visitor = list(table.c).index(table.c.visitor_id)
            assert {row[of_visitor] for row in await rows(results, table)} <= ids, table.name


async def test_a_visitor_who_comes_back_counts_as_a_new_one(results: Results) -> None:
    await results.send(impression(ANN, CONTROL), conversion(ANN))
    before = await results.ask()
    await results.caller.delete("/visitors", params=ERASED)
    assert await results.figures() == {}
    await results.send(impression(ANN, CONTROL), conversion(ANN))
    assert (await results.ask())["metrics"] == before["metrics"]


async def test_the_entity_tag_of_results_changes(results: Results) -> None:
    await results.send(impression(ANN, CONTROL), impression("ben", CONTROL))
    url = f"{results.caller.url}/results/{EXPERIMENT}"
    async with results.caller.session.post(url, json=QUESTION) as response:
        known = {"If-None-Match": response.headers["ETag"]}
    assert (await results.caller.post(f"/results/{EXPERIMENT}", QUESTION, headers=known))[0] == 304
    await results.caller.delete("/visitors", params=ERASED)
    assert (await results.caller.post(f"/results/{EXPERIMENT}", QUESTION, headers=known))[0] == 200


async def test_204_for_a_visitor_of_another_account_who_stays(results: Results) -> None:
    await results.send(impression(ANN, CONTROL))
    assert await results.caller.delete("/visitors", params={**ERASED, "account_id": "78"}) == (204, None)
    assert ANN in [row[2] for row in await rows(results, VISITOR)]


@pytest.mark.parametrize("name", ERASED)
async def test_400_without_the_account_or_the_key(results: Results, name: str) -> None:
    params = {key: value for key, value in ERASED.items() if key != name}
    status, body = await results.caller.delete("/visitors", params=params)
    assert (status, body["code"]) == (400, "bad_request")
