"""What must hold at every step of a simulation."""

import hashlib
import math
import struct
from collections import Counter
from collections.abc import Mapping
from typing import Any

from optimizely_api.upstream.caching.caching_client import CachingClient
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.errors import UpstreamError
from optimizely_api.upstream.resilience.policies import Policies, PolicyOptions
from optimizely_api.upstream.transport.connection import ServiceResponse
from tests.simulate.books import Books
from tests.simulate.requests import NEEDS, SimulatedRequest
from tests.simulate.services import Service, Truth, threshold
from tests.simulate.steps import STEP_SECONDS, Steps
from tests.simulate.virtual_loop import STARTED, VirtualLoop

WELL_SECONDS = 0.1  # the longest duration of a request whose services are well


class Invariants:
    """Watches one worker's client and its services.

    `fresh_seconds` is {kind of what is kept: how long it may be used without a call}.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        client: CachingClient,
        services: Mapping[str, Service],
        truth: Truth,
        options: PolicyOptions,
        fresh_seconds: Mapping[str, float],
    ) -> None:
        self._client, self._truth, self._fresh_seconds = client, truth, fresh_seconds
        self._steps = Steps(loop)
        self.books = {
            name: Books(service, client.policies[name], options, self._steps)
            for name, service in services.items()
        }
        self._by_policies = {id(books.policies): books for books in self.books.values()}
        self._under_way: dict[SimulatedRequest, None] = {}
        self._digest = hashlib.blake2b(digest_size=8)
        self._denied_at: dict[str, float] = {}
        self._written: dict[int, int] = {}  # the version of the last write that was acknowledged, by place
        self.outcomes: Counter[str] = Counter()
        for service in services.values():
            service.delivered = self._delivered
        self.note = self._steps.note

    @property
    def digest(self) -> str:
        """Of all outcomes and their times."""
        return self._digest.hexdigest()

    async def call(self, send: Any, sending: Any, policies: Policies) -> ServiceResponse:
        """Send a call of the client, in place of `order.send`."""
        return await self._by_policies[id(policies)].call(send, sending)

    def begins(self, request: SimulatedRequest) -> None:
        request.least_version = self._written.get(request.place, 0)
        self._under_way[request] = None

    def ends(self, request: SimulatedRequest, outcome: Any) -> None:
        """A request has its value, or an exception."""
        del self._under_way[request]
        now = self._steps.now()
        if now > request.deadline + STEP_SECONDS:
            self._steps.broken(f"{request} ended {now - request.deadline:.3f} s after its deadline")
        if isinstance(outcome, UpstreamError):
            said = self._judge_failure(request, outcome, now)
        elif isinstance(outcome, BaseException):
            self._steps.broken(f"{request} failed: {outcome!r}")
        else:
            said = self._judge_value(request, outcome, now)
        self.outcomes[said] += 1
        self._digest.update(struct.pack("<d", now))
        self._digest.update(f"{request.uuid}{said}".encode())
        self.note(request, said)
        for books in self.books.values():
            books.check_numbers()

    def second(self) -> None:
        """Once a second: nobody waits for ever, nothing repeats too much, and nothing denied is kept."""
        now = self._steps.now()
        for request in self._under_way:
            if now > request.deadline + STEP_SECONDS:
                late = now - request.deadline
                self._steps.broken(f"{request} has not ended {late:.3f} s after its deadline")
        for books in self.books.values():
            books.check_shares()
        for path, denied_at in list(self._denied_at.items()):
            self._check_denied(path, denied_at)

    def idle(self) -> None:
        """When no request has begun for long, nothing is left of any."""
        if self._under_way:
            self._steps.broken(f"{next(iter(self._under_way))} was forgotten")
        if self._client.shared_calls:
            self._steps.broken(f"calls are shared by nobody: {self._client.shared_calls}")
        if self._client.connector._acquired:
            self._steps.broken("connections are in use by nobody")
        for books in self.books.values():
            books.check_idle()

    def _delivered(self, path: bytes, status: int) -> None:
        if status in (401, 403, 404, 410):
            self._denied_at[path.decode()] = self._steps.now()
            self.note(path.decode(), "is denied:", status)

    def _check_denied(self, path: str, denied_at: float) -> None:
        """Nothing is kept from before a denial."""
        for cache in self._client.caches.values():
            for key, entry in cache._entries.items():
                if key[0] != path or not entry.send_time.snapshot.is_current:
                    continue
                if entry.send_time.sent < denied_at:
                    at = denied_at - STARTED
                    self._steps.broken(f"{path} was denied at {at:.3f} s, and is kept from before")
                self._denied_at.pop(path, None)

    def _judge_failure(self, request: SimulatedRequest, error: UpstreamError, now: float) -> str:
        """An outage is that of a service that has one, and of a part that is required; a denial was made."""
        if not error.is_outage:
            if error.call is None or not self._was_denied(error.call, request.started):
                self._steps.broken(f"{request} was denied by no service: {error!r}")
            return error.code
        if error.call is not None and error.call.is_optional:
            self._steps.broken(f"{request} failed by an optional part: {error!r}")
        # A slow service may leave no time for another, which is well.
        had_time = self._is_trusted(request) or now < request.deadline - STEP_SECONDS
        if had_time and self.books[error.upstream].is_trusted(request.started):
            self._steps.broken(f"{request} failed by a service that is well: {error!r}")
        return error.code

    def _is_trusted(self, request: SimulatedRequest) -> bool:
        """Whether all services that a request needs were well when it began, and are."""
        return all(self.books[name].is_trusted(request.started) for name in NEEDS[request.operation])

    def _was_denied(self, call: Call, since: float) -> bool:
        return self._denied_at.get(call.path, -math.inf) >= since

    def _judge_value(self, request: SimulatedRequest, value: Any, now: float) -> str:
        context = request.call_context
        if self._is_trusted(request):
            if context.kept or context.unreachable:
                lacks = context.unreachable
                self._steps.broken(f"{request} got {context.kept}, lacks {lacks}, and all services are well")
            if now - request.started > WELL_SECONDS:
                self._steps.broken(f"{request} took {now - request.started:.3f} s, and all services are well")
        for use in context.kept:
            if not 0 <= use.age_seconds <= self._client.stale._seconds[use.call.cached_as]:
                self._steps.broken(f"{request} got what is too old: {use}")
            if not context.takes_stale:
                self._steps.broken(f"{request} is a write, and got {use}")
        if request.operation == "get_experiment_results":
            self._check_results(request, value)
        elif request.operation == "get_project":
            self._check_is(request, value, "id", request.swagger_data["project_id"])
        else:
            self._check_experiment(request, value)
        return "partial" if context.unreachable else "stale" if context.kept else "fresh"

    def _check_results(self, request: SimulatedRequest, value: Mapping[str, Any]) -> None:
        ids, missing = request.swagger_data, request.call_context.unreachable
        self._check_is(request, value, "experiment_id", ids["experiment_id"])
        expected = None if "project" in missing else threshold(ids["project_id"])
        self._check_is(request, value, "confidence_threshold", expected)
        age = self._age(request, "results")
        self._check_is(request, value, "is_stale", age is not None)
        self._check_version(request, "results", value["reach"]["total_count"], age)

    def _check_experiment(self, request: SimulatedRequest, value: Mapping[str, Any]) -> None:
        self._check_is(request, value, "id", request.swagger_data["experiment_id"])
        version = int(value["name"])
        self._check_version(request, "experiments", version, self._age(request, "experiments"))
        if version < request.least_version:
            self._steps.broken(f"{request} got version {version}, and {request.least_version} was written")
        if request.operation == "update_experiment":
            self._written[request.place] = max(version, self._written.get(request.place, 0))

    def _age(self, request: SimulatedRequest, kind: str) -> float | None:
        """The age of the kept value of one kind that a request got; None for a fresh one."""
        prefix = f"/{kind}/"
        for use in request.call_context.kept:
            if use.call.path.startswith(prefix):
                return use.age_seconds
        return None

    def _check_version(self, request: SimulatedRequest, kind: str, version: int, age: float | None) -> None:
        """A version held when the value was asked for, which was as long ago as the response says."""
        path = f"/{kind}/{request.swagger_data['experiment_id']}".encode()
        longest = (
            self._fresh_seconds["results" if kind == "results" else "definition"] if age is None else age
        )
        if self._truth.held_until(path, version) < request.started - longest:
            self._steps.broken(f"{request} got version {version}, which is older than {longest} s")

    def _check_is(
        self, request: SimulatedRequest, value: Mapping[str, Any], name: str, expected: Any
    ) -> None:
        if value.get(name) != expected:
            self._steps.broken(f"{request} got {name} {value.get(name)} in place of {expected}")
