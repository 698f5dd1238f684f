"""Names that are unique in a project, of entities that have no key."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection


async def name_problems(
    connection: AsyncConnection, table: Table, entity: dict[str, Any], *, among_archived: bool
) -> list[tuple[str, str]]:
    """The problem that another entity of the project has the name; archived ones count with `among_archived`."""
    columns = table.c
    query = select(columns.id).where(
        columns.project_id == entity["project_id"],
        columns.name == entity["name"],
        columns.id != entity["id"],
    )
    if not among_archived:
        query = query.where(columns.archived.is_(False))
    holder = (await connection.execute(query.order_by(columns.id).limit(1))).scalar_one_or_none()
    # The same words as for keys: clients look for them, and go on with the entity of that id.
    return [] if holder is None else [("/name", f"is already in use (id: {holder})")]
