"""`GET /healthz`: 503 from a service that cannot read or write its database, with the reason."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from optimizely_api.services.http import health
from optimizely_api.services.http.application import DATABASE, make_application
from optimizely_api.services.storage.database import database_url as read_url
from tests.services.conftest import Caller, own_postgresql_database, running
from tests.services.databases import POSTGRESQL_URL


@pytest.fixture(autouse=True)
def _asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "KEPT_SECONDS", 0)
    monkeypatch.setattr(health, "LOCK_WAIT_SECONDS", 0.2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A SQLite database."""
    path = tmp_path / "a service.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE things (n INTEGER)")
    return path


@pytest.fixture
async def service(file: Path) -> AsyncIterator[Caller]:
    """A service on that file."""
    async with running(make_application("sample", database_url=f"sqlite:///{file}", routes=[])) as caller:
        yield caller


async def refused(service: Caller, message: str) -> None:
    began = time.monotonic()
    async with service.session.get(f"{service.url}/healthz") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert await response.json() == {"code": "unavailable", "message": message}
    assert time.monotonic() - began < 2 * health.DEADLINE_SECONDS


async def test_200_when_the_database_can_be_written(service: Caller) -> None:
    assert await service.get("/healthz") == (200, {"status": "ok"})


async def test_asking_changes_nothing(service: Caller, file: Path) -> None:
    await service.get("/healthz")
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)


async def test_503_when_sqlites_file_is_read_only(service: Caller, file: Path) -> None:
    # Byte 18 of the file: a format newer than SQLite can write, which it then only reads. It works for root as well.
    with file.open("r+b") as content:
        content.seek(18)
        content.write(b"\x03")
    await refused(service, "the database is read-only")


async def test_503_when_sqlites_disk_is_full(service: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LEAST_FREE_BYTES", 2**62)
    await refused(service, "the database's disk is full")


async def test_503_when_sqlite_is_locked_and_nobody_writes(service: Caller, file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        # Another service's transaction under way: it has just written.
        writer.execute("INSERT INTO things VALUES (1)")
        log = file.with_name(f"{file.name}-wal")
        os.utime(log)
        assert await service.get("/healthz") == (200, {"status": "ok"})
        long_ago = time.time() - 60
        os.utime(log, (long_ago, long_ago))
        await refused(service, "the database is locked")
    assert await service.get("/healthz") == (200, {"status": "ok"})


async def test_503_when_the_file_is_gone(service: Caller, file: Path) -> None:
    os.rename(file, f"{file}.elsewhere")
    await refused(service, "the database does not answer")


@pytest.fixture
async def on_postgresql() -> AsyncIterator[Any]:
    """A service with a single connection, its application, and a function that runs a statement as administrator."""
    async with own_postgresql_database() as url:
        name = make_url(url).database
        engine = create_async_engine(read_url(POSTGRESQL_URL), isolation_level="AUTOCOMMIT")

        async def administer(statement: str) -> None:
            async with engine.connect() as connection:
                await connection.execute(text(statement.format(name=name)))

        options = {"pool_size": 1, "max_overflow": 0}
        application = make_application("sample", database_url=url, routes=[], engine_options=options)
        async with running(application) as caller:
            yield caller, application, administer
        await engine.dispose()


async def test_503_while_postgresql_is_read_only(on_postgresql: Any) -> None:
    service, _, administer = on_postgresql
    await administer("ALTER DATABASE {name} SET default_transaction_read_only = on")
    await refused(service, "the database is read-only")


async def test_503_while_postgresql_accepts_no_connections(on_postgresql: Any) -> None:
    service, _, administer = on_postgresql
    await administer("ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await refused(service, "the database does not answer")
    await administer("ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert await service.get("/healthz") == (200, {"status": "ok"})


async def test_503_in_time_while_others_have_all_connections(
    on_postgresql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DEADLINE_SECONDS", 0.5)
    service, application, _ = on_postgresql
    async with application[DATABASE].transaction():
        await refused(service, "the database does not answer within 0.5 seconds")
    assert await service.get("/healthz") == (200, {"status": "ok"})


async def test_many_who_ask_at_once_cost_one_question(
    service: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    ask = health.sqlite_problem

    def counted(path: Path) -> str | None:
        nonlocal asked
        asked += 1
        return ask(path)

    monkeypatch.setattr(health, "KEPT_SECONDS", 60)
    monkeypatch.setattr(health, "sqlite_problem", counted)
    answers = await asyncio.gather(*(service.get("/healthz") for _ in range(20)))
    assert (answers, asked) == ([(200, {"status": "ok"})] * 20, 1)
