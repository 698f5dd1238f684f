"""The feeds of the experiments service, whose rows webhooks are called for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.feed_reader import Items
from optimizely_api.services.projects.delivery.messages import (
    Message,
    message_of_revision,
    messages_of_change,
)
from optimizely_api.services.projects.delivery.settings import Settings
from optimizely_api.services.projects.delivery.store import environment_names


@dataclass(frozen=True)
class Feed:
    """One feed: where it is, and what its rows mean."""

    name: str
    url: str
    messages: Callable[[AsyncConnection, Items], Awaitable[list[Message]]]


def feeds_of(settings: Settings) -> list[Feed]:
    """The feeds that webhooks are called for."""
    public_url = settings.public_url

    async def of_changes(connection: AsyncConnection, items: Items) -> list[Message]:
        return [message for item in items for message in messages_of_change(item, public_url)]

    async def of_revisions(connection: AsyncConnection, items: Items) -> list[Message]:
        names = await environment_names(connection, {item["environment_id"] for item in items})
        return [message_of_revision(item, names, public_url) for item in items]

    return [
        Feed("changes", f"{settings.experiments_url}/changes/feed", of_changes),
        Feed("datafiles", f"{settings.experiments_url}/datafile-revisions", of_revisions),
    ]
