"""SQL statements that several modules share, and work in slices that yield to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ARRAY, ColumnElement, Connection, Dialect, Select, Table, bindparam, func
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from optimizely_api.services.storage.rows import upsert

_T = TypeVar("_T")

CHUNK = 512  # values of one list in a statement
SLICE = 200  # items to process, or rows to prepare, between two yields to the event loop: some milliseconds

_Parameter = tuple[str, Any]  # its name, and the value of one that is a constant
OneOf = Callable[[ColumnElement[Any], str], ColumnElement[bool]]


class Lookup:
    """A SELECT for lists of values, whose SQL is made once: making it takes longer than running it for a few rows.

    PostgreSQL gets a list as an array. SQLite has no arrays: its SQL is made for lists of 1, 2, 4 ... CHUNK values.
    """

    def __init__(self, make: Callable[[OneOf], Select[Any]]) -> None:
        """`make` writes the condition that a column is one of the values of a parameter with the given function."""
        self._make = make
        self._made: dict[tuple[str, tuple[int, ...]], tuple[str, Sequence[_Parameter]]] = {}

    def rows(self, connection: Connection, **given: Any) -> Sequence[Any]:
        """The rows for these parameters; no list has more than CHUNK values."""
        return _execute(connection, *self.for_driver(connection.dialect, **given))

    def for_driver(self, dialect: Dialect, **given: Any) -> tuple[str, list[Any]]:
        """The SQL and its parameters, as the driver takes them."""
        sizes: dict[str, int] = {}
        if dialect.name == "sqlite":
            given = {name: _filled_up(it) if isinstance(it, list) else it for name, it in given.items()}
            sizes = {name: len(it) for name, it in given.items() if isinstance(it, list)}
        key = dialect.name, tuple(sizes.values())
        if key not in self._made:
            self._made[key] = self._compile(dialect, sizes)
        sql, parameters = self._made[key]
        values: list[Any] = []
        for name, constant in parameters:
            if name in sizes:
                values += given[name]
            else:
                values.append(given.get(name, constant))
        return sql, values

    def _compile(self, dialect: Dialect, sizes: dict[str, int]) -> tuple[str, Sequence[_Parameter]]:
        """The SQL and its parameters in order; the values of a list are one parameter."""
        lists = {f"{name}_{number}": name for name, size in sizes.items() for number in range(size)}

        def one_of(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
            if dialect.name != "sqlite":
                return column == func.any(bindparam(name, type_=ARRAY(column.type)))
            return column.in_([bindparam(value) for value, owner in lists.items() if owner == name])

        compiled = self._make(one_of).compile(dialect=dialect)
        names = (name for name in compiled.positiontup or () if name not in lists or name.endswith("_0"))
        return str(compiled), [(lists.get(name, name), compiled.params[name]) for name in names]


def _filled_up(values: list[_T]) -> list[_T]:
    """The values and the last one again, up to a power of two."""
    size = 1 << (len(values) - 1).bit_length()
    return values + values[-1:] * (size - len(values))


def _execute(connection: Connection, sql: str, parameters: list[Any]) -> Sequence[Any]:
    if connection.dialect.name != "sqlite":
        # SQLAlchemy must see its errors, to know a lost connection.
        return connection.exec_driver_sql(sql, tuple(parameters)).all()
    # SQLAlchemy's own work for a statement takes three times what a small one takes.
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql, parameters)
        return cursor.fetchall()
    finally:
        cursor.close()


def write(connection: Connection, statement: Any, rows: Iterable[tuple[Any, ...]]) -> None:
    """Execute an INSERT for every row, SLICE rows at a time.

    A row has the values of all columns in the order of the table, without an id that the database gives.
    """
    iterator = iter(rows)
    while row_slice := list(islice(iterator, SLICE)):
        sql = _insert(statement, connection.dialect)
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql(sql, row_slice)
            continue
        cursor = connection.connection.cursor()
        try:
            cursor.executemany(sql, row_slice)
        finally:
            cursor.close()


@lru_cache(maxsize=100)
def _insert(statement: Any, dialect: Dialect) -> str:
    columns = [column.key for column in statement.table.columns if column.autoincrement is not True]
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    if compiled.positiontup != columns:
        raise AssertionError(f"parameters other than the columns: {compiled}")
    return str(compiled)


# Made once for each kind of database, as the other statements are.
@cache
def _missing(dialect: str, table: Table) -> Any:
    return upsert(dialect, table).on_conflict_do_nothing()


def insert_missing(connection: Connection, table: Table, rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert the rows that do not exist yet."""
    write(connection, _missing(connection.dialect.name, table), rows)


def chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    """The items in lists of at most CHUNK."""
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
