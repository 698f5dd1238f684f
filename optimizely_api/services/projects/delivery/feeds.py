"""The feeds of the experiments service, whose rows webhooks are called for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.projects.delivery.messages import (
    Message,
    message_of_revision,
    messages_of_change,
)
from optimizely_api.services.projects.delivery.settings import Settings
from optimizely_api.services.projects.delivery.store import environment_names

Items = Sequence[dict[str, Any]]

ITEMS = 200  # in one response
WAIT_SECONDS = 20  # how long the service may wait for news
TIMEOUT = aiohttp.ClientTimeout(total=WAIT_SECONDS + 10.0)


class FeedFailed(Exception):
    """The feed cannot be read now; the message says why."""


@dataclass(frozen=True)
class Feed:
    """One feed: where it is, and what its rows mean."""

    name: str
    url: str
    messages: Callable[[AsyncConnection, Items], Awaitable[list[Message]]]

    async def read(self, session: aiohttp.ClientSession, after: int) -> tuple[int, Items]:
        """The next rows, and the last of their ids, which is `after` while there is none.

        `session` sends the services' key. Raises FeedFailed.
        """
        query = {"after": after, "limit": ITEMS, "wait": WAIT_SECONDS}
        try:
            async with session.get(self.url, params=query, allow_redirects=False) as response:
                if response.status != 200:
                    raise FeedFailed(f"answered {response.status}")
                items = (await response.json())["items"]
                return max((int(item["id"]) for item in items), default=after), items
        except TimeoutError:
            raise FeedFailed("did not answer in time") from None
        except (aiohttp.ClientError, ValueError, KeyError, TypeError) as exc:
            raise FeedFailed(f"{type(exc).__name__}: {exc}") from exc


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
