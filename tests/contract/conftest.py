"""A small application around the contract: each operation answers what the test's view says."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.router import Router

from optimizely_api.contract import CONTRACT, Contract, load
from optimizely_api.gateway import BLOCKING
from optimizely_api.gateway.errors import NotFound
from optimizely_api.gateway.settings import Settings
from optimizely_api.runtime.testing import GatewayTestApp

View = Callable[[Request], Any]


def unknown_entity(request: Request) -> Any:
    raise NotFound("such entity")


def make_router(
    views: dict[str, View],
    contract: Contract | None = None,
    *,
    blocking: bool = False,
    without: tuple[str, ...] = (),
) -> Router:
    """An application with a view for every operation, except those in `without`."""
    config = Configurator()
    config.registry["settings"] = Settings()
    contract = config.registry[CONTRACT] = contract or load()
    if blocking:
        config.registry[BLOCKING] = True
    else:
        config.include("optimizely_api.runtime")
    config.include("optimizely_api.gateway.access_log")
    config.include("optimizely_api.gateway.cors")
    config.include("optimizely_api.gateway.finishing")
    config.include("optimizely_api.gateway.errors")
    config.include("optimizely_api.gateway.contract")
    for name in contract.operations.keys() - set(without):
        view = views.get(name, unknown_entity)
        config.add_view(view if blocking else as_coroutine(view), route_name=name, renderer="json")
    return config.make_wsgi_app()


def as_coroutine(view: View) -> Callable[[Any, Request], Any]:
    async def coroutine_view(context: Any, request: Request) -> Any:
        return view(request)

    return coroutine_view


@pytest.fixture(scope="session")
def app_without_entities() -> Iterator[GatewayTestApp]:
    """An application that knows no entity, for what is decided before a view is asked."""
    with GatewayTestApp(make_router({})) as app:
        yield app


@pytest.fixture
def app_with(app_without_entities: GatewayTestApp) -> Iterator[Callable[..., GatewayTestApp]]:
    """Call it with views by operationId to get an application that answers with them."""
    with ExitStack() as stack:

        def make(contract: Contract | None = None, **views: View) -> GatewayTestApp:
            if contract is None and not views:
                return app_without_entities
            return stack.enter_context(GatewayTestApp(make_router(views, contract)))

        yield make


def assert_error(response: Any, status: int, code: str) -> dict[str, Any]:
    """The whole error body: its shape, status, code and request id; returns it."""
    assert response.status_int == status
    assert response.content_type == "application/json"
    body: dict[str, Any] = response.json
    assert body.keys() - {"messages"} == {"code", "message", "uuid"}
    assert body["code"] == code
    assert body["message"]
    assert body["uuid"] == response.headers["X-Request-Id"]
    return body
