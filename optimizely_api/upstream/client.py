"""The asyncio client of the services: one connector per worker, every call inside a time limit."""

import asyncio
import errno
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from .answers import read_answer
from .calls import Call
from .connection import AnswerTooLarge
from .connector import Destination, ServiceConnector
from .errors import BadUpstreamAnswer, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from .shapes import Check

_VISIBLE = re.compile("[!-~]+")  # what may stand in a request line or a header without quoting


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A service: its address and the longest wait for one answer."""

    url: str
    timeout_seconds: float


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What all calls share: connections per service, the wait for one, and the largest answer.

    `most_connections` are those to all services together; 0 is any number.
    """

    connections: int
    connect_timeout_seconds: float
    answer_bytes: int
    most_connections: int = 0


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


class Address:
    """Where a service's calls go, and what is the same in the head of each."""

    def __init__(self, upstream: Upstream) -> None:
        url = URL(upstream.url)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        self.destination = Destination("GET", url, headers=headers)
        self.timeout_seconds = upstream.timeout_seconds
        self._prefix = url.raw_path.rstrip("/")
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in self.destination.headers.items())

    def request(self, call: Call, request_id: str) -> bytes:
        """The call as it is sent (RFC 9112 section 3). Raises ValueError for what would need quoting in its head."""
        target = f"{self._prefix}{call.path}"
        if not (_VISIBLE.fullmatch(target) and _VISIBLE.fullmatch(request_id)):
            raise ValueError(f"not to be sent as it is: {target!r} with request id {request_id!r}")
        if call.query:
            target = f"{target}?{urlencode(call.query)}"
        head = f"{call.method} {target} HTTP/1.1\r\n{self._headers}X-Request-Id: {request_id}\r\n"
        if call.body is None:
            return f"{head}\r\n".encode("ascii")
        body = orjson.dumps(call.body)
        content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return f"{head}{content}".encode("ascii") + body


class Client:
    """Sends calls; knows addresses, limits and shapes, and keeps no state of a request."""

    def __init__(
        self,
        connector: ServiceConnector,
        upstreams: Mapping[str, Upstream],
        limits: Limits,
        shapes: Mapping[str, Check],
    ) -> None:
        self._connector = connector
        self._addresses = {name: Address(upstream) for name, upstream in upstreams.items()}
        self._limits = limits
        self._shapes = shapes

    async def fetch(self, call: Call, scope: Scope) -> Any:
        """Return the value of the call's answer.

        Raises an UpstreamError within the smaller of the service's limit and what is left until the deadline.
        """
        address = self._addresses[call.upstream]
        started = time.monotonic()
        limit = min(address.timeout_seconds, scope.deadline - started)
        if limit <= 0:
            raise UpstreamTimeout(call.upstream, 0.0)
        try:
            request = address.request(call, scope.request_id)
            status, body = await self._connector.ask(address.destination, request, limit)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise _unavailable(call.upstream, exc) from exc
        except TimeoutError as exc:
            raise UpstreamTimeout(call.upstream, limit) from exc
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as exc:
            raise BadUpstreamAnswer(call.upstream, "the connection broke off") from exc
        except AnswerTooLarge as exc:
            largest = self._limits.answer_bytes
            raise BadUpstreamAnswer(call.upstream, f"its body is larger than {largest} bytes") from exc
        except (aiohttp.ClientError, HttpProcessingError) as exc:
            raise BadUpstreamAnswer(call.upstream, "it is not HTTP as agreed") from exc
        finally:
            scope.note(call.upstream, time.monotonic() - started)
        return read_answer(call, status, body, self._shapes)

    async def fetch_all(
        self, calls: Sequence[Call], scope: Scope, *, at_most: int | None = None
    ) -> list[Any]:
        """Send every call at once, or `at_most` at a time, and return their values in the order of the calls.

        The first failure cancels the other calls and is raised; a defect of ours before what a service did.
        """
        if not calls:
            return []
        places = asyncio.Semaphore(at_most or len(calls))

        async def fetch_in_turn(call: Call, scope: Scope) -> Any:
            async with places:
                return await self.fetch(call, scope)

        fetch = fetch_in_turn if at_most else self.fetch
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(fetch(call, scope)) for call in calls[:-1]]
                last = await fetch(calls[-1], scope)  # one task fewer
        except ExceptionGroup as failures:
            failure = next((exc for exc in failures.exceptions if not isinstance(exc, UpstreamError)), None)
            failure = failure or failures.exceptions[0]
        else:
            return [*(task.result() for task in tasks), last]
        raise failure  # outside the handler, so that its own cause is kept


def _unavailable(upstream: str, exc: Exception) -> UpstreamUnavailable:
    if getattr(exc, "errno", None) in (errno.EMFILE, errno.ENFILE):
        # Not the service's fault, and for an operator to mend: the limit of open files is too low.
        said = f"The gateway has too many open files for a connection to the {upstream} service."
        return UpstreamUnavailable(upstream, said)
    return UpstreamUnavailable(upstream)


@asynccontextmanager
async def open_client(
    upstreams: Mapping[str, Upstream], limits: Limits, shapes: Mapping[str, Check]
) -> AsyncIterator[Client]:
    """Open the worker's one connector; leaving closes its connections."""
    connector = ServiceConnector(
        limits.connections,
        limits.connect_timeout_seconds,
        limits.answer_bytes,
        most_connections=limits.most_connections,
    )
    async with connector:
        yield Client(connector, upstreams, limits, shapes)


__all__ = ["Client", "Limits", "Scope", "Upstream", "UpstreamError", "open_client"]
