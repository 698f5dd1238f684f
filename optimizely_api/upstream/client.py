"""The asyncio client of the services: one connector per worker, every call inside a time limit."""

import asyncio
import itertools
import math
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

from optimizely_api.http.deadlines import EXPECTED_TIMEOUT, expected_timeout
from optimizely_api.http.preferences import wait_preference
from optimizely_api.services_key import authorization
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.errors import (
    BadUpstreamResponse,
    NeverSent,
    ResponseAboutAnother,
    UpstreamError,
    UpstreamTimeout,
    stands_for_value,
)
from optimizely_api.upstream.resilience.order import send
from optimizely_api.upstream.resilience.policies import Policies, PolicyOptions
from optimizely_api.upstream.resilience.refusals import NotSent
from optimizely_api.upstream.resilience.stale import KeptUse
from optimizely_api.upstream.resilience.timing import LoopTiming
from optimizely_api.upstream.responses import read_response
from optimizely_api.upstream.shapes import Check
from optimizely_api.upstream.transport.connection import (
    ResponseEncoded,
    ResponseToAnother,
    ResponseTooLarge,
    ServiceRequest,
    ServiceResponse,
)
from optimizely_api.upstream.transport.connector import TOO_MANY_FILES, Destination, ServiceConnector

# The exceptions of a call without a response; `Client.failure` translates each into an UpstreamError.
NO_RESPONSE = (aiohttp.ClientError, HttpProcessingError, TimeoutError, NotSent)

DEFAULT_POLICIES = PolicyOptions()

_VISIBLE = re.compile("[!-~]+")  # allowed in a request line or a header without quoting


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A service: its address, the time limit of one call, and the key that authorizes the calls."""

    url: str
    timeout_seconds: float
    key: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of all calls: connections per service, the time to open one, and the largest response body.

    `most_connections` bounds the connections to all services together; 0 means no bound. With `echo_required` a
    response below 500 must echo the number of its call. `request_seconds` is the longest that a request waits for all
    of its calls.
    """

    connections: int
    connect_timeout_seconds: float
    response_bytes: int
    most_connections: int = 0
    echo_required: bool = True
    request_seconds: float = math.inf


@dataclass(slots=True)
class CallContext:
    """What the calls of one request share: the request's id, its deadline and the durations of its calls.

    `deadline` is a value of `time.monotonic()`, and so is `wished_deadline`, after which the caller no longer waits.
    `durations_ms` is {upstream: milliseconds of each call}. `account_id` is the caller's, as soon as it is known.
    `unreachable` has the names of the parts that the response is without. With `takes_stale` kept values may stand for
    those of services that do not answer; `kept` says which did.
    `events` is {upstream: what policies did to the calls}: "throttled", "queued", "hedged" and "repeated".
    """

    request_id: str
    deadline: float
    wished_deadline: float = math.inf
    account_id: int | None = None
    events: dict[str, list[str]] = field(default_factory=dict)
    durations_ms: dict[str, list[float]] = field(default_factory=dict)
    takes_stale: bool = False
    unreachable: tuple[str, ...] = ()
    kept: tuple[KeptUse, ...] = ()

    def shows_outage(self, error: UpstreamError, wait_seconds: float, time_limit_seconds: float) -> bool:
        """Whether an error after a wait of at most `wait_seconds` is an outage for other callers too.

        Not a time-out where the caller wished to wait for less than the service's time limit.
        """
        is_hurried = wait_seconds < time_limit_seconds and self.wished_deadline <= self.deadline
        return error.is_outage and not (is_hurried and isinstance(error, UpstreamTimeout))

    def note(self, upstream: str, seconds: float) -> None:
        self.durations_ms.setdefault(upstream, []).append(round(seconds * 1000, 2))

    def note_event(self, upstream: str, event: str) -> None:
        self.events.setdefault(upstream, []).append(event)


def call_numbers() -> Iterator[int]:
    """Yield numbers for calls, from a random start: two workers may get requests with the same request id."""
    return itertools.count(random.getrandbits(48))


class Address:
    """The address of a service, and the part of the request head that all its calls share."""

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

    def request(
        self, call: Call, request_id: str, seconds_left: float, entity_tag: str = ""
    ) -> ServiceRequest:
        """Serialise a call (RFC 9112 section 3), with If-None-Match if there is an `entity_tag`.

        The service learns for how long somebody waits for its response.

        Raises ValueError for a path or request id that could split the head.
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
            f"{EXPECTED_TIMEOUT}: {expected_timeout(seconds_left)}\r\n"
        )
        if call.wait_seconds is not None:
            head = f"{head}Prefer: {wait_preference(call.wait_seconds)}\r\n"
        if call.if_match:
            head = f"{head}If-Match: {call.if_match}\r\n"
        if call.user:
            user_id, name = call.user
            head = f"{head}X-User: {user_id} {quote(name)}\r\n"
        if call.operation:
            head = f"{head}Idempotency-Key: {call.operation}\r\n"
        if entity_tag:
            head = f"{head}If-None-Match: {entity_tag}\r\n"
        if call.body is None:
            return f"{head}\r\n".encode("ascii"), number
        if call.coding:
            head = f"{head}Content-Encoding: {call.coding}\r\n"
        content = f"Content-Type: application/json\r\nContent-Length: {len(call.content)}\r\n\r\n"
        return f"{head}{content}".encode("ascii") + call.content, number


class Client:
    """Sends calls; holds addresses, limits and shapes, and no state of a request."""

    def __init__(
        self,
        connector: ServiceConnector,
        upstreams: Mapping[str, Upstream],
        limits: Limits,
        shapes: Mapping[str, Check],
        policy_options: PolicyOptions,
    ) -> None:
        self.connector = connector
        self._addresses = {name: Address(upstream) for name, upstream in upstreams.items()}
        self._limits = limits
        self.shapes = shapes
        timing = LoopTiming()
        self.policies = {
            name: Policies(policy_options, timing, upstream.timeout_seconds, limits.request_seconds)
            for name, upstream in upstreams.items()
        }

    async def fetch(self, call: Call, context: CallContext) -> Any:
        """Return the value of the call's response; the outage of an optional call stands for its value.

        Raises an UpstreamError after the service's time limit, or at the request's deadline if that is earlier.
        """
        try:
            return self.read(call, await self.send(call, context, may_repeat=call.is_safe))
        except UpstreamError as exc:
            return stands_for_value(call, exc)

    async def send(self, call: Call, context: CallContext, *, may_repeat: bool) -> ServiceResponse:
        """Return the response, whatever its status; raises an UpstreamError without one, as early as `fetch`."""
        started = time.monotonic()
        limit = self.limit(call, context, started)
        try:
            sending = _Sending(self, call, context, started + limit, may_repeat=may_repeat)
            return await send(sending, self.policies[call.upstream])
        except NO_RESPONSE as exc:
            raise self.failure(call, exc, limit) from exc
        finally:
            context.note(call.upstream, time.monotonic() - started)

    async def fetch_all(
        self, calls: Sequence[Call], context: CallContext, *, at_most: int | None = None
    ) -> list[Any]:
        """Send every call at once, or `at_most` at a time, and return their values in the order of the calls.

        The first failure cancels the other calls and is raised; a defect of ours goes before a service's failure.
        """
        if len(calls) < 2:
            return [await self.fetch(call, context) for call in calls]
        turns = asyncio.Semaphore(at_most or len(calls))

        async def fetch_in_turn(call: Call, context: CallContext) -> Any:
            async with turns:
                return await self.fetch(call, context)

        fetch = fetch_in_turn if at_most else self.fetch
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(fetch(call, context)) for call in calls[:-1]]
                last_value = await fetch(calls[-1], context)  # in this task, which saves one
        except ExceptionGroup as failures:
            failure = next((exc for exc in failures.exceptions if not isinstance(exc, UpstreamError)), None)
            failure = failure or failures.exceptions[0]
        else:
            return [*(task.result() for task in tasks), last_value]
        # Raised outside the handler: inside it, the group would become the context of the failure.
        raise failure

    def read(self, call: Call, response: ServiceResponse) -> Any:
        """Return the value of a response, as `read_response` does.

        After a response about another entity the idle connections are closed: they may be one response behind too.
        """
        status, body, _ = response
        try:
            return read_response(call, status, body, self.shapes)
        except ResponseAboutAnother:
            self.connector.close_idle(self._addresses[call.upstream].destination)
            raise

    def address(self, call: Call) -> Address:
        return self._addresses[call.upstream]

    def limit(self, call: Call, context: CallContext, now: float) -> float:
        """Return the time limit of a call in seconds; raises UpstreamTimeout if the deadline has passed."""
        limit = min(self._addresses[call.upstream].timeout_seconds, context.deadline - now)
        if limit <= 0:
            raise UpstreamTimeout(call.upstream, 0.0)
        return limit

    def failure(self, call: Call, cause: BaseException, limit_seconds: float) -> UpstreamError:
        """Translate one of NO_RESPONSE into the UpstreamError of the call."""
        name = call.upstream
        if isinstance(cause, NotSent):
            return NeverSent(name, cause.message.format(upstream=name))
        if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            if getattr(cause, "errno", None) in TOO_MANY_FILES:
                # Not a fault of the service: an operator has to raise the gateway's limit of open files.
                message = f"The gateway has too many open files for a connection to the {name} service."
                return NeverSent(name, message)
            return NeverSent(name)
        if isinstance(cause, TimeoutError):
            return UpstreamTimeout(name, limit_seconds)
        if isinstance(cause, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
            return BadUpstreamResponse(name, "the connection broke off")
        if isinstance(cause, ResponseTooLarge):
            return BadUpstreamResponse(name, f"its body is larger than {self._limits.response_bytes} bytes")
        if isinstance(cause, ResponseToAnother):
            return BadUpstreamResponse(name, "it does not say that it is the answer to this call")
        if isinstance(cause, ResponseEncoded):
            return BadUpstreamResponse(name, "it is encoded, though it was not to be")
        return BadUpstreamResponse(name, "it is not HTTP as agreed")


class _Sending:
    """A call that one task sends and waits for."""

    __slots__ = ("_call", "_client", "_context", "_ends", "account", "counts_since", "may_repeat", "second",
                 "seconds_told")  # fmt: skip

    def __init__(
        self, client: Client, call: Call, context: CallContext, ends: float, *, may_repeat: bool
    ) -> None:
        """`ends` is a value of `time.monotonic()`."""
        self._client, self._call, self._ends = client, call, ends
        self._context, self.account = context, context.account_id
        self.may_repeat = may_repeat
        self.seconds_told, self.counts_since = 0.0, math.inf
        self.second: asyncio.Future[ServiceResponse] | None = None

    def note(self, event: str) -> None:
        self._context.note_event(self._call.upstream, event)

    @property
    def may_wait(self) -> bool:
        return self._call.may_wait

    def hedge(self) -> bool:
        return False  # it is a write, or a batch of events

    def seconds_left(self) -> float:
        return self._ends - time.monotonic()

    async def attempt(self, *, on_new_connection: bool = False) -> ServiceResponse:
        connector, address = self._client.connector, self._client.address(self._call)
        self.seconds_told = seconds_left = self.seconds_left()
        request = address.request(self._call, self._context.request_id, seconds_left)
        ends = asyncio.get_running_loop().time() + seconds_left
        return await connector.request(
            address.destination, request, ends, on_new_connection=on_new_connection
        )


@asynccontextmanager
async def open_client(
    upstreams: Mapping[str, Upstream],
    limits: Limits,
    shapes: Mapping[str, Check],
    policy_options: PolicyOptions = DEFAULT_POLICIES,
) -> AsyncIterator[Client]:
    """Open a client that neither shares calls nor caches values; leaving the context closes its connections."""
    connector = make_connector(limits, policy_options)
    async with connector:
        yield Client(connector, upstreams, limits, shapes, policy_options)


def make_connector(limits: Limits, policy_options: PolicyOptions) -> ServiceConnector:
    return ServiceConnector(
        limits.connections,
        limits.connect_timeout_seconds,
        limits.response_bytes,
        most_connections=limits.most_connections,
        echo_required=limits.echo_required,
        addresses_rest=policy_options.throttle_seconds > 0,
    )


__all__ = ["CallContext", "Client", "Limits", "Upstream", "UpstreamError", "make_connector", "open_client"]
