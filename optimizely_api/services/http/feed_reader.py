"""Reads the feeds of another service (`feeds.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import aiohttp

from optimizely_api.contract.times import read_time
from optimizely_api.services.http.feeds import CLOCK

ITEMS = 200  # in one response
WAIT_SECONDS = 20  # how long the other service may wait for news
TIMEOUT = aiohttp.ClientTimeout(total=WAIT_SECONDS + 10.0)

Items = Sequence[dict[str, Any]]


class FeedFailed(Exception):
    """The feed cannot be read now; the message says why."""


class FeedPage(NamedTuple):
    """The next items of a feed, and the last of their ids."""

    last: int
    items: Items
    clock: datetime | None = None  # the time by the clock that dates the items, when they were sent


async def read_feed(
    session: aiohttp.ClientSession,
    url: str,
    after: int,
    wait_seconds: int = WAIT_SECONDS,
    body: Mapping[str, Any] | None = None,
) -> FeedPage:
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
            last = max((int(item["id"]) for item in items), default=after)
            # A service of an older release sends no clock.
            clock = response.headers.get(CLOCK)
            return FeedPage(last, items, read_time(clock) if clock else None)
    except TimeoutError:
        raise FeedFailed("did not answer in time") from None
    except (aiohttp.ClientError, ValueError, KeyError, TypeError) as exc:
        raise FeedFailed(f"{type(exc).__name__}: {exc}") from exc
