"""The worker's upstream client, from the settings: opened and closed with the worker, and at hand on each request.

A coroutine view writes `await request.fetch(call)` and `await request.fetch_all(calls)`.
"""

import functools
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from pyramid.config import Configurator
from pyramid.registry import Registry

from optimizely_api.contract import CONTRACT, Contract
from optimizely_api.contract.validators import Definitions, ResponseValidator
from optimizely_api.gateway.composition.parts import Known, Makers, Parts
from optimizely_api.gateway.contract.requests import ContractRequest
from optimizely_api.gateway.settings import Settings
from optimizely_api.serving import file_limits
from optimizely_api.serving.shared_memory import shared_memory
from optimizely_api.upstream import shapes
from optimizely_api.upstream.caching.caching_client import CachingOptions, open_caching_client
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import CallContext, Limits, Upstream
from optimizely_api.upstream.errors import UpstreamError
from optimizely_api.upstream.resilience.policies import PolicyOptions
from optimizely_api.upstream.transport import relied_on
from optimizely_api.upstream.transport.connection import ServiceResponse

CLIENT = "optimizely_api.gateway.upstreams"  # where the registry keeps the worker's client


def upstreams(settings: Settings) -> dict[str, Upstream]:
    return {
        name: Upstream(url=url, timeout_seconds=seconds, key=settings.services_key)
        for name, url, seconds in (
            ("projects", settings.projects_url, settings.projects_timeout_seconds),
            ("experiments", settings.experiments_url, settings.experiments_timeout_seconds),
            ("results", settings.results_url, settings.results_timeout_seconds),
        )
    }


def limits(settings: Settings) -> Limits:
    return Limits(
        connections=settings.upstream_connections,
        connect_timeout_seconds=settings.upstream_connect_timeout_seconds,
        response_bytes=settings.upstream_answer_bytes,
        most_connections=file_limits.for_services(),
        echo_required=settings.upstream_echo_required,
        request_seconds=settings.request_deadline_seconds,
    )


def caching_options(settings: Settings) -> CachingOptions:
    return CachingOptions(
        coalesce=settings.coalesce_calls,
        definition_seconds=settings.definition_cache_seconds,
        definition_bytes=settings.definition_cache_bytes,
        datafile_seconds=settings.datafile_cache_seconds,
        results_seconds=settings.results_cache_seconds,
        results_bytes=settings.results_cache_bytes,
        stale_seconds={
            "definition": settings.stale_if_error_seconds,
            "datafile": settings.stale_if_error_seconds,
            "results": settings.stale_if_error_results_seconds,
        },
    )


def policy_options(settings: Settings) -> PolicyOptions:
    return PolicyOptions(
        retry_tokens=settings.retry_tokens,
        throttle_seconds=settings.throttle_seconds,
        fewest_calls=settings.fewest_calls,
        most_calls=settings.upstream_connections,
        hedge_share=settings.hedge_share,
    )


@functools.lru_cache(maxsize=4)
def shape_checks(contract: Contract) -> Mapping[str, shapes.Check]:
    """The compiled shapes of the services' responses, over the contract's definitions."""
    definitions = Definitions(contract.document["definitions"])

    def compiled(schema: shapes.Schema) -> shapes.Check:
        validator = ResponseValidator(schema, definitions)

        def check(value: Any) -> str | None:
            violation = validator.check(value, may_hold_nan=False)
            return None if violation is None else f"{violation.pointer or '/'} ({violation.keyword})"

        return check

    return shapes.Checks(compiled)


@asynccontextmanager
async def upstream_session(registry: Registry) -> AsyncIterator[None]:
    settings, shapes = registry["settings"], shape_checks(registry[CONTRACT])
    async with open_caching_client(
        upstreams(settings),
        limits(settings),
        shapes,
        caching_options(settings),
        shared_memory(),
        policy_options(settings),
    ) as client:
        registry[CLIENT] = client
        yield


class GatewayRequest(ContractRequest):
    """A request that can ask the services.

    These are methods of the class, for `config.add_request_method` would make each request hold itself: a cycle, which
    keeps it and all the answers in memory until the garbage collector finds them.
    """

    def fetch(self, call: Call) -> Awaitable[Any]:
        """Send one call inside the request's deadline; returns the response's value or raises an UpstreamError.

        A call that changes something names the caller, for the history of changes.
        """
        if not call.is_safe:
            call.user = self.identity.recorded_as
            call.operation = self.claimed_operation
        value: Awaitable[Any] = self.registry[CLIENT].fetch(call, self.call_context)
        return value

    def forward(self, call: Call, deadline_seconds: float) -> Awaitable[ServiceResponse]:
        """Send one call and return its response, whatever its status; raises an UpstreamError without one.

        The deadline counts from now, and no longer from the beginning of the request, whose body may have been slow;
        the caller's own counts from there.
        """
        given: CallContext = self.call_context
        deadline = min(time.monotonic() + deadline_seconds, given.wished_deadline)
        context = replace(given, deadline=deadline)
        response: Awaitable[ServiceResponse] = self.registry[CLIENT].send(call, context, may_repeat=True)
        return response

    def fetch_all(self, calls: Sequence[Call], *, at_most: int | None = None) -> Awaitable[list[Any]]:
        """Send calls together; brings their values in order, or raises the first failure and cancels the rest."""
        values: Awaitable[list[Any]] = self.registry[CLIENT].fetch_all(
            calls, self.call_context, at_most=at_most
        )
        return values

    async def fetch_parts(self, makers: Makers, known: Known, *, at_most: int | None = None) -> Parts:
        """Fetch the parts of the operation's response that are not known, in the steps of the contract.

        Raises the failure of a required part; without an optional one the response says so.
        """
        parts = Parts(self.composition, known)
        while calls := parts.next_calls(makers):
            parts.take(await self.fetch_all(calls, at_most=at_most))
        if parts.unreachable:
            self.do_without(parts.unreachable)
        return parts

    async def fetch_optional(self, value: Awaitable[Any]) -> Any:
        """Await a value made of optional parts; None where one of them failed, and the response says so."""
        try:
            return await value
        except UpstreamError as exc:
            lost = self.composition.lost_with(self.failed_part(exc)) if exc.is_outage else ()
            if not lost:
                raise
            self.do_without(dict.fromkeys(lost, exc))
            return None


def includeme(config: Configurator) -> None:
    """Open and close the client with the worker; `GatewayRequest` has to be the application's request factory."""
    relied_on.check()
    config.add_lifespan(upstream_session)
