"""SQL statements that several modules share, and work in slices that yield to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from itertools import islice
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from optimizely_api.services.storage.rows import upsert

_T = TypeVar("_T")

CHUNK = 2_000  # members of one IN list; both databases allow many more
SLICE = 200  # items to process, or rows to prepare, between two yields to the event loop: some milliseconds


# Made once for each kind of database, as the other statements are: making one takes longer than running it for a row.
@cache
def _missing(dialect: str, table: Table) -> Any:
    return upsert(dialect, table).on_conflict_do_nothing()


def write(connection: Connection, statement: Any, rows: Iterable[dict[str, Any]]) -> None:
    """Execute an INSERT for every row, SLICE rows at a time; all rows have the same columns."""
    iterator = iter(rows)
    while row_slice := list(islice(iterator, SLICE)):
        sql, parameters = _for_driver(statement, connection.dialect, tuple(row_slice[0]))
        connection.exec_driver_sql(sql, [parameters(row) for row in row_slice])


# SQLAlchemy's own conversion of a row's values takes longer than SQLite takes to store them.
@lru_cache(maxsize=100)
def _for_driver(
    statement: Any, dialect: Dialect, columns: tuple[str, ...]
) -> tuple[str, Callable[[dict[str, Any]], tuple[Any, ...]]]:
    """The SQL of an INSERT of these columns, and what makes the driver's parameters of a row."""
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    in_order: Callable[[dict[str, Any]], tuple[Any, ...]] = itemgetter(*compiled.positiontup)
    constants = {name: value for name, value in compiled.params.items() if name not in columns}
    types = {name: statement.table.c[name].type.dialect_impl(dialect) for name in columns}
    conversions = {
        name: convert for name, of in types.items() if (convert := of.bind_processor(dialect)) is not None
    }
    if not constants and not conversions:
        return str(compiled), in_order

    def parameters(row: dict[str, Any]) -> tuple[Any, ...]:
        converted = {name: convert(row[name]) for name, convert in conversions.items()}
        return in_order({**constants, **row, **converted})

    return str(compiled), parameters


def insert_missing(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """Insert the rows that do not exist yet."""
    write(connection, _missing(connection.dialect.name, table), rows)


def chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    """The items in lists of at most CHUNK, for IN."""
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def paced(items: Iterable[_T]) -> Iterator[_T]:
    """Iterate over the items and yield to the event loop after every SLICE of them.

    That needs SQLAlchemy's `run_sync`, whose greenlet can await in the middle of synchronous code. In a thread of its
    own, work holds up nobody.
    """
    yields = in_greenlet()
    for number, item in enumerate(items, 1):
        yield item
        if yields and number % SLICE == 0:
            await_only(asyncio.sleep(0))
