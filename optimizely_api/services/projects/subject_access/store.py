"""The states of requests in SQL. Every function runs in the transaction of its connection."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.projects.lease import Lease
from optimizely_api.services.projects.tables import subject_access_lease, subject_access_requests

UNFINISHED = ("pending", "processing")
DONE_HERE = ("delete",)  # somebody has to do the others by hand
LEASE = Lease(subject_access_lease)

columns = subject_access_requests.c


async def next_request(connection: AsyncConnection, postponed: Collection[int] = ()) -> Row[Any] | None:
    """The unfinished request with the smallest id, without those that are postponed."""
    query = select(subject_access_requests).where(
        columns.status.in_(UNFINISHED), columns.id.not_in(postponed)
    )
    return (await connection.execute(query.order_by(columns.id).limit(1))).first()


async def get_unfinished(connection: AsyncConnection, request_id: int) -> Row[Any] | None:
    """The request, unless it is finished."""
    query = select(subject_access_requests).where(columns.id == request_id, columns.status.in_(UNFINISHED))
    return (await connection.execute(query)).one_or_none()


async def begin(connection: AsyncConnection, request_id: int, now: datetime) -> None:
    """Note that a worker has begun; the time is that of the first one."""
    started = func.coalesce(columns.processing_started_time, now)
    await _change(connection, request_id, status="processing", processing_started_time=started)


async def finish(connection: AsyncConnection, request_id: int, status: str, now: datetime) -> None:
    """End a request: `completed` or `failure`."""
    await _change(connection, request_id, status=status, completed_at_time=now)


async def _change(connection: AsyncConnection, request_id: int, **values: Any) -> None:
    unfinished = columns.id == request_id, columns.status.in_(UNFINISHED)
    await connection.execute(update(subject_access_requests).where(*unfinished).values(**values))
