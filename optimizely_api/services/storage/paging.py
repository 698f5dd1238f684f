"""Lists in SQL: the number of matching rows, and one page of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.query import Page


async def fetch_page(
    connection: AsyncConnection, query: Select[Any], order: ColumnElement[Any], page: Page
) -> tuple[int, list[Row[Any]]]:
    """The number of rows of `query`, and the rows of the page in `order`; consistent inside a snapshot."""
    # Without columns and order: they would be read and sorted for every row, and no index is enough to count by.
    counted = query.with_only_columns(func.count(), maintain_column_froms=True).order_by(None)
    total = (await connection.execute(counted)).scalar_one()
    rows = await connection.execute(query.order_by(order).limit(page.size).offset(page.offset))
    return total, list(rows.all())
