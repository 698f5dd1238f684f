"""Lists in SQL: the number of matching rows, and one page of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.query import Page


async def fetch_page_at_once(
    connection: AsyncConnection, query: Select[Any], order: ColumnElement[Any], page: Page
) -> tuple[int, list[Row[Any]]]:
    """As `fetch_page`, in one statement: cheaper where to find the rows costs more than to sort them.

    The rows have `total` as a further column.
    """
    counted = query.add_columns(func.count().over().label("total"))
    rows = (await connection.execute(counted.order_by(order).limit(page.size).offset(page.offset))).all()
    # A page behind the last has no row to say how many there are.
    return (rows[0].total, list(rows)) if rows else await fetch_page(connection, query, order, page)


async def fetch_page(
    connection: AsyncConnection, query: Select[Any], order: ColumnElement[Any], page: Page
) -> tuple[int, list[Row[Any]]]:
    """The number of rows of `query`, and the rows of the page in `order`; consistent inside a snapshot."""
    # Without columns and order: they would be read and sorted for every row, and no index is enough to count by.
    counted = query.with_only_columns(func.count(), maintain_column_froms=True).order_by(None)
    total = (await connection.execute(counted)).scalar_one()
    rows = await connection.execute(query.order_by(order).limit(page.size).offset(page.offset))
    return total, list(rows.all())
