"""The asyncio client of the services: one connector per worker, every call inside a time limit."""

import asyncio
import itertools
import random
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from optimizely_api.services_key import authorization
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.errors import (
    AnswerAboutAnother,
    BadUpstreamAnswer,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from optimizely_api.upstream.responses import read_answer
from optimizely_api.upstream.shapes import Check
from optimizely_api.upstream.transport.connection import (
    Answer,
    AnswerCoded,
    AnswerToAnother,
    AnswerTooLarge,
    Question,
)
from optimizely_api.upstream.transport.connector import TOO_MANY_FILES, Destination, ServiceConnector

# What a call may end with that brought no answer; `Client.failure` says what each means.
NO_ANSWER = (aiohttp.ClientError, HttpProcessingError, TimeoutError)

_VISIBLE = re.compile("[!-~]+")  # what may stand in a request line or a header without quoting


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A service: its address, the longest wait for one answer, and the key that it takes calls with."""

    url: str
    timeout_seconds: float
    key: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What all calls share: connections per service, the wait for one, and the largest answer.

    `most_connections` are those to all services together; 0 is any number. With `echo_required` an answer below 500
    must echo the number of its call.
    """

    connections: int
    connect_timeout_seconds: float
    answer_bytes: int
    most_connections: int = 0
    echo_required: bool = True


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


def call_numbers() -> Iterator[int]:
    """Numbers for calls, unlike those of other workers: two callers may have chosen one and the same request id."""
    return itertools.count(random.getrandbits(48))


class Address:
    """Where a service's calls go, and what is the same in the head of each."""

    def __init__(self, upstream: Upstream) -> None:
        url = URL(upstream.url)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        self.destination = Destination("GET", url, headers=headers)
        self.timeout_seconds = upstream.timeout_seconds
        self._prefix = url.raw_path.rstrip("/")
        fields = {**self.destination.headers, **(authorization(upstream.key) if upstream.key else {})}
        self._user_agent = fields.pop("User-Agent")
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._numbers = call_numbers()

    def request(self, call: Call, request_id: str, entity_tag: str = "") -> Question:
        """The call as it is sent (RFC 9112 section 3), only to be answered anew if `entity_tag` no longer fits.

        Raises ValueError for what would need quoting in its head.
        """
        target = f"{self._prefix}{call.path}"
        if not (_VISIBLE.fullmatch(target) and _VISIBLE.fullmatch(request_id)):
            raise ValueError(f"not to be sent as it is: {call!r} with request id {request_id!r}")
        number = f"{request_id}.{next(self._numbers)}"
        if call.query:
            target = f"{target}?{urlencode(call.query)}"
        head = (
            f"{call.method} {target} HTTP/1.1\r\n{self._headers}"
            f"User-Agent: {call.user_agent or self._user_agent}\r\nX-Request-Id: {number}\r\n"
        )
        if call.if_match:
            head = f"{head}If-Match: {call.if_match}\r\n"
        if call.user:
            user_id, name = call.user
            head = f"{head}X-User: {user_id} {quote(name)}\r\n"
        if entity_tag:
            head = f"{head}If-None-Match: {entity_tag}\r\n"
        if call.body is None:
            return f"{head}\r\n".encode("ascii"), number
        if call.coding:
            head = f"{head}Content-Encoding: {call.coding}\r\n"
        content = f"Content-Type: application/json\r\nContent-Length: {len(call.content)}\r\n\r\n"
        return f"{head}{content}".encode("ascii") + call.content, number


class Client:
    """Sends calls; knows addresses, limits and shapes, and keeps no state of a request."""

    def __init__(
        self,
        connector: ServiceConnector,
        upstreams: Mapping[str, Upstream],
        limits: Limits,
        shapes: Mapping[str, Check],
    ) -> None:
        self.connector = connector
        self._addresses = {name: Address(upstream) for name, upstream in upstreams.items()}
        self._limits = limits
        self.shapes = shapes

    async def fetch(self, call: Call, scope: Scope) -> Any:
        """Return the value of the call's answer.

        Raises an UpstreamError within the smaller of the service's limit and what is left until the deadline.
        """
        return self.read(call, await self.ask(call, scope, may_repeat=call.is_safe))

    async def ask(self, call: Call, scope: Scope, *, may_repeat: bool) -> Answer:
        """Return the call's answer as it is, in the limits of `fetch`; raises an UpstreamError when there is none."""
        address = self._addresses[call.upstream]
        started = time.monotonic()
        limit = self.limit(call, scope, started)
        try:
            question = address.request(call, scope.request_id)
            return await self.connector.ask(address.destination, question, limit, may_repeat=may_repeat)
        except NO_ANSWER as exc:
            raise self.failure(call, exc, limit) from exc
        finally:
            scope.note(call.upstream, time.monotonic() - started)

    async def fetch_all(
        self, calls: Sequence[Call], scope: Scope, *, at_most: int | None = None
    ) -> list[Any]:
        """Send every call at once, or `at_most` at a time, and return their values in the order of the calls.

        The first failure cancels the other calls and is raised; a defect of ours before what a service did.
        """
        if len(calls) < 2:
            return [await self.fetch(call, scope) for call in calls]
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

    def read(self, call: Call, answer: Answer) -> Any:
        """Return the answer's value, as `read_answer` does; after one to another question, on new connections only."""
        try:
            return read_answer(call, answer[0], answer[1], self.shapes)
        except AnswerAboutAnother:
            self.connector.close_idle(self._addresses[call.upstream].destination)
            raise

    def address(self, call: Call) -> Address:
        return self._addresses[call.upstream]

    def limit(self, call: Call, scope: Scope, now: float) -> float:
        """How many seconds may be waited for the answer; raises UpstreamTimeout when there are none."""
        limit = min(self._addresses[call.upstream].timeout_seconds, scope.deadline - now)
        if limit <= 0:
            raise UpstreamTimeout(call.upstream, 0.0)
        return limit

    def failure(self, call: Call, cause: BaseException, limit_seconds: float) -> UpstreamError:
        """What it means for the call that one of NO_ANSWER came instead of an answer."""
        name = call.upstream
        if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            if getattr(cause, "errno", None) in TOO_MANY_FILES:
                # Not the service's fault, and for an operator to mend: the limit of open files is too low.
                said = f"The gateway has too many open files for a connection to the {name} service."
                return UpstreamUnavailable(name, said)
            return UpstreamUnavailable(name)
        if isinstance(cause, TimeoutError):
            return UpstreamTimeout(name, limit_seconds)
        if isinstance(cause, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
            return BadUpstreamAnswer(name, "the connection broke off")
        if isinstance(cause, AnswerTooLarge):
            return BadUpstreamAnswer(name, f"its body is larger than {self._limits.answer_bytes} bytes")
        if isinstance(cause, AnswerToAnother):
            return BadUpstreamAnswer(name, "it does not say that it is the answer to this call")
        if isinstance(cause, AnswerCoded):
            return BadUpstreamAnswer(name, "it is encoded, though it was not to be")
        return BadUpstreamAnswer(name, "it is not HTTP as agreed")


@asynccontextmanager
async def open_client(
    upstreams: Mapping[str, Upstream], limits: Limits, shapes: Mapping[str, Check]
) -> AsyncIterator[Client]:
    """Open the worker's one client; leaving closes its connections."""
    connector = make_connector(limits)
    async with connector:
        yield Client(connector, upstreams, limits, shapes)


def make_connector(limits: Limits) -> ServiceConnector:
    return ServiceConnector(
        limits.connections,
        limits.connect_timeout_seconds,
        limits.answer_bytes,
        most_connections=limits.most_connections,
        echo_required=limits.echo_required,
    )


__all__ = ["Client", "Limits", "Scope", "Upstream", "UpstreamError", "make_connector", "open_client"]
