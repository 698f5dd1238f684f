"""Feeds: rows in the order of their ids, for another service that reads on from where it stopped.

A feed is asked with `after`, the last id that its reader has, and with `wait`, how many seconds the response may wait
while there is nothing: the reader gets news at once, and still sends few requests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from sqlalchemy import ColumnElement, Row, Table, func, select, text, true
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.times import format_time
from optimizely_api.services.http.application import CLOSING, DATABASE
from optimizely_api.services.http.query import read_integer
from optimizely_api.services.http.responses import JSONResponse
from optimizely_api.services.storage.database import Database

CLOCK = "X-Clock"  # header of a response: its time by the clock that dates the rows
MAX_ITEMS = 500
LONGEST_WAIT_SECONDS = 30
LOOK_SECONDS = 0.2  # between two looks into the database, into which other processes write too
WRITERS_SECONDS = 0.02  # between two looks whether transactions are over
# Who inserts into a table holds this lock until the end of the transaction, and had it before the id.
_WRITERS = text(
    "SELECT virtualtransaction FROM pg_locks WHERE relation = CAST(:name AS regclass) AND mode = 'RowExclusiveLock'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


async def feed_response(
    request: web.Request,
    table: Table,
    show: Callable[[Row[Any]], dict[str, Any]],
    where: ColumnElement[bool] | None = None,
) -> JSONResponse:
    """200 with `{"items": [...]}`: at most the query's `limit` rows of `table` after `after`, ordered by id.

    `where` says which rows of the table are in the feed.

    While there are none, the response waits for the query's `wait` seconds, but not at the end of the service.
    """
    after = read_integer(request, "after", minimum=0) or 0
    limit = read_integer(request, "limit", maximum=MAX_ITEMS) or MAX_ITEMS
    wait = read_integer(request, "wait", minimum=0, maximum=LONGEST_WAIT_SECONDS) or 0
    database, closing, loop = request.app[DATABASE], request.app[CLOSING], asyncio.get_running_loop()
    deadline = loop.time() + wait
    while True:
        seen = database.version()
        rows = await read_rows(database, table, after, limit, where)
        if rows or loop.time() >= deadline or closing.is_set():
            headers = {CLOCK: format_time(datetime.now(UTC))}
            return JSONResponse({"items": [show(row) for row in rows]}, headers=headers)
        while loop.time() < deadline and not closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(loop.time() + LOOK_SECONDS, deadline)):
                    await closing.wait()
            if database.may_have_changed(seen):
                break


async def read_rows(
    database: Database, table: Table, after: int, limit: int, where: ColumnElement[bool] | None = None
) -> Sequence[Row[Any]]:
    """The next rows of a feed, without those before which another one may still appear.

    PostgreSQL numbers rows when they are inserted and shows them when they are committed: row 5 may appear after row 6,
    and a reader that has row 6 would never get it. So a row counts when the transactions are over that were inserting
    when it was first seen. SQLite has one writer at a time.
    """
    in_feed = true() if where is None else where
    async with database.snapshot() as connection:
        newest = (await connection.execute(select(func.max(table.c.id)).where(in_feed))).scalar_one() or 0
        if newest <= after:
            return []
        if not database.is_sqlite:
            writers = await _writers(connection, table)
            while writers:  # the database tells nobody when a transaction ends
                await asyncio.sleep(WRITERS_SECONDS)
                writers &= await _writers(connection, table)
    query = select(table).where(in_feed, table.c.id > after, table.c.id <= newest)
    query = query.order_by(table.c.id).limit(limit)
    async with database.snapshot() as connection:
        return (await connection.execute(query)).all()


async def _writers(connection: AsyncConnection, table: Table) -> set[str]:
    return set((await connection.execute(_WRITERS, {"name": table.name})).scalars())
