"""Whether a service can do its work now: read its database, and write to it."""

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
KEPT_SECONDS = 1.0  # however often one asks, the database is asked once in this time
LOCK_WAIT_SECONDS = 1.0  # for the SQLite writers before
# A SQLite file that is locked can still be written when somebody has just written it.
RECENT_WRITE_SECONDS = 10.0
LEAST_FREE_BYTES = 4 * 1024 * 1024
_UNREACHABLE = "the database does not answer"

log = logging.getLogger("optimizely_api.services")


class Health:
    """The state of one database, asked for at most once in KEPT_SECONDS."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asking = asyncio.Lock()
        self._asked_at = -KEPT_SECONDS
        self._trouble: str | None = None

    async def trouble(self) -> str | None:
        """What keeps the service from its work, in a sentence; None when nothing does.

        Answers within DEADLINE_SECONDS, however much is being written.
        """
        async with self._asking:
            now = time.monotonic()
            if now - self._asked_at >= KEPT_SECONDS:
                self._trouble = await self._ask()
                self._asked_at = time.monotonic()
            return self._trouble

    async def _ask(self) -> str | None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                trouble = await self._find_trouble()
        except TimeoutError:
            trouble = f"{_UNREACHABLE} within {DEADLINE_SECONDS:g} seconds"
        except Exception as exc:
            # Whatever the driver raises means the same here; what it says is for the log alone.
            log.warning("not healthy: %s: %s", _UNREACHABLE, exc)
            return _UNREACHABLE
        if trouble:
            log.warning("not healthy: %s", trouble)
        return trouble

    async def _find_trouble(self) -> str | None:
        if self._database.is_sqlite:
            return await asyncio.to_thread(sqlite_trouble, Path(self._database.engine.url.database or ""))
        return await self._postgresql_trouble()

    async def _postgresql_trouble(self) -> str | None:
        async with self._database.engine.connect() as connection:
            state = (await connection.execute(text("SHOW transaction_read_only"))).scalar_one()
        return None if state == "off" else "the database is read-only"


def sqlite_trouble(path: Path) -> str | None:
    """What keeps the SQLite database at `path` from being written; raises sqlite3.Error when it cannot be read.

    Asks on a connection of its own, since the pooled ones may all be busy, and leaves nothing written.
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
            # Beginning alone succeeds on a database that can only be read.
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
