"""What the storage relies on of SQLAlchemy's and aiosqlite's cursors, and of asyncpg's connections."""

from __future__ import annotations

import aiosqlite
import asyncpg
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection, AsyncAdapt_dbapi_cursor

from optimizely_api.foreign_names import Reliance

CURSORS = "running a SQLite statement in one visit to its thread"
STOPPING = "waiting for the threads of connections that were given up"
SQLALCHEMY = Reliance(
    "SQLAlchemy",
    "install SQLAlchemy>=2.1,<3",  # as in setup.py
    used={AsyncAdapt_dbapi_cursor: dict.fromkeys(("_connection", "_cursor", "_rows"), CURSORS)},
    overridden={
        AsyncAdapt_dbapi_connection: {"_cursor_cls": CURSORS},
        AsyncAdapt_dbapi_cursor: dict.fromkeys(
            (
                "_aenter_cursor",
                "_awaitable_cursor_close",
                "_execute_async",
                "_executemany_async",
                "_make_new_cursor",
            ),
            CURSORS,
        ),
    },
)
AIOSQLITE = Reliance(
    "aiosqlite",
    "install aiosqlite>=0.22.1",  # as in setup.py
    used={aiosqlite.Connection: dict.fromkeys(("_conn", "_execute"), CURSORS) | {"stop": STOPPING}},
)
ASYNCPG = Reliance(
    "asyncpg",
    "install asyncpg>=0.30",  # as in setup.py
    used={asyncpg.Connection: {"_transport": "noticing that the machine of the database is lost"}},
)


def check() -> None:
    """Raise ReleaseDoesNotFit where a name is gone."""
    SQLALCHEMY.check()
    AIOSQLITE.check()
    ASYNCPG.check()
