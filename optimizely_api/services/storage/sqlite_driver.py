"""SQLite with one visit to the connection's thread for each statement.

SQLAlchemy's cursor makes four: it opens the driver's cursor, executes, fetches and closes. Each visit is a switch of
threads and back, which costs more CPU than a small statement.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)

LONGEST_STOP_SECONDS = 10.0


@dataclass
class _Closed:
    """What is left of a cursor after its statement; before it, nothing."""

    description: Any = None
    rowcount: int = -1
    lastrowid: Any = None
    arraysize: int = 1

    def close(self) -> None:
        """There is nothing to close."""


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    __slots__ = ()

    _awaitable_cursor_close: bool = False

    def _make_new_cursor(self, connection: Any) -> Any:
        return _Closed()

    def _aenter_cursor(self, cursor: Any) -> Any:
        return cursor

    async def _execute_async(self, operation: Any, parameters: Any) -> None:
        await self._visit(lambda cursor: cursor.execute(operation, parameters or ()))

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> None:
        await self._visit(lambda cursor: cursor.executemany(operation, seq_of_parameters))

    async def _visit(self, work: Callable[[sqlite3.Cursor], Any]) -> None:
        driver: Any = self._connection
        try:
            self._cursor, rows = await driver._execute(_run, driver._conn, work)
        except asyncio.CancelledError:
            driver._conn.interrupt()  # nobody needs its rows, and the rollback waits for its end
            raise
        self._rows = deque(rows)


def _run(connection: sqlite3.Connection, work: Callable[[sqlite3.Cursor], Any]) -> tuple[_Closed, list[Any]]:
    cursor = connection.cursor()
    try:
        work(cursor)
        rows = cursor.fetchall() if cursor.description else []
        return _Closed(cursor.description, cursor.rowcount, cursor.lastrowid), rows
    finally:
        cursor.close()


class _Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()

    _cursor_cls: type[Any] = _Cursor


class Driver(AsyncAdapt_aiosqlite_dbapi):
    """The `module` of an engine for SQLite."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)
        self._stopping: set[asyncio.Future[Any]] = set()

    def connect(self, *arg: Any, **kw: Any) -> _Connection:
        """Open the file as SQLAlchemy does, with cursors of ours."""
        return _Connection(self, super().connect(*arg, async_creator_fn=self._open, **kw)._connection)

    def _open(self, *arg: Any, **kw: Any) -> aiosqlite.Connection:
        connection = aiosqlite.connect(*arg, **kw)
        connection._thread.daemon = True  # as SQLAlchemy has it
        stop = connection.stop

        def stop_and_remember() -> Any:
            stopping = stop()
            if stopping is not None:
                self._stopping.add(stopping)
                stopping.add_done_callback(self._stopping.discard)
            return stopping

        connection.stop = stop_and_remember  # type: ignore[method-assign]
        return connection

    async def stopped(self) -> None:
        """Wait for the threads of connections that were given up in the middle of their work.

        Nobody else waits for them, and a thread that ends after the event loop dies with a traceback.
        """
        if self._stopping:
            await asyncio.wait(self._stopping, timeout=LONGEST_STOP_SECONDS)
