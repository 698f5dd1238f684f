"""Experiments that run, which keep what they use out of the archive."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments import shapes
from optimizely_api.services.experiments.search.index import use_of
from optimizely_api.services.experiments.tables import experiments, uses

READ_AT_ONCE = 50


async def running_user(connection: AsyncConnection, kind: str, entity_id: int) -> int | None:
    """The first experiment by id that uses the entity and runs now in some environment, its campaign paused or not.

    Only experiments are read that use it and may run: those that await their schedule, or that it has ended, are few.
    """
    this_one = uses.c.used == use_of(kind, entity_id)
    query = select(experiments).join(uses, uses.c.entity_id == experiments.c.id)
    query = query.where(this_one, uses.c.active, ~uses.c.archived).order_by(uses.c.entity_id)
    last, now = 0, datetime.now(UTC)
    while True:
        some = query.where(uses.c.entity_id > last).limit(READ_AT_ONCE)
        rows = (await connection.execute(some)).all()
        if running := next((row.id for row in rows if shapes.runs_somewhere(row, now)), None):
            return int(running)
        if len(rows) < READ_AT_ONCE:
            return None
        last = rows[-1].id
