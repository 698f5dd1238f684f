"""Routes from the contract, so that neither can drift from the other.

Each operation has a route named after its operationId. So has each operation of the public API that is not here yet,
under another name: it answers 501. After the routes of a path comes one more that answers every other method: 405 with
`Allow`, or 204 with `Allow` for OPTIONS.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from pyramid.config import Configurator
from pyramid.config.views import DefaultViewMapper
from pyramid.exceptions import ConfigurationError, URLDecodeError
from pyramid.interfaces import IRoutesMapper
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.contract.load import CONTRACT, Contract
from optimizely_api.contract.not_yet import PublicOperation, not_here_yet
from optimizely_api.gateway import BLOCKING
from optimizely_api.gateway.errors import MethodNotAllowed, NotImplementedYet
from optimizely_api.start_failures import CannotStart

# Outside the contract: batches of events, larger than other bodies.
EVENTS_ROUTE = "receive_events"
EVENTS_PATH = "/v1/events"
# Outside the contract: what SDKs poll.
DATAFILE_ROUTE = "download_datafile"
DATAFILE_PATH = "/datafiles/{sdk_key}.json"
OTHER_METHODS = "other methods of "  # route names: this and the path
NOT_YET = "not here yet: "  # route names: this and the operationId
AFTER_ALL_ELSE = 1000  # the order of a configuration action: Pyramid's own phases end at 0
# Under the basePath, open to everybody, and no operations.
OPEN_ROUTES = frozenset({"swagger_json", "swagger_yaml", "api_root", "api_root_slash"})


class ContractWithoutViews(CannotStart, ConfigurationError):  # type: ignore[misc]
    """The contract and the views do not fit each other; the message names what is missing or too much."""


def operation_of(route: Any) -> str | None:
    """The name of a route as a log has it: the operationId, also of an operation that is not here yet."""
    return None if route is None else str(route.name).removeprefix(NOT_YET)


def is_only_refused(route: Any) -> bool:
    """Whether every request to this route (None: to no route) is refused, or asks for nothing but `Allow`."""
    return route is None or route.name.startswith((OTHER_METHODS, NOT_YET))


def address_prefix(request: Request) -> str:
    """The path prefix that a proxy has cut off and callers use, as it stands in a URL; mostly ''."""
    prefix: str = request.environ["SCRIPT_NAME"]
    return quote(prefix.encode("latin-1"), safe="/:@!$&'()*+,;=~") if prefix else ""


def route_namer(registry: Registry) -> Callable[[str, str], str | None]:
    """Names the route of a method and a PATH_INFO, for requests that no Pyramid request is made of."""

    def name(method: str, path_info: str) -> str | None:
        routes = registry.getUtility(IRoutesMapper)
        try:
            return operation_of(routes(Request({"REQUEST_METHOD": method, "PATH_INFO": path_info}))["route"])
        except URLDecodeError:
            return None

    return name


def add_operation_routes(config: Configurator) -> None:
    """A route per operation, literal path segments before parameters, and one per path for other methods."""
    contract: Contract = config.registry[CONTRACT]
    served: dict[str, dict[str, str]] = {}  # path -> method -> operationId
    for operation in contract.operations.values():
        served.setdefault(operation.path, {})[operation.method] = operation.operation_id
    missing: dict[str, list[PublicOperation]] = {}
    for public in not_here_yet(contract.operations):
        missing.setdefault(contract.base_path + public.path, []).append(public)
    for path in sorted(served.keys() | missing.keys(), key=_literals_first):
        for method, operation_id in served.get(path, {}).items():
            config.add_route(operation_id, path, request_method=method)
        for public in missing.get(path, ()):
            _add_not_yet(config, path, public)
        _add_other_methods(config, path, _allowed(served.get(path, ())))


def _add_not_yet(config: Configurator, path: str, public: PublicOperation) -> None:
    def not_yet(context: Any, request: Request) -> Any:
        """RFC 9110 section 15.6.2."""
        raise NotImplementedYet(public.operation_id, f"{public.method} {path}")

    name = NOT_YET + public.operation_id
    config.add_route(name, path, request_method=public.method)
    config.add_view(not_yet, route_name=name, mapper=DefaultViewMapper)


def add_get_route(config: Configurator, name: str, path: str) -> None:
    """A route outside the contract that answers GET and HEAD, and 405 to every other method."""
    add_open_route(config, name, path, "GET")  # which is HEAD too


def add_open_route(config: Configurator, name: str, path: str, method: str) -> None:
    """A route outside the contract that answers one method, and 405 to every other."""
    config.add_route(name, path, request_method=method)
    _add_other_methods(config, path, _allowed([method]))


def _add_other_methods(config: Configurator, path: str, allowed: list[str]) -> None:
    config.add_route(OTHER_METHODS + path, path)
    config.add_view(_other_methods_view(allowed), route_name=OTHER_METHODS + path, mapper=DefaultViewMapper)


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
        raise ContractWithoutViews(f"operations of the contract without a view: {', '.join(missing)}")
    for name in contract.operations:
        if not registry.get(BLOCKING) and not inspect.iscoroutinefunction(views[name]):
            raise ContractWithoutViews(f"the view of {name} is not a coroutine (async def)")
    for route in _routes(registry):
        ours = route.name in contract.operations or route.name in OPEN_ROUTES
        if route.pattern.startswith(contract.base_path + "/") and not ours and not is_only_refused(route):
            raise ContractWithoutViews(
                f"route {route.name} at {route.pattern} is no operation of the contract"
            )


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
