"""A client that makes fewer calls: it shares identical calls that are under way, and caches good responses.

It stands below the identity check and knows no identities: its values are the services' responses, the same for every
caller, and the views decide on each request who may see them.

- Identical safe calls at the same time are made once (`coalescing.py`).
- The 200 of a call with `Call.cached_as` is cached (`cache.py`): it is fresh for a few seconds after its call was
  sent; then the service is asked to confirm it with If-None-Match, if it gave an ETag (RFC 9110 section 13.1.2).
- What is kept beyond that stands for the value of a service that does not answer (`resilience/stale.py`).
- A write advances generations (`generations.py`): a read that begins after the write's response uses no value of a
  call that was sent before it, in any worker of this gunicorn.

Many requests get the same value object, for as long as it is cached: nobody may change what `fetch` returns. The
composition only puts new dictionaries around its parts.

Fast path: a value from the cache costs neither a call nor a task. To measure what sharing and caching save:
`python -m tests.benchmark_stages --saving off --against . --against-saving all`. On one machine a composite with
everything cached took 0.44 of the CPU time of one with nothing cached, its upstream calls 32 us in place of 339.
"""

import asyncio
import math
import mmap
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from optimizely_api.upstream.caching.cache import Cache, Clock, Entry, SendTime
from optimizely_api.upstream.caching.coalescing import PendingCall, ResponseOnConnection, Waiter
from optimizely_api.upstream.caching.generations import Generations
from optimizely_api.upstream.calls import Call, Key
from optimizely_api.upstream.client import (
    DEFAULT_POLICIES,
    NO_RESPONSE,
    CallContext,
    Client,
    Limits,
    Upstream,
    make_connector,
)
from optimizely_api.upstream.errors import (
    Denied,
    EntityNotFound,
    NeverSent,
    UpstreamError,
    UpstreamTimeout,
)
from optimizely_api.upstream.resilience.failures import TOLERANCE_SECONDS
from optimizely_api.upstream.resilience.hedge import HedgeWon
from optimizely_api.upstream.resilience.order import count_silence, send
from optimizely_api.upstream.resilience.policies import PolicyOptions
from optimizely_api.upstream.resilience.stale import StaleIfError
from optimizely_api.upstream.shapes import Check
from optimizely_api.upstream.transport.connection import ServiceRequest, ServiceResponse
from optimizely_api.upstream.transport.connector import ServiceConnector

# The results service rounds the time of a question to five minutes: ROUNDED_TO_MILLISECONDS in its `questions.py`.
RESULTS_PERIOD_SECONDS = 300.0
SHARE_OF_TIME_LEFT = 0.5  # that a call may take whose value is kept

_MISSING = object()


@dataclass(frozen=True, kw_only=True)
class CachingOptions:
    """What is shared and cached, and for how long; 0 seconds or bytes turn a cache off.

    Datafiles may take as many bytes as definitions, in a cache of their own.

    With `results_seconds` of 0 the service confirms cached results each time, and calls for results are not shared.

    `stale_seconds` is {kind of what is cached: how long it stands for a value whose service does not answer}.
    """

    coalesce: bool = True
    definition_seconds: float = 5.0
    definition_bytes: int = 64 * 1024 * 1024
    datafile_seconds: float = 0.5
    results_seconds: float = 0.0
    results_bytes: int = 64 * 1024 * 1024
    stale_seconds: Mapping[str, float] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)

    def caches(self) -> dict[str, Cache]:
        """Make a cache for each `Call.cached_as` that is not turned off."""
        caches = {}
        if self.definition_seconds and self.definition_bytes:
            caches["definition"] = Cache(
                seconds=self.definition_seconds, most_bytes=self.definition_bytes, clock=self.clock
            )
        if self.datafile_seconds and self.definition_bytes:
            caches["datafile"] = Cache(
                seconds=self.datafile_seconds, most_bytes=self.definition_bytes, clock=self.clock
            )
        if self.results_bytes:
            caches["results"] = Cache(
                seconds=self.results_seconds,
                most_bytes=self.results_bytes,
                period_seconds=RESULTS_PERIOD_SECONDS,
                clock=self.clock,
            )
        return caches


class _ServiceCall(PendingCall):
    """A pending call for one request only."""

    __slots__ = ("_address", "_entity_tag", "_request_id", "account", "call", "client", "counts_since",
                 "events", "may_repeat", "second", "seconds_told")  # fmt: skip

    def __init__(
        self, client: "CachingClient", call: Call, context: CallContext, entity_tag: str = ""
    ) -> None:
        super().__init__()
        self.client, self.call = client, call
        self._request_id, self.account = context.request_id, context.account_id
        self._entity_tag = entity_tag
        self._address = client.address(call)
        self.seconds_told, self.counts_since = 0.0, math.inf
        self.may_repeat = True  # it is safe
        self.events: tuple[str, ...] = ()
        self.second: asyncio.Future[ServiceResponse] | None = None

    @property
    def may_wait(self) -> bool:
        return self.call.may_wait

    async def work(self) -> Any:
        try:
            return self.read(await send(self, self.client.policies[self.call.upstream]))
        except NO_RESPONSE as exc:
            raise self.client.failure(self.call, exc, 0.0) from exc

    def note(self, event: str) -> None:
        self.events += (event,)

    def has_less_time_than(self, limit: float) -> bool:
        """Whether it has ended, and its service was told of a shorter wait than `limit`."""
        return self.ended_at is not None and self.seconds_told < limit - TOLERANCE_SECONDS

    def hedge(self) -> bool:
        if not self.may_repeat:
            return False
        self.may_repeat = False
        self.note("hedged")
        # `seconds_told` stays that of the first attempt: its 504 is judged by it.
        request = self._serialised(self.seconds_left())
        work = self.client.connector.request(self._address.destination, request)
        self.second = second = self._loop.create_task(work)
        second.add_done_callback(self._end_second)
        return True

    def _end_second(self, second: "asyncio.Future[ServiceResponse]") -> None:
        if second.cancelled():
            return
        is_good = second.exception() is None and second.result()[0] < 500
        if second is not self.second:
            return  # the first attempt has ended
        if is_good:
            self._throw(HedgeWon(second.result()))
        else:
            self.second = None

    def attempt(self, *, on_new_connection: bool = False) -> Awaitable[ServiceResponse]:
        connector, destination = self.client.connector, self._address.destination
        self.seconds_told = seconds_left = self.seconds_left()
        request = self._serialised(seconds_left)
        connection = None if on_new_connection else connector.take_idle(destination)
        if connection is None:
            return self._attempt_in_task(request, on_new_connection=on_new_connection)
        response = ResponseOnConnection(connector, destination, connection)
        connection.send(request, None, response)
        return response

    async def _attempt_in_task(self, request: ServiceRequest, *, on_new_connection: bool) -> ServiceResponse:
        """Only waiting for a connection needs a task."""
        work = self.client.connector.request(
            self._address.destination, request, on_new_connection=on_new_connection
        )
        task = self._loop.create_task(work)
        try:
            return await task
        finally:
            task.cancel()  # whatever ended the wait; a task that has ended is not changed

    def _serialised(self, seconds_left: float) -> ServiceRequest:
        return self._address.request(self.call, self._request_id, seconds_left, self._entity_tag)

    def read(self, response: ServiceResponse) -> Any:
        """Return the value of the response, or raise."""
        try:
            return self.client.read(self.call, response)
        except (EntityNotFound, Denied):
            self.client.drop(self.call)
            raise

    def lost_waiter(self) -> None:
        # A call that is joined again and again may last for twice the time limit, and is silent all the time.
        count_silence(self, self.client.policies[self.call.upstream])

    def stop_sharing(self) -> None:
        """Nothing to do: it is not shared."""


class _SharedCall(_ServiceCall):
    """A pending call that further requests may join, and whose value goes into a cache."""

    __slots__ = ("cache", "entry", "joinable_until", "send_time")

    def __init__(
        self,
        client: "CachingClient",
        call: Call,
        context: CallContext,
        cache: Cache | None,
        entry: Entry | None,
    ) -> None:
        """`entry` is what the cache has, to be confirmed."""
        self.cache, self.entry = cache, entry
        snapshot = client.generations.snapshot(call)
        self.send_time = (
            SendTime(client.clock.monotonic(), 0, snapshot) if cache is None else cache.send_time(snapshot)
        )
        # A request that arrives after this starts a new call; this one is probably stuck.
        self.joinable_until = self.send_time.sent + client.address(call).timeout_seconds
        super().__init__(client, call, context, "" if self.entry is None else self.entry.entity_tag)

    @property
    def may_be_joined(self) -> bool:
        """False once a write was made: a read that begins afterwards must show it.

        And while the service is silent: the throttle is to say who waits for it.
        """
        if not self.send_time.snapshot.is_current or self.client.clock.monotonic() >= self.joinable_until:
            return False
        return not self.client.policies[self.call.upstream].throttle.is_silent

    def read(self, response: ServiceResponse) -> Any:
        status, body, headers = response
        call, cache, entry = self.call, self.cache, self.entry
        if status == 304 and cache is not None and entry is not None and entry.entity_tag:
            cache.confirm(call.key, entry, self.send_time)
            return entry.value
        value = super().read(response)
        if status == 200 and cache is not None:
            cache.put(call.key, value, body, headers.get("ETag", ""), self.send_time)
        return value

    def is_older_than(self, entry: Entry) -> bool:
        """Whether the call was sent before the one that confirmed the entry."""
        return self.send_time.sent < entry.send_time.sent

    def stop_sharing(self) -> None:
        shared_calls, key = self.client.shared_calls, (self.call.key, self.call.entity)
        # A later call may have taken the place of this one.
        if shared_calls.get(key) is self:
            del shared_calls[key]


class CachingClient(Client):
    """The client, with shared calls and caches."""

    def __init__(
        self,
        connector: ServiceConnector,
        upstreams: Mapping[str, Upstream],
        limits: Limits,
        shapes: Mapping[str, Check],
        options: CachingOptions,
        generations: Generations,
        policy_options: PolicyOptions,
    ) -> None:
        super().__init__(connector, upstreams, limits, shapes, policy_options)
        self.coalesce, self.clock, self.generations = options.coalesce, options.clock, generations
        self.caches = options.caches()
        self.stale = StaleIfError(options.stale_seconds, options.clock)
        # A call under way in this worker may have read older data than another worker has returned since. If counts
        # must never go back for a client that alternates between two workers, calls for results are not shared.
        self.confirms_results = not options.results_seconds
        self.shared_calls: dict[tuple[Key, str], _SharedCall] = {}

    async def fetch(self, call: Call, context: CallContext) -> Any:
        """Return the value of the call's response, as `Client.fetch` does, or a fresh value from the cache."""
        if not call.is_safe:
            return await self._write(call, context)
        entry = self._entry(call)
        if (value := self._cached(call, entry, context)) is not _MISSING:
            return value
        return (await self._fetch_safe([call], [entry], context))[0]

    async def fetch_all(
        self, calls: Sequence[Call], context: CallContext, *, at_most: int | None = None
    ) -> list[Any]:
        """As `Client.fetch_all`, without a task for each call when all calls may be sent at once."""
        entries = [self._entry(call) if call.is_safe else None for call in calls]
        values = [
            self._cached(call, entry, context) if entry is not None else _MISSING
            for call, entry in zip(calls, entries, strict=True)
        ]
        missing = [call for call, value in zip(calls, values, strict=True) if value is _MISSING]
        if not missing:
            return values
        if len(missing) > (at_most or len(missing)) or not all(call.is_safe for call in missing):
            fetched = iter(await super().fetch_all(missing, context, at_most=at_most))
        else:
            to_confirm = [entry for entry, value in zip(entries, values, strict=True) if value is _MISSING]
            fetched = iter(await self._fetch_safe(missing, to_confirm, context))
        return [next(fetched) if value is _MISSING else value for value in values]

    async def _fetch_safe(
        self, calls: Sequence[Call], entries: Sequence[Entry | None], context: CallContext
    ) -> list[Any]:
        """Send safe calls, or join those under way, and return their values; the first failure ends the wait.

        `entries` are what the caches have for the calls.
        """
        started = time.monotonic()
        kept = [
            entry is not None and self._may_stand(call, entry, context)
            for call, entry in zip(calls, entries, strict=True)
        ]
        limits = [
            self._longest_wait(call, context, started, has_kept=has_kept)
            for call, has_kept in zip(calls, kept, strict=True)
        ]
        pending_calls: list[_ServiceCall] = []
        waiter = Waiter(self.connector.context)
        try:
            for call, entry, limit, has_kept in zip(calls, entries, limits, kept, strict=True):
                pending_call = self._pending_call(call, entry, context)
                pending_calls.append(pending_call)
                waiter.join(pending_call, limit, is_optional=call.is_optional or has_kept)
            for pending_call in pending_calls:
                pending_call.start()  # all are joined by now: one that ends at once must not end the wait
            await waiter.ended
        finally:
            waiter.leave()
            now = time.monotonic()
            for pending_call in pending_calls:
                upstream = pending_call.call.upstream
                context.note(upstream, (pending_call.ended_at or now) - started)
                for event in pending_call.events:
                    context.note_event(upstream, event)
        if waiter.has_ended_well:
            return [pending_call.value for pending_call in pending_calls]
        return self._outcomes(calls, pending_calls, limits, kept, waiter, context)

    def _longest_wait(self, call: Call, context: CallContext, now: float, *, has_kept: bool) -> float:
        """The limit of a call; where a kept value may stand for its own, half of the time is left to what follows.

        Not of a call for a computation: nothing follows it, and it has a wait of its own.
        """
        limit = self.limit(call, context, now)
        if has_kept and call.wait_seconds is None:
            return min(limit, SHARE_OF_TIME_LEFT * (context.deadline - now))
        return limit

    def _outcomes(
        self,
        calls: Sequence[Call],
        pending_calls: Sequence[_ServiceCall],
        limits: Sequence[float],
        kept: Sequence[bool],
        waiter: Waiter,
        context: CallContext,
    ) -> list[Any]:
        """Return the values, some of them kept, and the outages of optional calls.

        Raises the other failures, a defect of ours first.
        """
        outcomes: list[Any] = []
        failure: UpstreamError | None = None
        for call, pending_call, limit, had_kept in zip(calls, pending_calls, limits, kept, strict=True):
            error = pending_call.failure
            if waiter.was_late(pending_call):
                error = UpstreamTimeout(call.upstream, limit)
            if error is None:
                outcomes.append(pending_call.value)
                continue
            if not isinstance(error, UpstreamError):
                raise error
            error.call = call
            # Not one that was stored since: without one at the start, the failure has ended the wait for the others.
            entry = self._kept(call, context) if had_kept and error.is_outage else None
            if entry is not None:
                if self._is_out(error, pending_call, limit, entry, context):
                    self.stale.note_outage(entry, error.code)
                outcomes.append(self._use(call, entry, context, error.code, was_asked=True))
                continue
            if failure is None and not (call.is_optional and error.is_outage):
                failure = error
            outcomes.append(error)
        if failure is not None:
            raise failure
        return outcomes

    def _is_out(
        self,
        error: UpstreamError,
        pending_call: _ServiceCall,
        limit: float,
        entry: Entry,
        context: CallContext,
    ) -> bool:
        """Whether the error of a call is a reason for other callers to use the entry without asking the service."""
        if isinstance(pending_call, _SharedCall) and pending_call.is_older_than(entry):
            return False  # the service has answered a call that was sent later: it has returned
        if isinstance(error, UpstreamTimeout) and pending_call.has_less_time_than(limit):
            return False  # the service gave up when another caller would, who sent the shared call
        return context.shows_outage(error, limit, self.address(pending_call.call).timeout_seconds)

    def _kept(self, call: Call, context: CallContext) -> Entry | None:
        """The entry that may stand for the value of a call, if its service does not answer."""
        entry = self._entry(call)
        return entry if entry is not None and self._may_stand(call, entry, context) else None

    def _may_stand(self, call: Call, entry: Entry, context: CallContext) -> bool:
        return context.takes_stale and self.stale.may_serve(call, entry)

    def _entry(self, call: Call) -> Entry | None:
        """What the cache has, fresh or not; looked up once for a call, since a look-up is not cheap."""
        cache = self.caches.get(call.cached_as)
        return None if cache is None else cache.get(call.key)

    def _use(self, call: Call, entry: Entry, context: CallContext, reason: str, *, was_asked: bool) -> Any:
        value, use = self.stale.use(call, entry, reason, was_asked=was_asked)
        context.kept = (*context.kept, use)
        return value

    def drop(self, call: Call) -> None:
        """Keep nothing of what a service denies."""
        for cache in self.caches.values():
            cache.drop(call.key)

    async def _write(self, call: Call, context: CallContext) -> Any:
        may_be_made = True
        try:
            return await super().fetch(call, context)
        except NeverSent:
            may_be_made = False
            raise
        finally:
            # After other failures too: without a response nobody knows whether the write was made.
            if may_be_made:
                self.generations.advance(call)

    def _cached(self, call: Call, entry: Entry | None, context: CallContext) -> Any:
        """A fresh value; or one whose service was asked a moment ago, and did not answer."""
        if entry is None:
            return _MISSING
        if self.caches[call.cached_as].is_fresh(entry):
            return entry.value
        if not (entry.outage and self._may_stand(call, entry, context)):
            return _MISSING
        return (
            _MISSING
            if self.stale.ask_first(entry)
            else self._use(call, entry, context, entry.outage, was_asked=False)
        )

    def _pending_call(self, call: Call, entry: Entry | None, context: CallContext) -> _ServiceCall:
        """Return a shared call that is under way already, or a new one, which is to be started."""
        cache = self.caches.get(call.cached_as)
        is_shared = self.coalesce and not (call.cached_as == "results" and self.confirms_results)
        if cache is None and not is_shared:
            return _ServiceCall(self, call, context)
        # Also by the entity: it decides what a 404 means, and so whether two calls may fail together.
        key = call.key, call.entity
        shared = self.shared_calls.get(key) if is_shared else None
        if shared is None or not shared.may_be_joined:
            shared = _SharedCall(self, call, context, cache, entry)
            if is_shared:
                self.shared_calls[key] = shared
        return shared


@asynccontextmanager
async def open_caching_client(
    upstreams: Mapping[str, Upstream],
    limits: Limits,
    shapes: Mapping[str, Check],
    options: CachingOptions,
    shared: mmap.mmap | None = None,
    policy_options: PolicyOptions = DEFAULT_POLICIES,
) -> AsyncIterator[Client]:
    """Open the worker's client; leaving the context closes its connections.

    `shared` is memory for the generations: clients of several processes that share it notice each other's writes.
    """
    connector = make_connector(limits, policy_options)
    async with connector:
        yield CachingClient(
            connector, upstreams, limits, shapes, options, Generations(shared), policy_options
        )
