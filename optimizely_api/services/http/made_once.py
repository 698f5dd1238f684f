"""What a caller wants made once is made once, however often it is asked for.

A POST with an `Idempotency-Key` names an operation of the gateway. The operation and what it made are stored in the
transaction that makes it, so that neither is ever there without the other; the next POST of the same operation brings
what the first one made, as it was then, and makes nothing. A second one at the same time waits for the first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from alembic.operations import Operations
from sqlalchemy import JSON, Column, Index, MetaData, String, Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.storage.database import UtcTime
from optimizely_api.services.storage.rows import insert_missing, remove_older

# Longer than the gateway's keys: an operation that it still knows is never forgotten here.
KEPT = timedelta(hours=48)

TABLE = "made_once"


def made_once_table(metadata: MetaData) -> Table:
    """The table of the operations that have made something."""
    return Table(
        TABLE,
        metadata,
        Column("operation", String(64), primary_key=True),
        Column("entity", JSON, nullable=False),
        Column("created", UtcTime, nullable=False),
        Index("ix_made_once_created", "created"),
    )


def create_made_once_table(op: Operations | Any) -> None:
    """Create the table inside a migration. A later change of it needs a new function beside this one."""
    made_once_table(metadata := MetaData())
    metadata.create_all(op.get_bind())


_MADE = made_once_table(MetaData())  # equal in every service


async def made_once(
    request: web.Request, connection: AsyncConnection, make: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    """What `make` makes, or has made for the same operation; call it inside the transaction that makes it."""
    operation = request.headers.get("Idempotency-Key", "")
    if not operation:
        return await make()
    now = datetime.now(UTC)
    await remove_older(connection, _MADE, now - KEPT)
    # Inserted first, so that a second transaction of the operation waits for this one to end.
    if not await insert_missing(connection, _MADE, operation=operation, entity={}, created=now):
        query = select(_MADE.c.entity).where(_MADE.c.operation == operation)
        made: dict[str, Any] = (await connection.execute(query)).scalar_one()
        return made
    entity = await make()
    await connection.execute(update(_MADE).where(_MADE.c.operation == operation).values(entity=entity))
    return entity
