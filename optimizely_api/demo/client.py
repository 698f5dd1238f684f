"""The demo's HTTP client: JSON in and out, and errors that name the failed request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Any

import aiohttp

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.25
LONGEST_OVERLOAD_SECONDS = 60.0  # of a service that says when to return
TIMEOUT_SECONDS = 60.0
RETRIED_STATUSES = {429, 502, 503, 504}
PER_PAGE = 1000


class DemoError(Exception):
    """A service refused a request of the demo, or did not respond; the message names the request."""


class ServiceClient:
    """A client of one service."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url.rstrip("/")

    async def call(
        self,
        method: str,
        path: str,
        *,
        expected: Collection[int],
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> tuple[int, Any]:
        """Send a request and return status and JSON; raises DemoError for an unexpected status.

        `headers` come beside those of the session, or in their place.
        `body` is sent as JSON, or unchanged if it is bytes. A request without a response is sent again, except a POST
        that creates an entity: batches of events, whose bodies are bytes, count once. A response with `Retry-After` is
        no failed attempt for LONGEST_OVERLOAD_SECONDS: a slow machine stores events more slowly than they are sent.

        A loop, since stamina's retries would not make it shorter: how often depends on the request, a status and an
        exception alike are reasons to try again, and the last problem belongs in the message.
        """
        body_argument: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        may_repeat = method != "POST" or isinstance(body, bytes)
        failures = 0
        overload_ends = time.monotonic() + LONGEST_OVERLOAD_SECONDS
        while True:
            retry_after = ""
            try:
                async with self.session.request(
                    method, self.url + path, params=params, headers=headers, **body_argument
                ) as response:
                    if response.status in expected:
                        return response.status, await _json(response)
                    problem = f"{response.status} {(await response.text())[:300]}"
                    may_repeat = may_repeat and response.status in RETRIED_STATUSES
                    retry_after = response.headers.get("Retry-After", "")
            except (aiohttp.ClientError, TimeoutError) as exc:
                problem = f"{type(exc).__name__} {exc}"
            is_overloaded = retry_after.isdigit() and time.monotonic() < overload_ends
            failures += not is_overloaded
            if not may_repeat or failures == ATTEMPTS:
                raise DemoError(f"{method} {self.url}{path}: {problem}")
            await asyncio.sleep(int(retry_after) if is_overloaded else FIRST_PAUSE_SECONDS * 2**failures)

    async def create(self, path: str, body: dict[str, Any], **params: Any) -> Any:
        """POST a new entity and return it."""
        return (await self.call("POST", path, expected={201}, body=body, **params))[1]

    async def list_all(self, path: str, **params: Any) -> list[Any]:
        """All items of a list that fits on one page."""
        _, page = await self.call("GET", path, expected={200}, **params, per_page=PER_PAGE)
        items: list[Any] = page["items"]
        return items


async def _json(response: aiohttp.ClientResponse) -> Any:
    return await response.json() if response.content_type == "application/json" else None
