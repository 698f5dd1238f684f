"""What storing needs again and again: a few SQL statements, and work in slices that let others run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.util import await_only

_T = TypeVar("_T")

CHUNK = 2_000  # members of one IN list; both databases take many more
SLICE = 200  # items to work out, or rows to prepare, before the event loop gets its turn: some milliseconds


def upsert(connection: Connection, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT, which SQLAlchemy spells per database."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def write(connection: Connection, statement: Any, rows: Iterable[dict[str, Any]]) -> None:
    """Execute the statement for every row, a slice of them at a time."""
    iterator = iter(rows)
    while some := list(islice(iterator, SLICE)):
        connection.execute(statement, some)


def insert_missing(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """Insert the rows that are not there yet."""
    write(connection, upsert(connection, table).on_conflict_do_nothing(), rows)


def chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    """The items in lists of at most CHUNK, for IN."""
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def paced(items: Iterable[_T]) -> Iterator[_T]:
    """The items; after every SLICE of them the event loop runs what else is ready.

    Only inside SQLAlchemy's `run_sync`, which is what can wait in the middle of synchronous code.
    """
    for number, item in enumerate(items, 1):
        yield item
        if number % SLICE == 0:
            await_only(asyncio.sleep(0))
