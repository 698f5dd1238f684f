"""Experiments that run or have run, which keep what they use out of the archive or as it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments import shapes
from optimizely_api.services.experiments.search.index import use_of
from optimizely_api.services.experiments.tables import experiments, uses

READ_AT_ONCE = 50


async def running_user(connection: AsyncConnection, kind: str, entity_id: int) -> int | None:
    """The first experiment by id that uses the entity and runs now in some environment, its campaign paused or not.

    Only experiments are read that use it and may run: those that await their schedule, or that it has ended, are few.
    """
    where = uses.c.active & ~uses.c.archived
    return await _first_user(connection, use_of(kind, entity_id), where, shapes.runs_somewhere)


async def started_test(connection: AsyncConnection, feature_id: int) -> int | None:
    """The first experiment by id that tests the feature and has started in some environment, archived ones too.

    Only experiments are read that have started, or that await their schedule: those are few.
    """
    in_environments = experiments.c.document["environments"].as_string()
    may_have_started = or_(
        experiments.c.earliest.is_not(None),
        experiments.c.awaits_start,
        *(in_environments.contains(f'"{name}"') for name in ("earliest", "awaits_start")),
    )
    return await _first_user(connection, use_of("feature", feature_id), may_have_started, shapes.has_started)


async def _first_user(
    connection: AsyncConnection,
    used: str,
    where: ColumnElement[bool],
    is_wanted: Callable[[Row[Any], datetime], bool],
) -> int | None:
    query = select(experiments).join(uses, uses.c.entity_id == experiments.c.id)
    query = query.where(uses.c.used == used, where).order_by(uses.c.entity_id)
    last, at_once, now = 0, 1, datetime.now(UTC)  # most often the first one is wanted
    while True:
        some = query.where(uses.c.entity_id > last).limit(at_once)
        rows = (await connection.execute(some)).all()
        if found := next((row.id for row in rows if is_wanted(row, now)), None):
            return int(found)
        if len(rows) < at_once:
            return None
        last, at_once = rows[-1].id, READ_AT_ONCE
