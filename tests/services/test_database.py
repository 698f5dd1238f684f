"""Engines, transactions and migrations, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    func,
    insert,
    inspect,
    make_url,
    select,
    text,
)

from optimizely_api.services.experiments.search.match import FTS
from optimizely_api.services.experiments.tables import METADATA as EXPERIMENTS
from optimizely_api.services.http.server import SERVICES
from optimizely_api.services.projects.tables import METADATA as PROJECTS
from optimizely_api.services.storage import database as database_module
from optimizely_api.services.storage.data_version import DataVersion
from optimizely_api.services.storage.database import (
    Database,
    InvalidDatabaseURL,
    NewerDatabase,
    UtcTime,
    default_database_url,
    migrate,
    migrate_async,
)
from optimizely_api.services.storage.database import database_url as read_url

things = Table("things", MetaData(), Column("id", Integer, primary_key=True), Column("moment", UtcTime))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    async with database.transaction() as connection:
        await connection.run_sync(things.metadata.create_all)
    yield database
    await database.close()


async def count(database: Database) -> int:
    async with database.snapshot() as connection:
        return int((await connection.execute(select(func.count()).select_from(things))).scalar_one())


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:////data/x.sqlite3", "sqlite+aiosqlite"),
        ("sqlite+aiosqlite:////data/x.sqlite3", "sqlite+aiosqlite"),
        ("postgresql://u:p@h:1/n", "postgresql+asyncpg"),
        ("postgres://h/n", "postgresql+asyncpg"),
        ("postgresql+asyncpg://h/n", "postgresql+asyncpg"),
    ],
)
def test_plain_urls_get_the_asynchronous_driver(given: str, driver: str) -> None:
    assert read_url(given).drivername == driver


@pytest.mark.parametrize(
    "given", ["", "no url", "mysql://h/n", "postgresql+psycopg2://h/n", "sqlite://", "sqlite:///:memory:"]
)
def test_an_unusable_url_is_refused_with_its_reason(given: str) -> None:
    with pytest.raises(InvalidDatabaseURL, match=r"."):
        read_url(given)


def test_the_default_is_a_file_in_the_data_folder_whatever_the_folder_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_database_url("results", {}) == f"sqlite+aiosqlite:///{tmp_path}/var/results.sqlite3"
    elsewhere = {"OPTIMIZELY_API_DATA_DIR": "/srv/data"}
    assert default_database_url("results", elsewhere) == "sqlite+aiosqlite:////srv/data/results.sqlite3"
    assert default_database_url("results", {**elsewhere, "RESULTS_DATABASE_URL": "x://y"}) == "x://y"
    assert read_url("sqlite:///x.sqlite3").database == str(tmp_path / "x.sqlite3")


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    async def write_and_fail() -> None:
        async with database.transaction() as connection:
            await connection.execute(insert(things).values(id=1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await write_and_fail()
    assert await count(database) == 0


async def test_a_snapshot_sees_one_state_while_others_write(database: Database) -> None:
    query = select(func.count()).select_from(things)
    async with database.snapshot() as connection:
        assert (await connection.execute(query)).scalar_one() == 0
        async with database.transaction() as writer:
            await writer.execute(insert(things).values(id=1))
        assert (await connection.execute(query)).scalar_one() == 0
    assert await count(database) == 1


async def test_its_version_changes_with_each_commit_of_anybody_and_with_nothing_else(
    database: Database, database_url: str
) -> None:
    seen = database.version()
    if not database.is_sqlite:
        assert seen is None
        assert database.may_have_changed(seen)
        return
    assert await count(database) == 0
    with contextlib.suppress(RuntimeError):
        async with database.transaction() as connection:
            await connection.execute(insert(things).values(id=1))
            raise RuntimeError
    assert not database.may_have_changed(seen)
    async with database.transaction() as connection:
        await connection.execute(insert(things).values(id=1))
        assert not database.may_have_changed(seen)
    assert database.may_have_changed(seen)
    seen = database.version()
    with contextlib.closing(sqlite3.connect(read_url(database_url).database or "")) as other:
        other.execute("INSERT INTO things (id) VALUES (2)")
        assert not database.may_have_changed(seen)
        other.commit()
    assert database.may_have_changed(seen)


def test_a_version_that_cannot_be_read_may_be_another_one(tmp_path: Path) -> None:
    version = DataVersion(str(tmp_path / "missing" / "file"))
    assert version.read() is None
    (tmp_path / "missing").mkdir()
    first = version.read()
    version.close()
    assert version.read() != first  # by another connection, whose numbers say nothing of before
    version.close()


async def test_read_then_write_never_loses_an_update(database: Database, database_url: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("CREATE TABLE counter (n INTEGER)"))
        await connection.execute(text("INSERT INTO counter VALUES (0)"))
    other = Database(database_url)

    async def raise_by_one(one: Database) -> None:
        async with one.transaction() as connection:
            lock = "" if one.is_sqlite else " FOR UPDATE"
            n = (await connection.execute(text(f"SELECT n FROM counter{lock}"))).scalar_one()
            await asyncio.sleep(0)
            await connection.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})

    await asyncio.gather(*(raise_by_one(one) for one in [database, other] * 10))
    await other.close()
    async with database.snapshot() as connection:
        assert (await connection.execute(text("SELECT n FROM counter"))).scalar_one() == 20


async def test_a_cancelled_transaction_leaves_nothing_and_the_next_one_works(database: Database) -> None:
    inserted = asyncio.Event()

    async def write_and_wait() -> None:
        async with database.transaction() as connection:
            await connection.execute(insert(things).values(id=1))
            inserted.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write_and_wait())
    await inserted.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.transaction() as connection:
        await connection.execute(insert(things).values(id=1))
    assert await count(database) == 1


async def test_a_database_that_is_closed_has_waited_for_a_connection_that_was_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended, connect = threading.Event(), threading.Event(), sqlite3.connect

    def slow(*arguments: Any, **options: Any) -> sqlite3.Connection:
        begun.set()
        time.sleep(0.5)
        ended.set()
        return connect(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", slow)
    database = Database(f"sqlite:///{tmp_path / 'database.sqlite3'}")
    asking = asyncio.create_task(database.ping())
    while not begun.is_set():
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not ended.is_set()
    await database.close()
    assert ended.is_set()


@pytest.mark.parametrize("new_database", ["postgresql"], indirect=True)
async def test_the_kernel_probes_the_machine_of_postgresql(database: Database) -> None:
    async with database.engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        sock = driver._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        found = {
            name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in database_module.TCP_OPTIONS
        }
    assert found == database_module.TCP_OPTIONS


async def test_times_come_back_in_utc_and_naive_ones_are_refused(database: Database) -> None:
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    async with database.transaction() as connection:
        await connection.execute(insert(things).values(id=1, moment=tokyo))
    async with database.snapshot() as connection:
        moment = (await connection.execute(select(things.c.moment))).scalar_one()
    assert (moment, moment.utcoffset()) == (NOON, timedelta())
    with pytest.raises(Exception, match="without zone"):
        async with database.transaction() as connection:
            await connection.execute(insert(things).values(id=2, moment=NOON.replace(tzinfo=None)))


async def test_sqlite_commits_are_durable_and_foreign_keys_count(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/new/folder/x.sqlite3")
    async with database.snapshot() as connection:
        settings = {
            name: (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    await database.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15000}


@pytest.mark.parametrize(("name", "metadata"), [("projects", PROJECTS), ("experiments", EXPERIMENTS)])
async def test_migrations_make_the_tables_that_the_code_declares(
    database_url: str, name: str, metadata: MetaData
) -> None:
    await migrate_async(database_url, SERVICES[name].migrations)
    await migrate_async(database_url, SERVICES[name].migrations)
    database = Database(database_url)
    async with database.snapshot() as connection:
        found = await connection.run_sync(_tables)
        differences = await connection.run_sync(_differences, metadata)
    await database.close()
    assert set(metadata.tables) | {"alembic_version"} == found
    assert differences == []


def _tables(connection: Connection) -> set[str]:
    return {name for name in inspect(connection).get_table_names() if _is_declared(name)}


def _is_declared(name: str | None, *_: object) -> bool:
    """Whether it is none of the tables that SQLite's full-text search consists of."""
    return not (name or "").startswith(FTS)


def _differences(connection: Connection, metadata: MetaData) -> list[object]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    context = MigrationContext.configure(connection, opts={"include_name": _is_declared})
    differences = compare_metadata(context, metadata)
    is_sqlite = connection.dialect.name == "sqlite"
    return [one for one in differences if not (is_sqlite and one[0] == "add_index" and _is_gin(one[1]))]


def _is_gin(index: Index) -> bool:
    """Whether it is an index that PostgreSQL alone has, which alembic does not know."""
    return index.dialect_options["postgresql"]["using"] == "gin"


async def test_many_migrations_at_once_in_one_process(database_url: str) -> None:
    migrations = SERVICES["projects"].migrations
    await asyncio.gather(*(migrate_async(database_url, migrations) for _ in range(4)))
    await _assert_migrated(database_url)


async def test_many_processes_migrating_at_once(database_url: str, tmp_path: Path) -> None:
    migrations = SERVICES["projects"].migrations
    call = f"migrate({database_url!r}, {migrations!r})"
    program = f"from optimizely_api.services.storage.database import migrate; {call}"
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error::ResourceWarning", "-c", program),
            cwd=tmp_path,  # the current folder plays no part
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    answers = [await process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0], answers
    await _assert_migrated(database_url)


async def _assert_migrated(database_url: str) -> None:
    database = Database(database_url)
    async with database.snapshot() as connection:
        ids = await connection.execute(text("SELECT next_id FROM next_ids"))
        assert ids.scalars().all() == [10_000_000_001]
        assert len((await connection.execute(text("SELECT * FROM alembic_version"))).all()) == 1
    await database.close()


async def test_a_database_of_a_newer_release_stops_the_start_by_name(database_url: str) -> None:
    migrations = SERVICES["projects"].migrations
    await migrate_async(database_url, migrations)
    database = Database(database_url)
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    name = re.escape(Path(str(make_url(database_url).database)).name)
    with pytest.raises(NewerDatabase, match=rf"{name} is at revision 9999.* by a newer one"):
        await migrate_async(database_url, migrations)


async def test_a_migration_waits_for_the_one_of_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "MIGRATION_LOCK_TIMEOUT_SECONDS", 0.1)
    file, migrations = tmp_path / "x.sqlite3", SERVICES["projects"].migrations
    with (tmp_path / "x.sqlite3.migrating").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match=r"another process holds .*x\.sqlite3\.migrating"):
            await migrate_async(f"sqlite:///{file}", migrations)
        assert not file.exists()
    await migrate_async(f"sqlite:///{file}", migrations)
    assert file.exists()


async def test_writers_of_one_process_take_turns_in_the_order_they_came(tmp_path: Path) -> None:
    """Left to SQLite's lock they would ask again and again, and the luckiest would go first."""
    database = Database(f"sqlite:///{tmp_path}/x.sqlite3", pool_size=8)
    order: list[int] = []

    async def write(number: int) -> None:
        async with database.transaction():
            order.append(number)

    async with database.transaction() as connection:
        waiting = [asyncio.create_task(write(number)) for number in range(8)]
        for _ in range(10):
            await asyncio.sleep(0)
        # Those who wait have no connection yet: readers find one.
        assert database.engine.pool.checkedout() == 1  # type: ignore[attr-defined]
        await connection.execute(text("SELECT 1"))
    await asyncio.gather(*waiting)
    await database.close()
    assert order == list(range(8))


def test_a_database_that_is_none_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no database\n" * 100)
    with pytest.raises(Exception, match="not a database"):
        migrate(f"sqlite:///{file}", SERVICES["projects"].migrations)
    assert file.read_text() == "no database\n" * 100
