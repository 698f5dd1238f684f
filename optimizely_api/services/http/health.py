"""The health of a service: whether it can read and write its database now."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from optimizely_api.services.storage.database import Database

DEADLINE_SECONDS = 2.0
KEPT_SECONDS = 1.0  # the database is checked at most once in this time, however many requests come
LOCK_WAIT_SECONDS = 1.0  # for the locks of other SQLite writers
# A lock on a SQLite file that was written this recently belongs to a working writer, not to a stuck one.
RECENT_WRITE_SECONDS = 10.0
LEAST_FREE_BYTES = 4 * 1024 * 1024
_UNREACHABLE = "the database does not answer"

log = logging.getLogger("optimizely_api.services")


class Health:
    """The state of one database, checked at most once in KEPT_SECONDS."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._checking = asyncio.Lock()
        self._checked_at = -KEPT_SECONDS
        self._problem: str | None = None

    async def problem(self) -> str | None:
        """Why the service cannot read or write its database, as a sentence; None when it can.

        Returns within about DEADLINE_SECONDS, however many writers there are.
        """
        async with self._checking:
            now = time.monotonic()
            if now - self._checked_at >= KEPT_SECONDS:
                self._problem = await self._check()
                self._checked_at = time.monotonic()
            return self._problem

    async def _check(self) -> str | None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                problem = await self._find_problem()
        except TimeoutError:
            problem = f"{_UNREACHABLE} within {DEADLINE_SECONDS:g} seconds"
        except Exception as exc:
            # Every error of the driver means the same here; its text goes to the log only.
            log.warning("not healthy: %s: %s", _UNREACHABLE, exc)
            return _UNREACHABLE
        if problem:
            log.warning("not healthy: %s", problem)
        return problem

    async def _find_problem(self) -> str | None:
        if self._database.is_sqlite:
            return await asyncio.to_thread(sqlite_problem, Path(self._database.engine.url.database or ""))
        return await self._postgresql_problem()

    async def _postgresql_problem(self) -> str | None:
        async with self._database.engine.connect() as connection:
            state = (await connection.execute(text("SHOW transaction_read_only"))).scalar_one()
        return None if state == "off" else "the database is read-only"


def sqlite_problem(path: Path) -> str | None:
    """Why the SQLite database at `path` cannot be written, None when it can. Raises sqlite3.Error if it cannot be read.

    Uses its own connection, since the pooled ones may all be busy, and rolls its write back.
    """
    disk = os.statvfs(path.parent)
    if disk.f_flag & os.ST_RDONLY:
        return "the database is on a read-only file system"
    if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
        return "the database's disk is full"
    uri = f"{path.as_uri()}?mode=rw"
    with closing(
        sqlite3.connect(uri, uri=True, timeout=LOCK_WAIT_SECONDS, isolation_level=None)
    ) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        try:
            connection.execute("BEGIN IMMEDIATE")
            # BEGIN alone succeeds on a read-only database.
            connection.execute("PRAGMA user_version = 1")
        except sqlite3.OperationalError as exc:
            kind = exc.sqlite_errorcode & 0xFF
            if kind == sqlite3.SQLITE_BUSY:
                return None if _is_being_written(path) else "the database is locked"
            if kind == sqlite3.SQLITE_READONLY:
                return "the database is read-only"
            raise
        connection.execute("ROLLBACK")
    return None


def _is_being_written(path: Path) -> bool:
    try:
        written = path.with_name(f"{path.name}-wal").stat().st_mtime
    except FileNotFoundError:
        return False
    return abs(time.time() - written) < RECENT_WRITE_SECONDS
