"""Group commit: what waits together is stored together, and nothing that was answered is lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError

from optimizely_api.services.results import create_application
from optimizely_api.services.results.ingest import group_commit
from optimizely_api.services.results.ingest import store as ingest
from optimizely_api.services.results.ingest.group_commit import (
    GroupCommit,
    NotStored,
    TooManyWaiting,
)
from optimizely_api.services.results.ingest.rollup_tables import conversions
from optimizely_api.services.results.statements import CHUNK, Lookup
from optimizely_api.services.results.tables import EVENT, METADATA, VISITOR
from optimizely_api.services.storage.database import Database, migrate_async
from tests.services.conftest import session_with_key
from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    batch,
    conversion,
    impression,
    metric,
    parsed,
    question,
)
from tests.support.ports import free_port
from tests.support.samples import SERVICES_KEY


async def stored_events(database: Database) -> int:
    async with database.snapshot() as connection:
        return int((await connection.execute(select(func.count()).select_from(EVENT))).scalar_one())


def as_array(values: list[Any]) -> str:
    return f"{{{','.join(map(str, values))}}}"


async def plan(database: Database, query: Lookup, **given: Any) -> str:
    """How the database would run the query; on PostgreSQL by a plan that is kept whatever the parameters."""
    async with database.transaction() as connection:
        sql, parameters = query.for_driver(connection.dialect, **given)
        if database.is_sqlite:
            rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", tuple(parameters))
        else:
            await connection.run_sync(ingest.lock_storing)
            await connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
            await connection.exec_driver_sql(f"PREPARE lookup AS {sql}")
            values = ", ".join(f"'{as_array(it) if isinstance(it, list) else it}'" for it in parameters)
            rows = await connection.exec_driver_sql(f"EXPLAIN EXECUTE lookup({values})")
        return "\n".join(str(row) for row in rows)


async def test_visitors_are_found_by_their_keys_where_the_database_has_no_statistics(
    database: Database,
) -> None:
    async with database.transaction() as connection:
        dialect = connection.dialect.name
        if dialect == "postgresql":
            await connection.execute(text("ALTER TABLE visitor SET (autovacuum_enabled = off)"))
        rows = [{"account_id": "1", "key": f"v{number}"} for number in range(20_000)]
        await connection.execute(insert(VISITOR), rows)
    keys = [f"v{number}" for number in range(CHUNK)]
    by_both = {"sqlite": "(account_id=? AND key=?)", "postgresql": "((account_id = ($1)::text) AND (key = "}
    assert by_both[dialect] in await plan(database, ingest.VISITORS[dialect], account_id="1", keys=keys)


async def test_conversions_are_found_by_their_visitors_also_by_a_plan_made_for_empty_tables(
    database: Database,
) -> None:
    found = await plan(database, conversions, visitors=[1, 2], experiments=[3])
    assert "visitor_id=?" in found or "assignment_pkey" in found
    assert "assignment_of_experiment" not in found


async def test_batches_that_wait_together_share_a_transaction(database: Database) -> None:
    async with GroupCommit(database).running() as commits, asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(commits.store(parsed(impression(f"v{number}"))))
    assert await stored_events(database) == 100
    assert commits.transactions <= 3


async def test_a_batch_that_cannot_be_stored_fails_alone(database: Database) -> None:
    bad = parsed(impression("bad"))
    bad.events[0].happened = 2**70  # no database stores this; parse_batch never lets it through
    async with GroupCommit(database).running() as commits:
        outcomes = await asyncio.gather(
            commits.store(parsed(impression("ann"))),
            commits.store(bad),
            commits.store(parsed(impression("bob"))),
            return_exceptions=True,
        )
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False]
    assert await stored_events(database) == 2


async def test_one_bad_batch_costs_few_further_transactions(database: Database) -> None:
    bad = parsed(impression("bad"))
    bad.events[0].happened = 2**70
    async with GroupCommit(database).running() as commits:
        waiting = [commits.store(parsed(impression(f"v{number}"))) for number in range(63)]
        outcomes = await asyncio.gather(
            *waiting[:20], commits.store(bad), *waiting[20:], return_exceptions=True
        )
        assert commits.transactions <= 7
    assert sum(isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert await stored_events(database) == 63


class CountingDatabase(Database):
    """A database that counts the attempts at a transaction."""

    attempts = 0

    async def write(self, work: Any, *, is_short: bool) -> Any:
        self.attempts += 1
        return await super().write(work, is_short=is_short)


@asynccontextmanager
async def locked(database: Database) -> AsyncIterator[None]:
    """Somebody else holds what storing needs."""
    other = Database(database.engine.url)
    try:
        async with other.transaction() as connection:
            if not other.is_sqlite:
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": ingest._POSTGRESQL_LOCK}
                )
            yield
    finally:
        await other.close()


# SQLite's lock ends with the process.
@pytest.mark.parametrize("new_database", ["postgresql"], indirect=True)
async def test_a_writer_that_has_vanished_blocks_the_others_for_a_short_time_only(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Database(database.engine.url)
    with suppress(DBAPIError):  # the connection is ended
        async with asyncio.timeout(20), silent.transaction() as connection:
            with monkeypatch.context() as shorter:
                shorter.setattr(ingest, "LONGEST_IDLE_SECONDS", 0.1)
                await connection.run_sync(ingest.lock_storing)
            async with GroupCommit(database).running() as commits:
                await commits.store(parsed(impression("ann")))
    assert await stored_events(database) == 1
    await silent.close()


async def test_a_locked_database_fails_the_whole_group_in_one_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimizely_api.services.storage.database.BUSY_TIMEOUT_SECONDS", 0.2)
    url = f"sqlite:///{tmp_path / 'results.sqlite3'}"
    await migrate_async(url, "optimizely_api.services.results:migrations")
    database = CountingDatabase(url)
    await database.ping()  # a pooled connection: opening one needs the lock as well
    async with locked(database), GroupCommit(database).running() as commits:
        outcomes = await asyncio.gather(
            *(commits.store(parsed(impression(f"v{number}"))) for number in range(30)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {NotStored}
        assert database.attempts == 1
    assert await stored_events(database) == 0
    await database.close()


async def test_a_database_that_cannot_be_opened_fails_the_whole_group(tmp_path: Path) -> None:
    database = CountingDatabase(f"sqlite:///{tmp_path}")
    async with GroupCommit(database).running() as commits:
        outcomes = await asyncio.gather(
            *(commits.store(parsed(impression(f"v{number}"))) for number in range(30)), return_exceptions=True
        )
    assert {type(outcome) for outcome in outcomes} == {NotStored}
    assert database.attempts == 1
    await database.close()
    await driver_threads_ended()


async def driver_threads_ended() -> None:
    """aiosqlite's thread of a connection that could not be opened says goodbye to the event loop a little later."""
    async with asyncio.timeout(10):
        while any("_connection_worker_thread" in thread.name for thread in threading.enumerate()):
            await asyncio.sleep(0.01)


async def test_503_when_storing_takes_too_long_and_sent_again_everything_counts_once(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    await results.send(impression("first"))
    monkeypatch.setattr(group_commit, "MAX_WAIT_SECONDS", 0.3)
    bodies = [batch(impression(f"v{number}"), conversion(f"v{number}")) for number in range(6)]

    async def send(body: Any) -> tuple[int, str]:
        async with results.caller.session.post(f"{results.caller.url}/v1/events", json=body) as response:
            return response.status, response.headers.get("Retry-After", "")

    database = Database(results.caller.database_url)
    async with locked(database), asyncio.timeout(10):
        first = asyncio.create_task(send(bodies[0]))
        answers = [await send(body) for body in bodies[1:]]
        assert {await first, *answers} == {(503, "1")}
    await database.close()
    monkeypatch.setattr(group_commit, "MAX_WAIT_SECONDS", 30.0)
    assert [(await send(body))[0] for body in bodies] == [204] * 6
    assert (await results.figures(metric("count")))["9102"] == (6, 7)


async def test_a_batch_given_up_before_its_turn_is_not_stored(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.ping()
    async with GroupCommit(database).running() as commits:
        async with locked(database):
            under_way = asyncio.create_task(commits.store(parsed(impression("ann"))))
            await asyncio.sleep(0)
            while commits._waiting:  # until its transaction is under way
                await asyncio.sleep(0)
            monkeypatch.setattr(group_commit, "MAX_WAIT_SECONDS", 0.05)
            with pytest.raises(NotStored):
                await commits.store(parsed(impression("bob"), impression("eve")))
        await under_way
    assert await stored_events(database) == 1


async def test_a_batch_is_refused_when_too_much_waits(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_EVENTS_WAITING", 2)
    async with GroupCommit(database).running() as commits:
        first = asyncio.create_task(commits.store(parsed(impression("ann"), impression("bob"))))
        await asyncio.sleep(0)
        with pytest.raises(TooManyWaiting):
            await commits.store(parsed(impression("eve")))
        await first
        await commits.store(parsed(impression("eve")))
    assert await stored_events(database) == 3


async def test_503_asks_to_come_back_when_too_much_waits(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_EVENTS_WAITING", 0)
    body = batch(impression("ann"))
    async with results.caller.session.post(f"{results.caller.url}/v1/events", json=body) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert (await response.json())["code"] == "unavailable"


async def test_a_batch_is_refused_at_once_while_a_transaction_takes_too_long(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await database.ping()
    async with GroupCommit(database).running() as commits:
        async with locked(database), asyncio.timeout(10):
            under_way = asyncio.create_task(commits.store(parsed(impression("ann"))))
            while not commits._expected_seconds():
                await asyncio.sleep(0)
            commits.check_room()
            monkeypatch.setattr(group_commit, "LONGEST_EXPECTED_SECONDS", 0.0)
            for _ in range(3):
                with pytest.raises(TooManyWaiting) as refused:
                    commits.check_room()
        assert refused.value.retry_after_seconds == 1
        await under_way
        commits.check_room()
    assert await stored_events(database) == 1
    (line,) = (record for record in caplog.records if "refused" in record.getMessage())
    assert line.fields == {"refused": 1, "events_waiting": 0}  # type: ignore[attr-defined]


async def test_503_before_the_body_is_read_says_when_there_will_be_room(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(_commits: GroupCommit) -> None:
        raise TooManyWaiting(expected_seconds=7.2)

    monkeypatch.setattr(GroupCommit, "check_room", no_room)
    port = int(results.caller.url.rpartition(":")[2])
    key = f"Authorization: Bearer {SERVICES_KEY}"
    head = f"POST /v1/events HTTP/1.1\r\nHost: a\r\n{key}\r\nContent-Length: 1000\r\n\r\n"
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        response = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
        await writer.wait_closed()
    assert response.startswith("HTTP/1.1 503")
    assert "Retry-After: 8\r\n" in response


async def test_a_cancelled_sender_disturbs_nobody(database: Database) -> None:
    async with GroupCommit(database).running() as commits:
        tasks = [asyncio.create_task(commits.store(parsed(impression(f"v{n}")))) for n in range(10)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes) == 1
        await commits.store(parsed(impression("last")))
    assert await stored_events(database) == 11


async def test_what_waits_when_the_service_stops_is_stored_first(database: Database) -> None:
    async with asyncio.timeout(30):
        async with GroupCommit(database).running() as commits:
            waiting = asyncio.create_task(commits.store(parsed(impression("ann"))))
            await asyncio.sleep(0)
        await waiting
    assert await stored_events(database) == 1


async def test_sqlite_has_every_commit_on_the_disk_before_it_returns(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'results.sqlite3'}")
    async with database.transaction() as connection:
        assert (await connection.execute(text("PRAGMA synchronous"))).scalar() == 2  # FULL
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
    await database.close()


START = """
import sys
from optimizely_api.services.http.server import run_service
run_service("results", "127.0.0.1", int(sys.argv[1]), 1, sys.argv[2])
"""


class Process:
    """The service in processes of its own, as an operator starts it."""

    def __init__(self, url: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(self.port), url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    async def ready(self, session: aiohttp.ClientSession) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                async with session.get(f"{self.url}/healthz") as response:
                    assert response.status == 200
                    return
            except aiohttp.ClientConnectionError:
                assert self.process.poll() is None, "the service did not start"
                assert time.monotonic() < deadline, "the service is not ready after 30 s"
                await asyncio.sleep(0.05)

    def kill(self) -> None:
        """Kill -9, the worker too, without a moment to write anything."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


async def test_what_was_answered_204_survives_kill_9(database_url: str) -> None:
    async with session_with_key() as session:
        first = Process(database_url)
        try:
            await first.ready(session)
            answered = await send_until_killed(session, first)
        finally:
            first.kill()
        second = Process(database_url)
        try:
            await second.ready(session)
            body = question(baseline_variation_id=None)
            async with session.post(f"{second.url}/results/{EXPERIMENT}", json=body) as response:
                assert response.status == 200
                answer = await response.json()
        finally:
            second.kill()
    found = answer["reach"]["total_count"]
    assert answered >= 40
    # A batch under way at the kill may be stored or not; never in part, and its rollups with it.
    assert answered <= found <= answered + 2 * 4
    assert answer["metrics"][0]["results"]["9102"]["value"] == found


async def send_until_killed(session: aiohttp.ClientSession, service: Process) -> int:
    """Four senders, two visitors a batch; the service is killed as the 20th answer arrives."""
    answered = 0

    async def send(sender: int) -> None:
        nonlocal answered
        for number in range(1_000):
            names = [f"{sender}-{number}-{part}" for part in "ab"]
            entries = [entry for name in names for entry in (impression(name), conversion(name))]
            try:
                async with session.post(f"{service.url}/v1/events", json=batch(*entries)) as response:
                    assert response.status == 204
            except aiohttp.ClientConnectionError:
                return
            answered += len(names)
            if answered == 40:
                os.killpg(service.process.pid, signal.SIGKILL)

    async with asyncio.TaskGroup() as group:
        for sender in range(4):
            group.create_task(send(sender))
    return answered


KILLS, SENDERS = 30, 8


@pytest.mark.whole
async def test_every_event_counts_once_through_30_kills_for_senders_that_repeat_what_was_not_answered(
    database_url: str,
) -> None:
    """As SDKs do: a batch is sent until it is answered, so some were stored before a kill and come again."""
    chance, waiting, number = random.Random(20260301), deque[Any](), itertools.count()
    sent = answered = repeated = 0

    def next_batch() -> Any:
        nonlocal sent, repeated
        if waiting:
            repeated += 1
            return waiting.popleft()
        sent += 1
        name = f"visitor {next(number)}"
        return batch(impression(name), conversion(name, revenue=7))

    async def send(session: aiohttp.ClientSession, service: Process) -> None:
        nonlocal answered
        while True:
            body = next_batch()
            try:
                async with session.post(f"{service.url}/v1/events", json=body) as response:
                    assert response.status == 204
            except aiohttp.ClientConnectionError:
                waiting.append(body)
                return
            answered += 1

    async with session_with_key() as session:
        for _ in range(KILLS):
            service = Process(database_url)
            try:
                await service.ready(session)
                senders = [asyncio.create_task(send(session, service)) for _ in range(SENDERS)]
                await asyncio.sleep(chance.uniform(0.05, 0.5))
            finally:
                service.kill()
            await asyncio.gather(*senders)
        last = Process(database_url)
        try:
            await last.ready(session)
            for body in waiting:
                async with session.post(f"{last.url}/v1/events", json=body) as response:
                    assert response.status == 204
            body = question(metric("sum", field="revenue"), baseline_variation_id=None)
            async with session.post(f"{last.url}/results/{EXPERIMENT}", json=body) as response:
                answer = await response.json()
        finally:
            last.kill()
    print(
        f"{KILLS} kills, {sent} batches, {answered} answered before a kill, {repeated + len(waiting)} sent again"
    )
    assert answered > KILLS
    assert answer["reach"]["total_count"] == sent
    assert answer["metrics"][0]["results"][str(CONTROL)]["value"] == 7 * sent


async def test_the_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    async with database.transaction() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), METADATA)
        )
    assert differences == []


@pytest.mark.parametrize("value", ["0", "-1", "many", "3.5e6"])
def test_a_size_limit_that_is_none_stops_the_start_naming_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    monkeypatch.setenv("RESULTS_MAX_BATCH_BYTES", value)
    with pytest.raises(ValueError, match=f"RESULTS_MAX_BATCH_BYTES .*{value}"):
        create_application(f"sqlite:///{tmp_path / 'results.sqlite3'}")
