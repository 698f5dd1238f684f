"""The few SQL statements that storing needs again and again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

_T = TypeVar("_T")

CHUNK = 2_000  # members of one IN list; both databases take many more


def upsert(connection: Connection, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT, which SQLAlchemy spells per database."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def insert_missing(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert the rows that are not there yet."""
    if rows:
        connection.execute(upsert(connection, table).on_conflict_do_nothing(), rows)


def chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    """The items in lists of at most CHUNK, for IN."""
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
