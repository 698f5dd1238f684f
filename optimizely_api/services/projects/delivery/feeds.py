"""The feeds whose rows webhooks are called for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import aiohttp
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities.history import shown
from optimizely_api.services.http.feed_reader import ITEMS, FeedPage, Items, read_feed
from optimizely_api.services.http.feeds import LOOK_SECONDS, read_rows
from optimizely_api.services.projects.delivery.messages import (
    SNIPPET_UPDATED,
    Message,
    message_of_revision,
    message_of_snippet,
    messages_of_change,
)
from optimizely_api.services.projects.delivery.settings import Settings
from optimizely_api.services.projects.delivery.store import environment_names, projects_listening
from optimizely_api.services.projects.tables import changes
from optimizely_api.services.storage.database import Database

# Between two questions, each of which may build a snippet: changes in between are one revision.
SNIPPETS_SECONDS = 0.5


@dataclass(frozen=True)
class Feed:
    """One feed: how its next items are read after an id, and what they mean."""

    name: str
    read: Callable[[int], Awaitable[FeedPage]]
    messages: Callable[[AsyncConnection, Items], Awaitable[list[Message]]]


def feeds_of(settings: Settings, session: aiohttp.ClientSession, database: Database) -> list[Feed]:
    """The feeds that webhooks are called for: three of the experiments service, and the changes of this service.

    `session` sends the services' key.
    """
    public_url = settings.public_url

    async def of_changes(connection: AsyncConnection, items: Items) -> list[Message]:
        return [message for item in items for message in messages_of_change(item, public_url)]

    async def of_revisions(connection: AsyncConnection, items: Items) -> list[Message]:
        names = await environment_names(connection, {item["environment_id"] for item in items})
        return [message_of_revision(item, names, public_url) for item in items]

    async def of_snippets(connection: AsyncConnection, items: Items) -> list[Message]:
        return [message_of_snippet(item, public_url) for item in items]

    def at(path: str) -> Callable[..., Awaitable[FeedPage]]:
        return partial(read_feed, session, f"{settings.experiments_url}{path}")

    return [
        Feed("changes", at("/changes/feed"), of_changes),
        Feed("datafiles", at("/datafile-revisions"), of_revisions),
        Feed("snippets", partial(_read_snippets, database, at("/snippet-revisions")), of_snippets),
        Feed("own changes", partial(_read_own_changes, database), of_changes),
    ]


async def _read_own_changes(database: Database, after: int) -> FeedPage:
    while True:
        seen = database.version()
        if rows := await read_rows(database, changes, after, ITEMS):
            return FeedPage(rows[-1].id, [shown(row) for row in rows])
        while True:  # other workers write there
            await asyncio.sleep(LOOK_SECONDS)
            if database.may_have_changed(seen):
                break


async def _read_snippets(
    database: Database, read: Callable[..., Awaitable[FeedPage]], after: int
) -> FeedPage:
    """Ask again and again, for a snippet is built when somebody asks; only those are that a webhook listens to."""
    while True:
        async with database.snapshot() as connection:
            project_ids = await projects_listening(connection, SNIPPET_UPDATED)
        if project_ids:
            page = await read(after, wait_seconds=0, body={"project_ids": project_ids})
            if page.items:
                return page
        await asyncio.sleep(SNIPPETS_SECONDS)
