"""The projects service's records of changes, copied into the history before it is read.

A record has the id that it has there (`origin_id`), of which no two are the same: each is copied once, whoever copies.
The greatest of these ids says how far the feed of the projects service has been read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
from aiohttp import web
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities.history import ORIGIN_ID, columns_of
from optimizely_api.services.experiments.change_counts import count_recorded
from optimizely_api.services.experiments.tables import changes
from optimizely_api.services.http.addresses import PROJECTS_URL, projects_url
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.errors import ServiceError
from optimizely_api.services.http.feed_reader import FeedFailed, Items, read_feed
from optimizely_api.services.storage.database import RECORDED, Database
from optimizely_api.services.storage.rows import insert_missing
from optimizely_api.services_key import authorization, read_keys

TIMEOUT = aiohttp.ClientTimeout(total=2.0)

log = logging.getLogger("optimizely_api.services.experiments")


class ProjectsFeed:
    """The feed of the projects service's changes; without an address it is empty."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._read = partial(read_feed, session, f"{url}/changes/feed", wait_seconds=0) if url else None

    async def copy_to(self, database: Database) -> None:
        """Store the records that are not here yet. Raises FeedFailed.

        Each response is a transaction of its own, so that a long feed is read on where a request gave up.
        """
        if self._read is None:
            return
        async with database.snapshot() as connection:
            last = (await connection.execute(select(func.max(changes.c.origin_id)))).scalar_one() or 0
        while True:
            before = last
            last, items, _ = await self._read(before)
            if last == before:
                return
            async with database.transaction() as connection:
                await _store(connection, items)


async def _store(connection: AsyncConnection, items: Items) -> None:
    """Add those of the records that no other request has added, and count them. Datafiles do not depend on them."""
    for item in items:
        values = columns_of(item)
        if await insert_missing(connection, changes, **values, **{ORIGIN_ID: item["id"]}):
            connection.info[RECORDED].append(values)
    await count_recorded(connection)


PROJECTS_FEED = web.AppKey("projects_feed", ProjectsFeed)


async def with_projects_feed(app: web.Application) -> AsyncIterator[None]:
    """Open one client session for the life of the application."""
    url = projects_url()
    if not url:
        log.warning("%s is not set: the history lacks changes of projects and environments", PROJECTS_URL)
    headers = authorization(read_keys(os.environ)[0])
    async with aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session:
        app[PROJECTS_FEED] = ProjectsFeed(session, url)
        yield


async def receive_changes(request: web.Request) -> None:
    """Have the projects service's records in the history, up to now.

    Raises a ServiceError (503) when they cannot be read: a caller who asks for each hour once would never see those
    that a shorter history leaves out.
    """
    try:
        await request.app[PROJECTS_FEED].copy_to(request.app[DATABASE])
    except FeedFailed as exc:
        log.warning("the projects service's changes cannot be read: %s", exc)
        message = "the projects service does not give its changes"
        raise ServiceError(503, "unavailable", message) from exc
