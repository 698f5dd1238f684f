"""Events that senders name by their key alone: which event a key is.

Browsers and small clients leave an event's id out, or send its key in its place, but metrics name ids. The keys are the
experiments service's: a task of the results service reads them from its feed of changes into `event_key`, and whoever
stores a batch looks there, also the public port, whose processes have no key to call a service with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import aiohttp
from aiohttp import web
from sqlalchemy import Connection, Select, bindparam, select, update

from optimizely_api.services.http.addresses import experiments_url
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.feed_reader import TIMEOUT, FeedFailed, Items, read_feed
from optimizely_api.services.results.ingest.batches import Batch, Event
from optimizely_api.services.results.statements import Lookup, OneOf, chunks, paced, write
from optimizely_api.services.results.tables import EVENT_KEY, FEED_POSITION
from optimizely_api.services.storage.database import Database, is_unavailable
from optimizely_api.services.storage.rows import upsert
from optimizely_api.services_key import authorization, read_keys

KINDS = frozenset({"event", "page"})  # that a page is seen is an event, too
PAUSE_SECONDS = 1.0

log = logging.getLogger("optimizely_api.services.results")


@Lookup
def _event_ids(one_of: OneOf) -> Select[Any]:
    c = EVENT_KEY.c
    return select(c.key, c.event_id).where(c.project_id == bindparam("project_id"), one_of(c.key, "keys"))


def name_events(connection: Connection, batches: Sequence[Batch]) -> None:
    """Give the events that have a key and no id the id of the project's event with this key.

    One whose key is unknown stays without an id, and counts for no metric that names an event. The ids stay when the
    transaction is rolled back; `Event.is_named` says which were given here.
    """
    nameless: dict[tuple[int, str], list[Event]] = {}
    for batch in batches:
        if batch.project_id is not None:
            for event in paced(batch.events):
                if event.entity_id is None and event.key is not None and not event.is_impression:
                    nameless.setdefault((batch.project_id, event.key), []).append(event)
    for project_id, key, event_id in _known(connection, nameless):
        for event in nameless.get((project_id, key), ()):
            event.entity_id, event.is_named = event_id, True


def _known(
    connection: Connection, wanted: dict[tuple[int, str], list[Event]]
) -> Iterator[tuple[int, str, int]]:
    keys: dict[int, list[str]] = {}
    for project_id, key in wanted:
        keys.setdefault(project_id, []).append(key)
    for project_id, of_project in keys.items():
        for chunk in chunks(of_project):
            for key, event_id in _event_ids.rows(connection, project_id=project_id, keys=chunk):
                yield project_id, key, event_id


async def with_event_keys(app: web.Application) -> AsyncIterator[None]:
    """Follow the keys of events for the life of the application."""
    url = experiments_url()
    if not url:
        log.info("no experiments service is named: events without an id count for no metric that names one")
        yield
        return
    headers = authorization(read_keys(os.environ)[0])
    async with aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session:
        task = asyncio.create_task(_follow(app[DATABASE], session, f"{url}/changes/feed"))
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _follow(database: Database, session: aiohttp.ClientSession, url: str) -> None:
    """Read the feed for ever; every worker does, and of those that read the same, one stores it."""
    has_failed = False
    while True:
        try:
            async with database.snapshot() as connection:
                before: int = (await connection.execute(select(FEED_POSITION.c.position))).scalar_one()
            last, items, _ = await read_feed(session, url, before)
            if last != before:
                async with database.transaction() as connection:
                    await connection.run_sync(store_keys, items, before, last)
            has_failed = False
        except Exception as exc:
            if not has_failed:  # one line for each time that it is away
                is_known = isinstance(exc, FeedFailed) or is_unavailable(exc)
                log.warning("the keys of events are not followed: %s", exc, exc_info=not is_known)
            has_failed = True
            await asyncio.sleep(PAUSE_SECONDS)


def store_keys(connection: Connection, items: Items, before: int, last: int) -> None:
    """Store the keys that changes give to events, unless another worker has stored them."""
    this_one = update(FEED_POSITION).where(FEED_POSITION.c.position == before)
    if connection.execute(this_one.values(position=last)).rowcount == 0:
        return
    # A later change wins. A former key goes on to name its event until another event takes it.
    keys = {
        (item["project_id"], detail["after"]): item["entity"]["id"]
        for item in items
        if item["entity"]["type"] in KINDS
        for detail in item["changes"]
        if detail["property"] == "key" and detail.get("after")
    }
    statement = upsert(connection.dialect.name, EVENT_KEY)
    statement = statement.on_conflict_do_update(
        index_elements=["project_id", "key"], set_={"event_id": statement.excluded.event_id}
    )
    rows = ((*owner, event_id) for owner, event_id in keys.items())
    write(connection, statement, rows)
