"""Events in SQL. Every function works inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.times import format_time
from optimizely_api.services.experiments.tables import events, next_ids
from optimizely_api.services.http.application import Page, not_found
from optimizely_api.services.schema import field_error
from optimizely_api.services.storage.ids import allocate_ids
from optimizely_api.services.storage.paging import fetch_page

COLUMNS = ("account_id", "project_id", "key", "name", "is_classic", "archived")


async def create_event(connection: AsyncConnection, given: dict[str, Any], at: datetime) -> dict[str, Any]:
    """Add an event from checked input; without a name it is called by its key."""
    defaults = {"archived": False, "category": "other", "event_type": "custom", "is_classic": False}
    event = {**defaults, "key": None, **given}
    event.setdefault("name", event["key"])
    if not event["name"]:
        raise field_error("/name", "an event needs a name or a key")
    (event_id,) = await allocate_ids(connection, next_ids)
    columns = {name: event.pop(name) for name in COLUMNS}
    await connection.execute(
        insert(events).values(id=event_id, document=event, created=at, last_modified=at, **columns)
    )
    return await get_event(connection, event_id)


async def get_event(connection: AsyncConnection, event_id: int) -> dict[str, Any]:
    """One event in the contract's shape, and its account; 404 when there is none."""
    row = (await connection.execute(select(events).where(events.c.id == event_id))).one_or_none()
    if row is None:
        raise not_found("event", event_id)
    return _event(row)


async def list_events(
    connection: AsyncConnection, filters: dict[str, int], include_classic: bool, page: Page
) -> tuple[int, list[dict[str, Any]]]:
    """How many events match, and a page of them."""
    query = select(events).where(*(events.c[name] == value for name, value in filters.items()))
    if not include_classic:
        query = query.where(events.c.is_classic.is_(False))
    total, rows = await fetch_page(connection, query, events.c.id, page)
    return total, [_event(row) for row in rows]


async def event_names(
    connection: AsyncConnection, event_ids: Iterable[int], project_id: int | None = None
) -> dict[int, str]:
    """The names of those of the events that exist (in the project, if one is given)."""
    wanted = sorted(event_ids)
    if not wanted:
        return {}
    query = select(events.c.id, events.c.name).where(events.c.id.in_(wanted))
    if project_id is not None:
        query = query.where(events.c.project_id == project_id)
    rows = await connection.execute(query)
    return {row.id: row.name for row in rows}


def _event(row: Row[Any]) -> dict[str, Any]:
    return {
        **row.document,
        **({} if row.key is None else {"key": row.key}),
        "id": row.id,
        "account_id": row.account_id,
        "project_id": row.project_id,
        "name": row.name,
        "archived": row.archived,
        "is_classic": row.is_classic,
        "is_editable": not row.is_classic,
        "created": format_time(row.created),
        "last_modified": format_time(row.last_modified),
    }
