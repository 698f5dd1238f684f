"""The work that one body can cause is limited, and the event loop keeps turning meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable
from typing import Any

import pytest
from sqlalchemy import event, func, select

from optimizely_api.services.results import handlers as routes
from optimizely_api.services.results.ingest import admission
from optimizely_api.services.results.ingest.batches import Attribute, Batch, parse_batch
from optimizely_api.services.results.ingest.group_commit import GroupCommit
from optimizely_api.services.results.ingest.store import Stored, store
from optimizely_api.services.results.tables import ASSIGNMENT, EVENT, VISITOR_ATTRIBUTE, VISITOR_TOTAL
from optimizely_api.services.storage.database import Database
from optimizely_api.services.storage.sqlite_driver import _Cursor as SQLiteCursor
from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    NOON,
    PLAN,
    SECOND,
    attribute,
    conversion,
    impression,
    metric,
    parsed,
)


async def store_all(database: Database, *batches: Batch) -> Stored:
    async with database.transaction() as connection:
        return await connection.run_sync(store, list(batches))


async def count(database: Database, table: Any) -> int:
    async with database.snapshot() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


def rows_written(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the rows of every INSERT."""
    rows: list[int] = []

    @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("INSERT"):
            rows.append(len(parameters) if isinstance(parameters, list) else 1)

    # SQLite's cursors are used without SQLAlchemy, which makes no event then.
    execute_many = SQLiteCursor._executemany_async

    async def noted(cursor: Any, operation: str, parameters: list[Any]) -> None:
        rows.append(len(parameters))
        await execute_many(cursor, operation, parameters)

    monkeypatch.setattr(SQLiteCursor, "_executemany_async", noted)
    return rows


def in_experiments(visitor: str, experiments: range, at: int = NOON) -> list[Any]:
    return [impression(visitor, 1000 + number, at, experiment=50_000 + number) for number in experiments]


def decided_at_once(visitor: str, experiments: range) -> Any:
    first, *others = in_experiments(visitor, experiments)
    for other in others:
        first["snapshots"][0]["decisions"] += other["snapshots"][0]["decisions"]
    return first


async def test_attributes_are_written_once_for_an_entry_and_not_for_each_of_its_events(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = conversion("ann", attributes=[attribute(f"a{n}", n, PLAN + n) for n in range(100)])
    entry["snapshots"] = [conversion("ann")["snapshots"][0] for _ in range(500)]
    rows = rows_written(database, monkeypatch)
    hashed = 0
    attribute_hash = Attribute.__hash__

    def counted(self: Any) -> int:
        nonlocal hashed
        hashed += 1
        return attribute_hash(self)

    monkeypatch.setattr(Attribute, "__hash__", counted)
    await store_all(database, parsed(entry))
    assert await count(database, VISITOR_ATTRIBUTE) == 100
    assert sum(rows) <= 500 + 2 * 100 + 10
    assert hashed <= 10 * 100


async def test_a_visitor_is_in_a_hundred_experiments_at_most(database: Database) -> None:
    first = await store_all(database, parsed(*in_experiments("ann", range(90))))
    second = await store_all(database, parsed(*in_experiments("ann", range(80, 120))))
    assert (first.dropped.total(), second.dropped.total()) == (0, 20)
    assert await count(database, ASSIGNMENT) == 100
    assert await count(database, EVENT) == 130


async def test_a_visitor_converts_on_a_hundred_event_ids_at_most(results: Results) -> None:
    await results.send(impression("ann"))
    await results.send(*[conversion("ann", 7_000 + number) for number in range(90)])
    await results.send(*[conversion("ann", 7_000 + number) for number in range(80, 120)])
    counted = [
        (await results.figures(metric("count", 7_000 + number)))[str(CONTROL)][0]
        for number in (0, 85, 99, 100, 119)
    ]
    assert counted == [1, 2, 1, 0, 0]


async def test_conversions_over_the_limit_are_counted_in_the_log(
    results: Results, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "optimizely_api.services.results"):
        await results.send(*[conversion("ann", 7_000 + number) for number in range(105)])
    (fields,) = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert fields["reasons"] == {"a conversion of a visitor with too many event ids": 5}


async def test_one_batch_changes_so_many_totals_at_most(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty visitors in 50 experiments each convert on 50 events: 50,000 totals and as many cells."""
    monkeypatch.setattr(admission, "MAX_COST", 3_000)
    for visitor in range(20):
        await store_all(database, parsed(*in_experiments(f"v{visitor}", range(50))))
    rows = rows_written(database, monkeypatch)
    entries = [conversion(f"v{v}", 7_000 + n, NOON + SECOND) for v in range(20) for n in range(50)]
    stored = await store_all(database, parsed(*entries))
    assert stored.events + stored.dropped.total() == 1_000
    assert 0 < stored.events < 100
    assert await count(database, VISITOR_TOTAL) <= 2 * 3_000
    assert sum(rows) <= 5 * 3_000


async def test_decisions_that_have_much_summed_up_again_are_limited_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MAX_COST", 3_000)
    await store_all(database, parsed(*[conversion("ann", 7_000 + number) for number in range(100)]))
    stored = await store_all(database, parsed(*in_experiments("ann", range(100), NOON)))
    assert stored.dropped.total() == 100 - 3_000 // (101 - 3)
    assert await count(database, VISITOR_TOTAL) <= 3_100


async def test_a_large_batch_of_visitors_in_few_experiments_is_stored_whole(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MAX_COST", 10)
    entries = [entry for n in range(300) for entry in (impression(f"v{n}"), conversion(f"v{n}"))]
    for _ in range(2):
        stored = await store_all(database, parsed(*entries))
        assert stored.dropped.total() == 0
    assert await count(database, EVENT) == 600


async def test_batches_that_are_much_work_share_no_transaction(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MAX_COST", 100)
    async with GroupCommit(database).running() as commits:
        waiting: list[Awaitable[None]] = [
            commits.store(parsed(decided_at_once(f"v{number}", range(90)))) for number in range(8)
        ]
        await asyncio.gather(*waiting)
        assert commits.transactions == 4
    assert await count(database, ASSIGNMENT) == 8 * 90


async def test_the_event_loop_turns_often_while_a_large_batch_is_stored(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [
        entry for number in range(1_500) for entry in (impression(f"v{number}"), conversion(f"v{number}"))
    ]
    large = parsed(*entries)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    rows = rows_written(database, monkeypatch)
    await store_all(database, large)
    turning.cancel()
    assert max(rows) <= 200
    assert turns >= 3_000 // 200 * 5


@pytest.mark.parametrize(("entries", "is_in_thread"), [(1, False), (300, True)])
async def test_a_large_body_is_parsed_in_a_thread(
    results: Results, monkeypatch: pytest.MonkeyPatch, entries: int, is_in_thread: bool
) -> None:
    threads: list[threading.Thread] = []

    def noted(body: bytes, **more: Any) -> Batch:
        threads.append(threading.current_thread())
        return parse_batch(body, **more)

    monkeypatch.setattr(routes, "parse_batch", noted)
    await results.send(*[impression(f"v{number}") for number in range(entries)])
    assert [thread is not threading.main_thread() for thread in threads] == [is_in_thread]
