"""The feeds of the experiments service, whose rows webhooks are called for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp

from optimizely_api.services.projects.delivery.messages import Message

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
    messages: Callable[[Any], Iterable[Message]]

    async def read(self, session: aiohttp.ClientSession, after: int) -> tuple[int, list[Message]]:
        """The messages of the next rows, and the last of their ids, which is `after` while there is none.

        `session` sends the services' key. Raises FeedFailed.
        """
        query = {"after": after, "limit": ITEMS, "wait": WAIT_SECONDS}
        try:
            async with session.get(self.url, params=query, allow_redirects=False) as response:
                if response.status != 200:
                    raise FeedFailed(f"answered {response.status}")
                items = (await response.json())["items"]
                messages = [message for item in items for message in self.messages(item)]
                return max((int(item["id"]) for item in items), default=after), messages
        except TimeoutError:
            raise FeedFailed("did not answer in time") from None
        except (aiohttp.ClientError, ValueError, KeyError, TypeError) as exc:
            raise FeedFailed(f"{type(exc).__name__}: {exc}") from exc
