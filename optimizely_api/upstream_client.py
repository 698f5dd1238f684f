"""The worker's upstream client, from the settings: opened and closed with the worker, and at hand on each request.

A coroutine view writes `await request.fetch(call)` and `await request.fetch_all(calls)`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pyramid.config import PHASE3_CONFIG, Configurator
from pyramid.interfaces import IRequestFactory
from pyramid.registry import Registry
from pyramid.request import Request

from . import open_files
from .contract import CONTRACT, Contract
from .contract.validators import ResponseValidator, json_schema
from .settings import Settings
from .upstream import shapes
from .upstream.calls import Call
from .upstream.client import Limits, Upstream, open_client


def upstreams(settings: Settings) -> dict[str, Upstream]:
    return {
        "projects": Upstream(url=settings.projects_url, timeout_seconds=settings.projects_timeout_seconds),
        "experiments": Upstream(
            url=settings.experiments_url, timeout_seconds=settings.experiments_timeout_seconds
        ),
        "results": Upstream(url=settings.results_url, timeout_seconds=settings.results_timeout_seconds),
    }


def limits(settings: Settings) -> Limits:
    return Limits(
        connections=settings.upstream_connections,
        connect_timeout_seconds=settings.upstream_connect_timeout_seconds,
        answer_bytes=settings.upstream_answer_bytes,
        most_connections=open_files.for_services(),
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

    return shapes.checks(compiled)


@asynccontextmanager
async def upstream_session(registry: Registry) -> AsyncIterator[None]:
    settings = registry["settings"]
    async with open_client(upstreams(settings), limits(settings), shape_checks(registry[CONTRACT])) as client:
        registry["upstream_client"] = client
        yield


async def fetch(request: Request, call: Call) -> Any:
    """Send one call inside the request's deadline; returns the answer's value or raises an UpstreamError."""
    return await request.registry["upstream_client"].fetch(call, request.scope)


async def fetch_all(request: Request, calls: Sequence[Call], *, at_most: int | None = None) -> list[Any]:
    """Send calls together; returns their values in order, or raises the first failure and cancels the rest."""
    values: list[Any] = await request.registry["upstream_client"].fetch_all(
        calls, request.scope, at_most=at_most
    )
    return values


def calling(factory: type[Request]) -> type[Request]:
    """A class of requests that can make calls.

    `add_request_method` would keep both methods on each request, which they lead back to: what a request held, its
    answer too, would stay until the garbage collector comes.
    """
    return type(factory.__name__, (factory,), {"fetch": fetch, "fetch_all": fetch_all})


def includeme(config: Configurator) -> None:
    config.add_lifespan(upstream_session)

    def add_methods() -> None:
        registry = config.registry
        registry.registerUtility(
            calling(registry.queryUtility(IRequestFactory, default=Request)), IRequestFactory
        )

    config.action("upstream methods of requests", add_methods, order=PHASE3_CONFIG + 1)
