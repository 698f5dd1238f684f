"""The worker's upstream client, from the settings: opened and closed with the worker, and at hand on each request.

A coroutine view writes `await request.fetch(call)` and `await request.fetch_all(calls)`.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from pyramid.config import Configurator
from pyramid.registry import Registry

from optimizely_api.contract import CONTRACT, Contract
from optimizely_api.contract.validators import ResponseValidator, json_schema
from optimizely_api.gateway.contract.requests import ContractRequest
from optimizely_api.gateway.settings import Settings
from optimizely_api.serving import file_limits as open_files
from optimizely_api.serving.shared_memory import shared_memory
from optimizely_api.upstream import shapes
from optimizely_api.upstream.caching.caching_client import Saving, open_saving_client
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import Limits, Upstream
from optimizely_api.upstream.transport.connection import Answer

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
        answer_bytes=settings.upstream_answer_bytes,
        most_connections=open_files.for_services(),
        echo_required=settings.upstream_echo_required,
    )


def saving(settings: Settings) -> Saving:
    return Saving(
        coalesce=settings.coalesce_calls,
        definition_seconds=settings.definition_cache_seconds,
        definition_bytes=settings.definition_cache_bytes,
        results_seconds=settings.results_cache_seconds,
        results_bytes=settings.results_cache_bytes,
    )


def shape_checks(contract: Contract) -> Mapping[str, shapes.Check]:
    """The compiled shapes of the services' answers, over the contract's definitions."""
    definitions = {name: json_schema(schema) for name, schema in contract.document["definitions"].items()}

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
    async with open_saving_client(
        upstreams(settings), limits(settings), shapes, saving(settings), shared_memory()
    ) as client:
        registry[CLIENT] = client
        yield


class GatewayRequest(ContractRequest):
    """A request that can ask the services.

    These are methods of the class, for `config.add_request_method` would make each request hold itself: a cycle, which
    keeps it and all the answers in memory until the garbage collector finds them.
    """

    def fetch(self, call: Call) -> Awaitable[Any]:
        """Send one call inside the request's deadline; brings the answer's value or raises an UpstreamError.

        A call that changes something names the caller, for the history of changes.
        """
        if not call.is_safe:
            call.user = (self.caller.token_id, self.caller.token_name)
        answer: Awaitable[Any] = self.registry[CLIENT].fetch(call, self.scope)
        return answer

    def forward(self, call: Call, deadline_seconds: float) -> Awaitable[Answer]:
        """Send one call and bring its answer, whatever its status; raises an UpstreamError when there is none.

        The deadline counts from now, and no longer from the beginning of the request, whose body may have been slow.
        """
        scope = replace(self.scope, deadline=time.monotonic() + deadline_seconds)
        answer: Awaitable[Answer] = self.registry[CLIENT].ask(call, scope, may_repeat=True)
        return answer

    def fetch_all(self, calls: Sequence[Call], *, at_most: int | None = None) -> Awaitable[list[Any]]:
        """Send calls together; brings their values in order, or raises the first failure and cancels the rest."""
        answers: Awaitable[list[Any]] = self.registry[CLIENT].fetch_all(calls, self.scope, at_most=at_most)
        return answers


def includeme(config: Configurator) -> None:
    """Open and close the client with the worker; `GatewayRequest` has to be the application's request factory."""
    config.add_lifespan(upstream_session)
