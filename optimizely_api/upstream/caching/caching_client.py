"""A client that makes fewer calls: what is asked for twice at one moment is asked once, and good answers are kept.

It lies below the identity check, and knows nobody's identity: what it hands out is the service's answer to a call, the
same for every caller, and the views judge who may see it, on each request anew.

- Identical safe calls under way at one moment are made once (`flights.py`).
- The 200 of a call that says so (`Call.kept_as`) is kept (`shelf.py`): trusted for a few seconds from the moment its
  call was sent, then confirmed with If-None-Match where the service gave an ETag (RFC 9110 section 13.1.2).
- A write changes stamps (`stamps.py`): no call begun before its answer, nor what that call brought, serves a read that
  begins afterwards, in any worker of this gunicorn.

One value object serves many requests, for as long as it is kept: nobody may change what `fetch` returns. Composition
only makes new dictionaries around its parts.
"""

import mmap
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from optimizely_api.upstream.caching.cache import Clock, Moment, Shelf
from optimizely_api.upstream.caching.coalescing import Flight, Waiting
from optimizely_api.upstream.caching.generations import Stamps
from optimizely_api.upstream.calls import Call, Key
from optimizely_api.upstream.client import NO_ANSWER, Client, Limits, Scope, Upstream, make_connector
from optimizely_api.upstream.errors import UpstreamError, UpstreamTimeout
from optimizely_api.upstream.shapes import Check
from optimizely_api.upstream.transport.connection import Answer
from optimizely_api.upstream.transport.connector import ServiceConnector

RESULTS_SLOT_SECONDS = 300.0  # the results service answers about slots of five minutes

_NOTHING = object()


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What is saved, and for how long; a `definition_seconds` or a number of bytes of 0 turns that cache off.

    With `results_seconds` of 0 kept results are confirmed by the service each time, and calls about them not shared.
    """

    coalesce: bool = True
    definition_seconds: float = 5.0
    definition_bytes: int = 64 * 1024 * 1024
    results_seconds: float = 0.0
    results_bytes: int = 64 * 1024 * 1024
    clock: Clock = field(default_factory=Clock)

    def shelves(self) -> dict[str, Shelf]:
        """A shelf for each `Call.kept_as` that is kept at all."""
        shelves = {}
        if self.definition_seconds and self.definition_bytes:
            shelves["definition"] = Shelf(
                seconds=self.definition_seconds, largest_bytes=self.definition_bytes, clock=self.clock
            )
        if self.results_bytes:
            shelves["results"] = Shelf(
                seconds=self.results_seconds,
                largest_bytes=self.results_bytes,
                slot_seconds=RESULTS_SLOT_SECONDS,
                clock=self.clock,
            )
        return shelves


class _Asking(Flight):
    """A flight for one request only."""

    __slots__ = ("call", "client")

    def __init__(self, client: "SavingClient", call: Call, request_id: str, entity_tag: str = "") -> None:
        self.client, self.call = client, call
        address = client.address(call)
        super().__init__(client.connector, address.destination, address.request(call, request_id, entity_tag))

    def read(self, answer: Answer) -> Any:
        return self.client.read(self.call, answer)

    def explain(self, error: BaseException) -> BaseException:
        if not isinstance(error, NO_ANSWER):
            return error
        explained = self.client.failure(self.call, error, 0.0)
        explained.__cause__ = error
        return explained

    def land(self) -> None:
        """Nobody else may join."""


class _Shared(_Asking):
    """A flight that others may join, and that puts what it brings on its shelf."""

    __slots__ = ("kept", "moment", "shelf", "until")

    def __init__(self, client: "SavingClient", call: Call, request_id: str, shelf: Shelf | None) -> None:
        self.shelf = shelf
        self.kept = None if shelf is None else shelf.find(call.key)
        stamp = client.stamps.of(call)
        self.moment = Moment(client.clock.monotonic(), 0, stamp) if shelf is None else shelf.moment(stamp)
        # Who comes later than this does better to ask anew: the call should have been answered long ago.
        self.until = self.moment.sent + client.address(call).timeout_seconds
        super().__init__(client, call, request_id, "" if self.kept is None else self.kept.entity_tag)

    @property
    def may_be_joined(self) -> bool:
        """Not once a write was answered: what is read after that must show it."""
        return self.moment.stamp.holds and self.client.clock.monotonic() < self.until

    def read(self, answer: Answer) -> Any:
        status, body, headers = answer
        call, shelf, kept = self.call, self.shelf, self.kept
        if status == 304 and shelf is not None and kept is not None and kept.entity_tag:
            shelf.renew(call.key, kept, self.moment)
            return kept.value
        value = super().read(answer)
        if status == 200 and shelf is not None:
            shelf.keep(call.key, value, body, headers.get("ETag", ""), self.moment)
        return value

    def land(self) -> None:
        flights, key = self.client.flights, (self.call.key, self.call.entity)
        if flights.get(key) is self:
            del flights[key]


class SavingClient(Client):
    """The client, with coalescing and caches around its calls."""

    def __init__(
        self,
        connector: ServiceConnector,
        upstreams: Mapping[str, Upstream],
        limits: Limits,
        shapes: Mapping[str, Check],
        saving: Saving,
        stamps: Stamps,
    ) -> None:
        super().__init__(connector, upstreams, limits, shapes)
        self.coalesce, self.clock, self.stamps = saving.coalesce, saving.clock, stamps
        self.shelves = saving.shelves()
        # A call under way in this worker may have read older data than another worker has shown since: whoever must
        # see each event at once joins none, or counts could go back for a caller between two workers.
        self.confirms_results = not saving.results_seconds
        self.flights: dict[tuple[Key, str], _Shared] = {}

    async def fetch(self, call: Call, scope: Scope) -> Any:
        """Return the value of the call's answer, as `Client.fetch` does; of what is kept, without a call."""
        if not call.is_safe:
            return await self._write(call, scope)
        if (value := self._trusted(call)) is not _NOTHING:
            return value
        return (await self._ask([call], scope))[0]

    async def fetch_all(
        self, calls: Sequence[Call], scope: Scope, *, at_most: int | None = None
    ) -> list[Any]:
        """As `Client.fetch_all`, without tasks for calls that may all be sent at once."""
        values = [self._trusted(call) if call.is_safe else _NOTHING for call in calls]
        missing = [call for call, value in zip(calls, values, strict=True) if value is _NOTHING]
        if not missing:
            return values
        if len(missing) > (at_most or len(missing)) or not all(call.is_safe for call in missing):
            fetched = iter(await super().fetch_all(missing, scope, at_most=at_most))
        else:
            fetched = iter(await self._ask(missing, scope))
        return [next(fetched) if value is _NOTHING else value for value in values]

    async def _ask(self, calls: Sequence[Call], scope: Scope) -> list[Any]:
        """Send safe calls, or join those under way, and return their values; the first failure ends the waiting."""
        started = time.monotonic()
        limits = [self.limit(call, scope, started) for call in calls]
        flights: list[_Asking] = []
        waiting = Waiting(self.connector.context)
        try:
            for call, limit in zip(calls, limits, strict=True):
                flight = self._flight(call, scope.request_id)
                flights.append(flight)
                waiting.board(flight, limit)
            await waiting.ended
        finally:
            waiting.leave()
            now = time.monotonic()
            for flight in flights:
                scope.note(flight.call.upstream, (flight.ended_at or now) - started)
        self._raise_failure(flights, limits, waiting.late)
        return [flight.value for flight in flights]

    def _raise_failure(
        self, flights: Sequence["_Asking"], limits: Sequence[float], late: Flight | None
    ) -> None:
        """Raise what went wrong, a defect of ours before what a service did."""
        failed = [flight for flight in flights if flight.error is not None]
        for flight in failed:
            if not isinstance(flight.error, UpstreamError):
                flight.value  # noqa: B018
        if failed:
            failed[0].value  # noqa: B018
        for flight, limit in zip(flights, limits, strict=True):
            if flight is late:
                raise UpstreamTimeout(flight.call.upstream, limit)

    async def _write(self, call: Call, scope: Scope) -> Any:
        try:
            return await super().fetch(call, scope)
        finally:
            # However it ended: of a write without an answer nobody knows whether it was made.
            self.stamps.change(call)

    def _trusted(self, call: Call) -> Any:
        shelf = self.shelves.get(call.kept_as)
        kept = None if shelf is None else shelf.find(call.key)
        return kept.value if shelf is not None and kept is not None and shelf.trusts(kept) else _NOTHING

    def _flight(self, call: Call, request_id: str) -> _Asking:
        """One that is under way already, or a new one."""
        shelf = self.shelves.get(call.kept_as)
        joins = self.coalesce and not (call.kept_as == "results" and self.confirms_results)
        if shelf is None and not joins:
            alone = _Asking(self, call, request_id)
            alone.start()
            return alone
        key = call.key, call.entity
        flight = self.flights.get(key) if joins else None
        if flight is None or not flight.may_be_joined:
            flight = _Shared(self, call, request_id, shelf)
            flight.start()
            if joins:
                self.flights[key] = flight
        return flight


@asynccontextmanager
async def open_saving_client(
    upstreams: Mapping[str, Upstream],
    limits: Limits,
    shapes: Mapping[str, Check],
    saving: Saving,
    shared: mmap.mmap | None = None,
) -> AsyncIterator[Client]:
    """Open the worker's client, with what `saving` says; leaving closes its connections.

    `shared` is memory that the clients of several processes have in common, and with it what they know of writes.
    """
    connector = make_connector(limits)
    async with connector:
        yield SavingClient(connector, upstreams, limits, shapes, saving, Stamps(shared))
