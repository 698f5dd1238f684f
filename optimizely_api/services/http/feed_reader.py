"""Reads the feeds of another service (`feeds.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

ITEMS = 200  # in one response
WAIT_SECONDS = 20  # how long the other service may wait for news
TIMEOUT = aiohttp.ClientTimeout(total=WAIT_SECONDS + 10.0)

Items = Sequence[dict[str, Any]]


class FeedFailed(Exception):
    """The feed cannot be read now; the message says why."""


async def read_feed(
    session: aiohttp.ClientSession,
    url: str,
    after: int,
    wait_seconds: int = WAIT_SECONDS,
    body: Mapping[str, Any] | None = None,
) -> tuple[int, Items]:
    """The next items, and the last of their ids, which is `after` while there is none.

    A `body` is posted, to a feed that needs one. `session` sends the services' key, and has TIMEOUT or, without
    `wait_seconds`, a shorter limit. Raises FeedFailed.
    """
    query = {"after": after, "limit": ITEMS, "wait": wait_seconds}
    try:
        method = "GET" if body is None else "POST"
        async with session.request(method, url, params=query, json=body, allow_redirects=False) as response:
            if response.status != 200:
                raise FeedFailed(f"answered {response.status}")
            items: Items = (await response.json())["items"]
            return max((int(item["id"]) for item in items), default=after), items
    except TimeoutError:
        raise FeedFailed("did not answer in time") from None
    except (aiohttp.ClientError, ValueError, KeyError, TypeError) as exc:
        raise FeedFailed(f"{type(exc).__name__}: {exc}") from exc
