"""Single rows in SQL, by id."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.errors import not_found


async def fetch_row(
    connection: AsyncConnection, table: Table, row_id: int, noun: str, *, for_update: bool = False
) -> Row[Any]:
    """The row with this id, locked until the end of the transaction if `for_update`; 404 for an unknown id."""
    query = select(table).where(table.c.id == row_id)
    row = (await connection.execute(query.with_for_update() if for_update else query)).one_or_none()
    if row is None:
        raise not_found(noun, row_id)
    return row
