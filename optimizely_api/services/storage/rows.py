"""Single rows in SQL, old ones, and INSERT with ON CONFLICT."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Row, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.errors import not_found

REMOVED_AT_ONCE = 100


async def fetch_row(
    connection: AsyncConnection, table: Table, row_id: int, noun: str, *, for_update: bool = False
) -> Row[Any]:
    """The row with this id, locked until the end of the transaction if `for_update`; 404 for an unknown id."""
    query = select(table).where(table.c.id == row_id)
    row = (await connection.execute(query.with_for_update() if for_update else query)).one_or_none()
    if row is None:
        raise not_found(noun, row_id)
    return row


@cache
def upsert(dialect: str, table: Table) -> Any:
    """An INSERT that supports ON CONFLICT, which SQLAlchemy has one of per database; it is made once."""
    return (sqlite if dialect == "sqlite" else postgresql).insert(table)


async def insert_missing(connection: AsyncConnection, table: Table, **values: Any) -> bool:
    """Insert a row, unless there is one of its primary or another unique key; returns whether it was inserted.

    On PostgreSQL it waits for another transaction that is about to insert the same key.
    """
    statement = upsert(connection.dialect.name, table).values(**values).on_conflict_do_nothing()
    inserted = await connection.execute(statement)
    return inserted.rowcount == 1


async def remove_older(connection: AsyncConnection, table: Table, than: datetime) -> None:
    """Delete up to REMOVED_AT_ONCE rows that were created before: enough, where each insert does it.

    Rows that another transaction is about to delete are left to it, so that no two wait for each other.
    """
    (key,) = table.primary_key
    old = select(key).where(table.c.created < than).order_by(table.c.created).limit(REMOVED_AT_ONCE)
    await connection.execute(delete(table).where(key.in_(old.with_for_update(skip_locked=True))))
