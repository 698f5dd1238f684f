"""Routes from the contract, so that neither can drift from the other.

Each operation has a route named after its operationId. After the routes of a path comes one more that answers every
other method: 405 with `Allow`, or 204 with `Allow` for OPTIONS.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response

from ..errors import MethodNotAllowed
from ..view_kind import BLOCKING, as_view
from .load import CONTRACT, Contract, Operation

OTHER_METHODS = "other methods of "  # route names: this and the path
AFTER_ALL_ELSE = 1000  # the order of a configuration action: Pyramid's own phases end at 0
DOCUMENT_ROUTES = frozenset({"swagger_json", "swagger_yaml"})


def add_operation_routes(config: Configurator) -> None:
    """A route per operation, literal path segments before parameters, and one per path for other methods."""
    by_path: dict[str, list[Operation]] = {}
    for operation in config.registry[CONTRACT].operations.values():
        by_path.setdefault(operation.path, []).append(operation)
    for path in sorted(by_path, key=_literals_first):
        for operation in by_path[path]:
            config.add_route(operation.operation_id, path, request_method=operation.method)
        _add_other_methods(config, path, _allowed(operation.method for operation in by_path[path]))


def add_get_route(config: Configurator, name: str, path: str) -> None:
    """A route outside the contract that answers GET and HEAD, and 405 to every other method."""
    config.add_route(name, path, request_method="GET")  # which is HEAD too
    _add_other_methods(config, path, _allowed(["GET"]))


def _add_other_methods(config: Configurator, path: str, allowed: list[str]) -> None:
    config.add_route(OTHER_METHODS + path, path)
    config.add_view(as_view(config, _other_methods_view(allowed)), route_name=OTHER_METHODS + path)


def _literals_first(path: str) -> list[tuple[bool, str]]:
    return [(segment.startswith("{"), segment) for segment in path.split("/")]


def _allowed(declared: Iterable[str]) -> list[str]:
    methods = {"OPTIONS", *declared}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def _other_methods_view(allowed: list[str]) -> Callable[[Any, Request], Response]:
    def other_methods(context: Any, request: Request) -> Response:
        """RFC 9110 sections 9.3.7 (OPTIONS) and 15.5.6 (405)."""
        if request.method == "OPTIONS":
            return Response(status=204, headerlist=[("Allow", ", ".join(allowed))])
        raise MethodNotAllowed(request.method, allowed)

    return other_methods


def check_views(registry: Registry) -> None:
    """Stop start-up when the contract and the views do not fit each other."""
    contract: Contract = registry[CONTRACT]
    views = _views_by_route(registry)
    missing = sorted(contract.operations.keys() - views.keys())
    if missing:
        raise ConfigurationError(f"operations of the contract without a view: {', '.join(missing)}")
    for name in contract.operations:
        if not registry.get(BLOCKING) and not inspect.iscoroutinefunction(views[name]):
            raise ConfigurationError(f"the view of {name} is not a coroutine (async def)")
    for route in _routes(registry):
        ours = route.name in contract.operations or route.name in DOCUMENT_ROUTES
        if (
            route.pattern.startswith(contract.base_path + "/")
            and not ours
            and not route.name.startswith(OTHER_METHODS)
        ):
            raise ConfigurationError(f"route {route.name} at {route.pattern} is no operation of the contract")


def _views_by_route(registry: Any) -> dict[str, Callable[..., Any]]:
    views = (item["introspectable"] for item in registry.introspector.get_category("views", []))
    return {view["route_name"]: view["callable"] for view in views if view["route_name"]}


def _routes(registry: Any) -> list[Any]:
    return [item["introspectable"]["object"] for item in registry.introspector.get_category("routes", [])]


def includeme(config: Configurator) -> None:
    add_operation_routes(config)
    # Not a subscriber of ApplicationCreated: once there is a subscriber of anything, Pyramid makes five events of every
    # request and looks for who might want them.
    config.action(None, check_views, args=(config.registry,), order=AFTER_ALL_ELSE)
