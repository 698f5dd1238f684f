"""The states of requests in SQL. Every function runs in the transaction of its connection."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.errors import not_found
from optimizely_api.services.projects.lease import Lease
from optimizely_api.services.projects.tables import (
    subject_access_exports,
    subject_access_lease,
    subject_access_requests,
)

UNFINISHED = ("pending", "processing")
KEPT = timedelta(days=7)  # exports, from their completion on
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


async def fail(connection: AsyncConnection, request_id: int, now: datetime) -> None:
    """End a request as one that could not be done."""
    await _change(connection, request_id, status="failure", completed_at_time=now)


async def complete(
    connection: AsyncConnection, request_id: int, now: datetime, export: bytes | None, location: str
) -> None:
    """End a request; `export` is the ZIP file of one that asks to see data, and will be at `location`."""
    values: dict[str, Any] = {"status": "completed", "completed_at_time": now}
    if export is not None:
        values |= {"expired_at_time": now + KEPT, "export_location": location}
    if await _change(connection, request_id, **values) and export is not None:
        row = {"request_id": request_id, "content": export, "expires": now + KEPT}
        await connection.execute(insert(subject_access_exports).values(**row))


async def _change(connection: AsyncConnection, request_id: int, **values: Any) -> bool:
    unfinished = columns.id == request_id, columns.status.in_(UNFINISHED)
    changed = await connection.execute(update(subject_access_requests).where(*unfinished).values(**values))
    return changed.rowcount == 1


async def get_export(connection: AsyncConnection, request_id: int, now: datetime) -> bytes:
    """The ZIP file of a request; 404 where there is none, or no longer."""
    exports = subject_access_exports.c
    query = select(exports.content).where(exports.request_id == request_id, exports.expires > now)
    content = (await connection.execute(query)).scalar_one_or_none()
    if content is None:
        raise not_found("export of subject access request", request_id)
    return bytes(content)


async def forget_expired(connection: AsyncConnection, now: datetime) -> None:
    """Remove the exports that have expired."""
    await connection.execute(delete(subject_access_exports).where(subject_access_exports.c.expires <= now))
