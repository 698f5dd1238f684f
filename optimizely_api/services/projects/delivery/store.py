"""Deliveries, positions in feeds and the lease in SQL. Every function runs in the transaction of its connection."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.times import format_time
from optimizely_api.services.http.errors import not_found
from optimizely_api.services.http.query import Page
from optimizely_api.services.projects.delivery.messages import Message
from optimizely_api.services.projects.delivery.tables import deliveries, feeds, lease
from optimizely_api.services.projects.environments import ENVIRONMENTS
from optimizely_api.services.projects.lease import Lease
from optimizely_api.services.projects.webhooks import WEBHOOKS
from optimizely_api.services.storage.paging import fetch_page
from optimizely_api.services.storage.rows import fetch_row

KEPT = timedelta(days=30)  # deliveries that are over, for those who look for them
MAX_WEBHOOKS_ASKED = 500  # in one statement: SQLite and PostgreSQL limit its parameters

webhooks = WEBHOOKS.table
columns = deliveries.c


class LeaseLost(Exception):
    """Another sender works."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A pending delivery, and what its webhook is now."""

    id: int
    uuid: str
    webhook_id: int
    event: str
    body: str
    attempts: int
    created: datetime
    webhook: Mapping[str, Any]
    webhook_version: datetime

    @property
    def is_wanted(self) -> bool:
        """Whether the webhook still listens to such events."""
        return self.event in self.webhook["events"]


# The lease


async def has_webhooks(connection: AsyncConnection) -> bool:
    """Whether there is anything to do for a sender."""
    return (await connection.execute(select(webhooks.c.id).limit(1))).first() is not None


LEASE = Lease(lease)


# From feeds to deliveries


async def position(connection: AsyncConnection, feed: str) -> int:
    """The last id of the feed that has been read; 0 at the beginning."""
    query = select(feeds.c.position).where(feeds.c.name == feed)
    return (await connection.execute(query)).scalar_one_or_none() or 0


async def projects_listening(connection: AsyncConnection, event: str) -> list[int]:
    """The projects with a webhook that listens to the event."""
    listens = webhooks.c.document["events"].as_string().contains(f'"{event}"', autoescape=True)
    query = select(webhooks.c.project_id).where(listens).distinct().order_by(webhooks.c.project_id)
    return list((await connection.execute(query)).scalars())


async def environment_names(connection: AsyncConnection, ids: Collection[int]) -> dict[int, str]:
    """The names of environments by their ids, as far as they are known."""
    table = ENVIRONMENTS.table
    rows = await connection.execute(select(table.c.id, table.c.name).where(table.c.id.in_(ids)))
    return {row.id: row.name for row in rows}


async def store_messages(
    connection: AsyncConnection,
    holder: str,
    feed: str,
    read_up_to: int,
    messages: Iterable[Message],
    now: datetime,
) -> None:
    """Store a delivery for each webhook that listens to a message, and how far the feed is read.

    Raises LeaseLost unless `holder` has the lease, which nobody else can take before the transaction ends.
    """
    row = (await connection.execute(select(lease.c.holder).with_for_update())).one()
    if row.holder != holder:
        raise LeaseLost
    messages = list(messages)
    listening = await _webhooks_of(connection, {message.project_id for message in messages})
    rows = [
        {
            "uuid": str(uuid.uuid4()),
            "webhook_id": webhook.id,
            "event": message.event,
            "body": message.body,
            "state": "pending",
            "attempts": 0,
            "created": now,
            # Whatever the other service's clock says.
            "next_attempt": min(max(now, message.created + message.wait), now + message.wait),
        }
        for message in messages
        for webhook in listening.get(message.project_id, ())
        # A webhook hears nothing of what was before it, also if that is read late.
        if message.event in webhook.document["events"] and message.created >= webhook.created
    ]
    if rows:
        await connection.execute(insert(deliveries), rows)
    moved = await connection.execute(update(feeds).where(feeds.c.name == feed).values(position=read_up_to))
    if moved.rowcount == 0:
        await connection.execute(insert(feeds).values(name=feed, position=read_up_to))


async def _webhooks_of(connection: AsyncConnection, project_ids: set[int]) -> dict[int, list[Row[Any]]]:
    found: dict[int, list[Row[Any]]] = {}
    ids = sorted(project_ids)
    for start in range(0, len(ids), MAX_WEBHOOKS_ASKED):
        some = webhooks.c.project_id.in_(ids[start : start + MAX_WEBHOOKS_ASKED])
        for row in await connection.execute(select(webhooks).where(some).order_by(webhooks.c.id)):
            found.setdefault(row.project_id, []).append(row)
    return found


# From deliveries to their ends


async def first_attempts(connection: AsyncConnection, now: datetime) -> dict[int, datetime]:
    """When each webhook's first pending delivery may be attempted, by the webhooks' ids."""
    both = webhooks.join(deliveries, columns.id == _first_of(webhooks.c.id))
    query = select(webhooks.c.id, columns.next_attempt, _is_due(now).label("is_due")).select_from(both)
    rows = await connection.execute(query)
    return {row.id: min(now, row.next_attempt) if row.is_due else row.next_attempt for row in rows}


async def due_delivery(connection: AsyncConnection, webhook_id: int, now: datetime) -> Delivery | None:
    """The first pending delivery of a webhook, if it may be attempted now."""
    of_delivery = (columns.id, columns.uuid, columns.event, columns.body, columns.attempts, columns.created)
    both = deliveries.join(webhooks, webhooks.c.id == columns.webhook_id)
    query = select(*of_delivery, webhooks.c.document, webhooks.c.last_modified).select_from(both)
    first = query.where(columns.id == _first_of(webhook_id), _is_due(now))
    row = (await connection.execute(first)).one_or_none()
    if row is None:
        return None
    return Delivery(
        id=row.id,
        uuid=row.uuid,
        webhook_id=webhook_id,
        event=row.event,
        body=row.body,
        attempts=row.attempts,
        created=row.created,
        webhook=row.document,
        webhook_version=row.last_modified,
    )


def _first_of(webhook_id: Any) -> Any:
    others = deliveries.alias()
    query = select(func.min(others.c.id)).correlate(webhooks)
    return query.where(others.c.webhook_id == webhook_id, others.c.state == "pending").scalar_subquery()


def _is_due(now: datetime) -> Any:
    # Whoever has just corrected a webhook's address need not wait for the next attempt.
    return or_(columns.next_attempt <= now, webhooks.c.last_modified != columns.tried_version)


async def finish(
    connection: AsyncConnection, delivery: Delivery, state: str, now: datetime, error: str | None = None
) -> None:
    """End a delivery: `delivered`, `given_up` or `dropped`."""
    attempts = delivery.attempts + (state != "dropped")
    values = {"state": state, "attempts": attempts, "last_attempt": now, "next_attempt": None}
    await _change(connection, delivery, {**values, "last_error": error})


async def postpone(
    connection: AsyncConnection, delivery: Delivery, until: datetime, now: datetime, error: str
) -> None:
    """Store a failed attempt and the time of the next."""
    values = {"attempts": delivery.attempts + 1, "last_attempt": now, "next_attempt": until}
    tried = {"tried_version": delivery.webhook_version}
    await _change(connection, delivery, {**values, **tried, "last_error": error})


async def _change(connection: AsyncConnection, delivery: Delivery, values: dict[str, Any]) -> None:
    # No row any more: the webhook was deleted during the attempt.
    await connection.execute(update(deliveries).where(columns.id == delivery.id).values(**values))


async def forget_old(connection: AsyncConnection, now: datetime) -> None:
    """Remove the deliveries that were over KEPT ago."""
    is_over = columns.state.in_(("delivered", "given_up", "dropped"))
    await connection.execute(delete(deliveries).where(is_over, columns.last_attempt < now - KEPT))


# For operators


async def list_deliveries(
    connection: AsyncConnection, webhook_id: int, page: Page
) -> tuple[int, list[dict[str, Any]]]:
    """The number of a webhook's deliveries, and a page of them, newest first; 404 for an unknown webhook."""
    await fetch_row(connection, webhooks, webhook_id, WEBHOOKS.noun)
    query = select(deliveries).where(columns.webhook_id == webhook_id)
    total, rows = await fetch_page(connection, query, columns.id.desc(), page)
    return total, [_json(row) for row in rows]


async def change_secret(connection: AsyncConnection, webhook_id: int, secret: str) -> None:
    """Sign all further calls with another secret; 404 for an unknown webhook."""
    row = await fetch_row(connection, webhooks, webhook_id, WEBHOOKS.noun, for_update=True)
    changed = await connection.execute(
        update(webhooks)
        .where(webhooks.c.id == webhook_id)
        .values(document={**row.document, "secret": secret})
    )
    if changed.rowcount == 0:
        raise not_found(WEBHOOKS.noun, webhook_id)


def _json(row: Row[Any]) -> dict[str, Any]:
    times = {name: getattr(row, name) for name in ("created", "last_attempt", "next_attempt")}
    return {
        "id": row.uuid,
        "event": row.event,
        "state": row.state,
        "attempts": row.attempts,
        **{name: None if moment is None else format_time(moment) for name, moment in times.items()},
        "last_error": row.last_error,
    }
