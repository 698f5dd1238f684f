"""Databases for the services' tests, ready in milliseconds.

A service's migrations take up to half a second, and creating and dropping a PostgreSQL database one forced checkpoint
each, which is seconds on a busy disk. So each process of the tests migrates one SQLite file for each service and copies
it, and hands its PostgreSQL databases from one test to the next, emptied.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from optimizely_api.services.http.server import SERVICES
from optimizely_api.services.storage.database import migrate_async

IN_CI = os.environ.get("CI", "").lower() == "true"
CI_POSTGRESQL_URL = "postgresql+asyncpg://postgres@127.0.0.1:5432/test"
POSTGRESQL_URL = os.environ.get("TEST_POSTGRESQL_URL") or (CI_POSTGRESQL_URL if IN_CI else "")
LONGEST_WAIT_SECONDS = 30  # for the locks of a test that is over
SHAPE = """
    SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
        SELECT concat_ws(
            ' ', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)
        )
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
    ) AS lines (line)
"""
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
LARGEST = "SELECT max(pg_relation_size(oid)) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
LARGE_BYTES = 256 * 1024
RESTART = """
    SELECT setval(seqrelid, seqstart, false) FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
    WHERE relnamespace = 'public'::regnamespace
"""
OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@asynccontextmanager
async def administering(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that prepares databases: its own commits need not be on the disk, unlike those of the services."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    settings = {"synchronous_commit": "off", "lock_timeout": f"{LONGEST_WAIT_SECONDS}s"}
    connection = await asyncpg.connect(plain, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()


async def create_postgresql() -> str:
    """The URL of a new, empty PostgreSQL database."""
    if not POSTGRESQL_URL:
        pytest.skip("TEST_POSTGRESQL_URL is not set")
    name = f"services_{uuid.uuid4().hex}"
    async with administering(POSTGRESQL_URL) as connection:
        await connection.execute(f"CREATE DATABASE {name}")
    return make_url(POSTGRESQL_URL).set(database=name).render_as_string(hide_password=False)


async def drop_postgresql(*urls: str) -> None:
    """Drop the databases, whoever uses them."""
    async with administering(POSTGRESQL_URL) as connection:
        for url in urls:
            await connection.execute(f"DROP DATABASE IF EXISTS {make_url(url).database} WITH (FORCE)")


@dataclass(frozen=True)
class State:
    """What the migrations have made: tables with their columns and indexes, and the rows that come with them."""

    shape: str | None
    rows: dict[str, list[Any]]

    @classmethod
    async def read(cls, connection: asyncpg.Connection) -> State:
        """The state of a database."""
        tables = [row["tablename"] for row in await connection.fetch(TABLES)]
        rows = {table: await connection.fetch(f'SELECT * FROM "{table}"') for table in tables}
        return cls(await connection.fetchval(SHAPE), rows)

    async def restore(self, connection: asyncpg.Connection) -> bool:
        """Bring a database that tests have used back to this state; False when its tables are others now."""
        await connection.execute(OTHERS)
        if not self.rows:
            await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            return True
        if await connection.fetchval(SHAPE) != self.shape:
            return False
        async with connection.transaction():
            tables = [f'"{table}"' for table in self.rows]
            if await connection.fetchval(LARGEST) > LARGE_BYTES:
                await connection.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY")
            else:
                # A new file for each table and index takes far longer than to delete a few rows. One statement: foreign
                # keys are checked at its end.
                deleted = ", ".join(
                    f"d{number} AS (DELETE FROM {table})" for number, table in enumerate(tables)
                )
                await connection.execute(f"WITH {deleted} SELECT 1")
                await connection.execute(RESTART)
            for table, records in self.rows.items():
                if records:
                    await connection.copy_records_to_table(table, records=records)
        return True


class PostgreSQLDatabases:
    """PostgreSQL databases that one test after another uses, each at the newest revision of its service, or empty."""

    def __init__(self) -> None:
        self._idle: dict[str, list[str]] = defaultdict(list)
        self._states: dict[str, State] = {}
        self._created: list[str] = []

    async def borrow(self, service: str) -> str:
        """The URL of a database as the service's migrations leave it; empty for the service ""."""
        while self._idle[service]:
            url = self._idle[service].pop()
            async with administering(url) as connection:
                if await self._states[service].restore(connection):
                    return url
        return await self._create(service)

    def give_back(self, service: str, url: str) -> None:
        """Let another test have the database."""
        self._idle[service].append(url)

    async def drop(self) -> None:
        """Drop every database."""
        if self._created:
            await drop_postgresql(*self._created)

    async def _create(self, service: str) -> str:
        url = await create_postgresql()
        self._created.append(url)
        if service:
            await migrate_async(url, SERVICES[service].migrations)
        if service not in self._states:
            async with administering(url) as connection:
                self._states[service] = await State.read(connection)
        return url


class SQLiteDatabases:
    """SQLite files, each a copy of one that the service's migrations have made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def create(self, service: str, folder: Path) -> str:
        """The URL of a file in the folder, migrated for the service; of none yet for the service ""."""
        file = folder / f"{uuid.uuid4().hex}.sqlite3"
        if service:
            template = self._folder / f"{service}.sqlite3"
            if not template.exists():
                await migrate_async(f"sqlite:///{template}", SERVICES[service].migrations)
            shutil.copyfile(template, file)
        return f"sqlite:///{file}"
