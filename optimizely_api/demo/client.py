"""The demo's HTTP client: JSON in and out, and errors that name the failed request."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import aiohttp

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.25
TIMEOUT_SECONDS = 60.0
RETRIED_STATUSES = {502, 503, 504}
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
        that creates an entity: batches of events, whose bodies are bytes, count once.

        A loop, since stamina's retries would not make it shorter: how often depends on the request, a status and an
        exception alike are reasons to try again, and the last problem belongs in the message.
        """
        body_argument: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        problem = ""
        for attempt in range(ATTEMPTS if method != "POST" or isinstance(body, bytes) else 1):
            await asyncio.sleep(FIRST_PAUSE_SECONDS * 2**attempt if attempt else 0)
            try:
                async with self.session.request(
                    method, self.url + path, params=params, headers=headers, **body_argument
                ) as response:
                    if response.status in expected:
                        return response.status, await _json(response)
                    problem = f"{response.status} {(await response.text())[:300]}"
                    if response.status not in RETRIED_STATUSES:
                        break
            except (aiohttp.ClientError, TimeoutError) as exc:
                problem = f"{type(exc).__name__} {exc}"
        raise DemoError(f"{method} {self.url}{path}: {problem}")

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
