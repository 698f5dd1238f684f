"""How often experiments and features use other entities."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments.search.index import use_of
from optimizely_api.services.experiments.tables import uses


async def counts_of_users(connection: AsyncConnection, kind: str, ids: Sequence[int]) -> dict[int, int]:
    """{id of the kind: how many experiments and features that are not archived use it}."""
    if not ids:
        return {}
    names = {use_of(kind, number): number for number in ids}
    query = select(uses.c.used, func.count().label("number"))
    query = query.where(uses.c.used.in_(names), uses.c.archived.is_(False)).group_by(uses.c.used)
    found = {names[row.used]: row.number for row in await connection.execute(query)}
    return {number: found.get(number, 0) for number in ids}
