"""The asyncio client of the services: one session per worker, every call inside a time limit."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from .answers import read_answer
from .calls import Call
from .errors import BadUpstreamAnswer, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from .shapes import Check

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A service: its address and the longest wait for one answer."""

    url: str
    timeout_seconds: float


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What all calls share: connections per service, the wait for one, and the largest answer."""

    connections: int
    connect_timeout_seconds: float
    answer_bytes: int


@dataclass(slots=True)
class Scope:
    """What the calls of one request share: its id, its deadline and what they took.

    `deadline` is a time of `time.monotonic()`. `durations_ms` is {upstream: milliseconds of each call}.
    """

    request_id: str
    deadline: float
    durations_ms: dict[str, list[float]] = field(default_factory=dict)

    def note(self, upstream: str, seconds: float) -> None:
        self.durations_ms.setdefault(upstream, []).append(round(seconds * 1000, 2))


class Client:
    """Sends calls; knows addresses, limits and shapes, and keeps no state of a request."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        upstreams: Mapping[str, Upstream],
        limits: Limits,
        shapes: Mapping[str, Check],
    ) -> None:
        self._session = session
        self._upstreams = upstreams
        self._limits = limits
        self._shapes = shapes

    async def fetch(self, call: Call, scope: Scope) -> Any:
        """Return the value of the call's answer.

        Raises an UpstreamError within the smaller of the service's limit and what is left until the deadline.
        """
        limit = min(self._upstreams[call.upstream].timeout_seconds, scope.deadline - time.monotonic())
        if limit <= 0:
            raise UpstreamTimeout(call.upstream, 0.0)
        started = time.monotonic()
        try:
            async with asyncio.timeout(limit):
                status, body = await self._send(call, scope)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise UpstreamUnavailable(call.upstream) from exc
        except TimeoutError as exc:
            raise UpstreamTimeout(call.upstream, limit) from exc
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as exc:
            raise BadUpstreamAnswer(call.upstream, "the connection broke off") from exc
        except aiohttp.ClientError as exc:
            raise BadUpstreamAnswer(call.upstream, "it is not HTTP as agreed") from exc
        finally:
            scope.note(call.upstream, time.monotonic() - started)
        return read_answer(call, status, body, self._shapes)

    async def fetch_all(
        self, calls: Sequence[Call], scope: Scope, *, at_most: int | None = None
    ) -> list[Any]:
        """Send every call at once, or `at_most` at a time, and return their values in the order of the calls.

        The first failure cancels the other calls and is raised.
        """
        places = asyncio.Semaphore(at_most or len(calls) or 1)

        async def fetch_in_turn(call: Call) -> Any:
            async with places:
                return await self.fetch(call, scope)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(fetch_in_turn(call)) for call in calls]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _send(self, call: Call, scope: Scope) -> tuple[int, bytes]:
        try:
            return await self._send_once(call, scope)
        except aiohttp.ServerDisconnectedError:
            # A service may close an idle connection at the very moment it is used again. No call changes anything,
            # so it is sent once more.
            return await self._send_once(call, scope)

    async def _send_once(self, call: Call, scope: Scope) -> tuple[int, bytes]:
        headers = {"X-Request-Id": scope.request_id}
        data = None
        if call.body is not None:
            headers["Content-Type"] = "application/json"
            data = orjson.dumps(call.body)
        url = self._upstreams[call.upstream].url + call.path
        async with self._session.request(
            call.method, url, params=call.query or None, data=data, headers=headers, allow_redirects=False
        ) as response:
            return response.status, await self._read(call, response)

    async def _read(self, call: Call, response: aiohttp.ClientResponse) -> bytes:
        limit = self._limits.answer_bytes
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > limit:
                raise BadUpstreamAnswer(call.upstream, f"its body is larger than {limit} bytes")
            chunks.append(chunk)
        return b"".join(chunks)


@asynccontextmanager
async def open_client(
    upstreams: Mapping[str, Upstream], limits: Limits, shapes: Mapping[str, Check]
) -> AsyncIterator[Client]:
    """Open the worker's one session; leaving closes its connections."""
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=limits.connections)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_timeout_seconds)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), raise_for_status=False
    ) as session:
        yield Client(session, upstreams, limits, shapes)


__all__ = ["Client", "Limits", "Scope", "Upstream", "UpstreamError", "open_client"]
