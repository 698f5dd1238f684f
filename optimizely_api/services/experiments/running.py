"""Experiments that run, which keep what they use out of the archive."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments import shapes
from optimizely_api.services.experiments.tables import experiments


async def running_experiments(connection: AsyncConnection, project_id: int) -> list[Row[Any]]:
    """The project's experiments that run now in some environment, also those whose campaign is paused, by id."""
    query = select(experiments).where(
        experiments.c.project_id == project_id, experiments.c.status != "archived"
    )
    now = datetime.now(UTC)
    rows = await connection.execute(query.order_by(experiments.c.id))
    return [row for row in rows if shapes.runs_somewhere(row, now)]
