"""A service stops working when the time that its client waits is spent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
import pytest_asyncio
from aiohttp import web
from sqlalchemy import text

from optimizely_api.http.deadlines import EXPECTED_TIMEOUT, expected_timeout, seconds_of
from optimizely_api.services.http.application import DATABASE, make_application
from optimizely_api.services.storage.database import Database
from optimizely_api.services.storage.deadlines import DEADLINE, DeadlinePassed
from tests.services.conftest import Caller, running

SOON_SECONDS = 20
SLOW = {  # statements that would take minutes
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3e9) SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(600)",
}


def slow(database: Database) -> str:
    return SLOW[database.engine.dialect.name]


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def assert_usable(database: Database) -> None:
    """The connections serve the next request, which has no deadline."""
    async with asyncio.timeout(SOON_SECONDS):
        for _ in range(3):
            await database.ping()


async def test_a_statement_stops_at_the_deadline(database: Database) -> None:
    DEADLINE.set(time.monotonic() + 0.2)
    async with asyncio.timeout(SOON_SECONDS):
        with pytest.raises(DeadlinePassed):
            async with database.snapshot() as connection:
                await connection.execute(text(slow(database)))
    DEADLINE.set(float("inf"))
    await assert_usable(database)


async def test_a_statement_stops_when_its_request_is_cancelled(database: Database) -> None:
    begun = asyncio.Event()

    async def ask() -> None:
        async with database.snapshot() as connection:
            begun.set()
            await connection.execute(text(slow(database)))

    async with asyncio.timeout(SOON_SECONDS):
        asking = asyncio.create_task(ask())
        await begun.wait()
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    await assert_usable(database)


async def test_no_transaction_begins_after_the_deadline(database: Database) -> None:
    DEADLINE.set(time.monotonic() - 0.001)
    with pytest.raises(DeadlinePassed):
        async with database.transaction():
            pytest.fail("it began")
    with pytest.raises(DeadlinePassed):
        async with database.snapshot():
            pytest.fail("it began")


@pytest_asyncio.fixture
async def caller(database_url: str) -> AsyncIterator[Caller]:
    async def ask(request: web.Request) -> web.Response:
        async with request.app[DATABASE].snapshot() as connection:
            await connection.execute(text(slow(request.app[DATABASE])))
        return web.Response()

    async def wait(_request: web.Request) -> web.Response:
        await asyncio.sleep(600)
        return web.Response()

    async def write(request: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        async with request.app[DATABASE].transaction():
            return web.Response(status=204)

    async def write_slowly(request: web.Request) -> web.Response:
        async with request.app[DATABASE].transaction() as connection:
            await connection.execute(text(slow(request.app[DATABASE])))
        return web.Response()

    routes = [
        web.get("/ask", ask),
        web.get("/wait", wait),
        web.post("/write", write),
        web.post("/write_slowly", write_slowly),
    ]
    async with running(make_application("test", database_url=database_url, routes=routes)) as caller:
        yield caller


@pytest.mark.parametrize("path", ["/ask", "/wait"])
async def test_504_for_a_question_whose_time_is_spent(caller: Caller, path: str) -> None:
    async with asyncio.timeout(SOON_SECONDS):
        status, body = await caller.get(path, headers={EXPECTED_TIMEOUT: "200"})
    assert (status, body["code"]) == (504, "deadline_passed")


@pytest.mark.parametrize(("method", "path"), [("GET", "/wait"), ("POST", "/write")])
async def test_504_too_when_the_timer_fires_a_moment_early(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr("optimizely_api.services.http.deadline.time", clock)
    status, body = await caller.call(method, path, headers={EXPECTED_TIMEOUT: "50"})
    assert (status, body["code"]) == (504, "deadline_passed")


@pytest.mark.parametrize("new_database", ["postgresql"], indirect=True)
async def test_504_for_a_write_that_postgresql_stops_at_its_deadline(caller: Caller) -> None:
    async with asyncio.timeout(SOON_SECONDS):
        status, body = await caller.post("/write_slowly", headers={EXPECTED_TIMEOUT: "300"})
    assert (status, body["code"]) == (504, "deadline_passed")


async def test_504_for_a_write_whose_transaction_would_begin_too_late(caller: Caller) -> None:
    status, _ = await caller.post("/write", headers={EXPECTED_TIMEOUT: "20"})
    assert status == 504


@pytest.mark.parametrize("field", ["5000", "soon", "", "-1", "0", "1e3"])
async def test_a_write_in_time_is_made_and_an_unreadable_header_is_no_limit(
    caller: Caller, field: str
) -> None:
    status, _ = await caller.post("/write", headers={EXPECTED_TIMEOUT: field})
    assert status == 204


def test_a_header_is_read_as_seconds() -> None:
    assert seconds_of("250") == 0.25
    assert seconds_of(" 1 ") == 0.001
    for unreadable in (None, "", "0", "-5", "1.5", "٣", "9" * 10):
        assert seconds_of(unreadable) is None


def test_a_service_is_told_two_milliseconds_less_and_at_least_one() -> None:
    assert expected_timeout(0.5) == 498
    assert expected_timeout(0.001) == 1
