"""What pyramid_swagger does again for every request of an operation, done once for the operation.

From pyramid_swagger's own operation objects comes a reader per parameter that takes the usual ways of writing a value
and gives what pyramid_swagger would have given. Whatever it is not sure of, all that is wrong included, is left to
pyramid_swagger: a compiled reader never refuses a request, and never takes one that pyramid_swagger would refuse.

Bodies are not pyramid_swagger's at all: they are read before it (`bodies.py`), and judged together with the rest.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bravado_core.exception import SwaggerMappingError
from bravado_core.operation import Operation
from bravado_core.param import Param, unmarshal_param
from jsonschema import ValidationError
from pyramid.config import Configurator
from pyramid.exceptions import URLDecodeError
from pyramid.interfaces import IRoutesMapper
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response
from pyramid.urldispatch import Route, RoutesMapper

from optimizely_api.contract.formats import is_id_text, is_int64, is_uuid, read_time
from optimizely_api.gateway import add_tween
from optimizely_api.gateway.contract.bodies import body_readers
from optimizely_api.gateway.contract.refusals import refusal

BEHIND = "optimizely_api.contract.behind_validation"  # where the registry keeps what runs for a valid request
_ROUTE = "optimizely_api.contract.route"  # where a request keeps its route, and what it was found by

Handler = Callable[[Request], Response]
Reader = Callable[[str], Any]  # from text to value; raises _Unsure or ValueError

_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_BOOLEANS = {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}
_NOT_PLAIN = re.compile(
    r"[*:%]|[^/]\{|\}[^/]"
)  # in a route's pattern: more than whole segments, literal or named
_NEAR_ENTRIES = 1000
_ABOUT = frozenset({"name", "in", "description", "required", "type", "default"})  # these judge no value


class _Unsure(Exception):
    """Let pyramid_swagger look at it."""


@dataclass(frozen=True, slots=True)
class RequestReader:
    """The compiled parameters of one operation."""

    operation: Operation
    _path: tuple[tuple[str, Reader], ...]
    _query: Mapping[str, Reader]
    _headers: tuple[tuple[str, str, Reader], ...]  # name, key in the environ, reader
    _absent: Mapping[str, Any]  # every parameter, in order, with its value when the request does not have it
    _required: frozenset[str]  # of the query

    def read(self, match: Mapping[str, str], request: Request) -> dict[str, Any] | None:
        """Return all parameters' values by name; None when pyramid_swagger must decide."""
        values = dict(self._absent)
        try:
            for name, reader in self._path:
                values[name] = reader(match[name])
            for name, key, reader in self._headers:
                if (text := request.environ.get(key)) is not None:
                    values[name] = reader(text)
            query = request.GET
            if not request.query_is_text:
                return None
            seen = self._read_query(query.items(), values)
        except (_Unsure, ValueError, OverflowError):
            return None
        return values if self._required <= seen else None

    def _read_query(self, query: Iterable[tuple[str, str]], values: dict[str, Any]) -> set[str]:
        seen: set[str] = set()
        for name, text in query:
            if (reader := self._query.get(name)) is None:
                continue
            if name in seen:
                raise _Unsure
            seen.add(name)
            values[name] = reader(text)
        return seen


def request_reader(operation: Operation) -> RequestReader | None:
    """Compile an operation; None for one that needs a header, or anything but path, query and headers."""
    params: list[Param] = list(operation.params.values())
    if any(param.location not in ("path", "query", "header") for param in params) or any(
        param.location == "header" and (param.required or "default" in param.param_spec) for param in params
    ):
        return None
    required = frozenset(param.name for param in params if param.location == "query" and param.required)
    try:
        absent = {
            param.name: unmarshal_param(param, _Empty())  # type: ignore[no-untyped-call]
            for param in params
            if param.location == "query" and not param.required
        }
    except (SwaggerMappingError, ValidationError):
        return None
    if any(isinstance(value, (list, dict)) for value in absent.values()):
        return None  # each request needs one of its own
    return RequestReader(
        operation,
        _path=tuple((param.name, _reader(param.param_spec)) for param in params if param.location == "path"),
        _query={param.name: _reader(param.param_spec) for param in params if param.location == "query"},
        _headers=tuple(
            (param.name, f"HTTP_{param.name.upper().replace('-', '_')}", _reader(param.param_spec))
            for param in params
            if param.location == "header"
        ),
        _absent={param.name: absent.get(param.name) for param in params},
        _required=required,
    )


class _Empty:
    """A request without parameters, as bravado-core sees it."""

    query: Mapping[str, str] = {}


def _reader(spec: Mapping[str, Any]) -> Reader:
    """The reader of one parameter; one that is always unsure for what is not compiled here."""
    make, keywords = _KINDS.get(spec["type"], (None, frozenset()))
    rest = {key: value for key, value in spec.items() if key not in _ABOUT and not key.startswith("x-")}
    if make is None or not rest.keys() <= keywords:
        return _unsure
    return make(rest)


def _unsure(_text: str) -> Any:
    raise _Unsure


def _integer_reader(limits: Mapping[str, Any]) -> Reader:
    if limits.get("format", "int64") != "int64":
        return _unsure
    least, most = limits.get("minimum", -(10**18)), limits.get("maximum", 10**18)

    def read_integer(text: str) -> int:
        if _INTEGER.fullmatch(text) is None:
            raise _Unsure
        value = int(text)
        if not (least <= value <= most and is_int64(value)):
            raise _Unsure
        return value

    return read_integer


def _boolean_reader(_limits: Mapping[str, Any]) -> Reader:
    def read_boolean(text: str) -> bool:
        if (value := _BOOLEANS.get(text)) is None:
            raise _Unsure
        return value

    return read_boolean


def _string_reader(limits: Mapping[str, Any]) -> Reader:
    if limits.get("format") == "date-time":
        return read_time if limits.keys() == {"format"} else _unsure
    fits = _FORMATS.get(limits.get("format", ""))
    if fits is None:
        return _unsure
    pattern = re.compile(limits.get("pattern", ""))
    choices = frozenset(limits["enum"]) if "enum" in limits else None

    def read_string(text: str) -> str:
        if not (fits(text) and pattern.search(text)) or (choices is not None and text not in choices):
            raise _Unsure
        return text

    return read_string


_FORMATS: Mapping[str, Callable[[str], bool]] = {"": lambda _text: True, "int64": is_id_text, "uuid": is_uuid}
_KINDS: Mapping[str, tuple[Callable[[Mapping[str, Any]], Reader], frozenset[str]]] = {
    "integer": (_integer_reader, frozenset({"format", "minimum", "maximum"})),
    "boolean": (_boolean_reader, frozenset()),
    "string": (_string_reader, frozenset({"format", "pattern", "enum"})),
}


def known_route(request: Request) -> Route | None:
    """The route of a request as far as it has come: None when nobody has looked for it, and where there is none."""
    known = request.__dict__.get(_ROUTE)
    return None if known is None else known[1]["route"]


class RoutesMatchedOnce(RoutesMapper):  # type: ignore[misc]
    """Pyramid's route matching, once for a request and among the routes that may match.

    The tweens and the router all ask for a request's route: what was found holds for the same address and method, and
    no route here looks at anything else. Routes are tried in Pyramid's order, without those of another number of
    segments or with another literal second segment, which in `/v2/projects/{project_id}` is the resource.
    """

    def __init__(self) -> None:
        super().__init__()
        self._near: dict[tuple[int, str], list[Route]] = {}

    def connect(self, *args: Any, **kwargs: Any) -> Route:
        self._near = {}
        return super().connect(*args, **kwargs)

    def __call__(self, request: Request) -> dict[str, Any]:
        environ = request.environ
        asked = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        known = request.__dict__.get(_ROUTE)
        if known is None or known[0] != asked:
            known = request.__dict__[_ROUTE] = asked, self._find(request)
        found: dict[str, Any] = known[1]
        return found

    def _find(self, request: Request) -> dict[str, Any]:
        try:
            path = request.path_info or "/"
        except UnicodeDecodeError as error:
            raise URLDecodeError(
                error.encoding, error.object, error.start, error.end, error.reason
            ) from error
        # A pattern's `$` would let a line break follow it.
        for route in () if path.endswith("\n") else self._routes_near(path):
            match = route.match(path)
            if match is not None:
                found = {"match": match, "route": route}
                if all(predicate(found, request) for predicate in route.predicates):
                    return found
        return {"route": None, "match": None}

    def _routes_near(self, path: str) -> list[Route]:
        segments = path.split("/", 3)
        near = path.count("/"), segments[2] if len(segments) > 2 else ""
        routes = self._near.get(near)
        if routes is None:
            routes = [route for route in self.routelist if _may_match(route.pattern, *near)]
            if len(self._near) < _NEAR_ENTRIES:  # paths are the callers', memory is not
                self._near[near] = routes
        return routes


def _may_match(pattern: str, slashes: int, second: str) -> bool:
    """Whether a path of so many slashes and such a second segment can match; True where that is hard to tell."""
    if _NOT_PLAIN.search(pattern):
        return True
    segments = ("/" + pattern.lstrip("/")).split("/")
    if len(segments) - 1 != slashes:
        return False
    return len(segments) < 3 or segments[2].startswith("{") or segments[2] == second


def match_routes_once(config: Configurator) -> None:
    """Put the remembering mapper in the place of Pyramid's; routes that are there already stay."""
    mapper = RoutesMatchedOnce()
    mapper.__dict__.update(config.get_routes_mapper().__dict__)
    config.registry.registerUtility(mapper, IRoutesMapper)


def behind_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Where a request arrives whose parameters are valid: its body joins them, or is refused."""

    def behind_tween(request: Request) -> Response:
        if (body := request.contract_body) is not None:
            if body.violations:
                raise refusal(body.violations)
            request.swagger_data[body.name] = body.value
        return handler(request)

    registry[BEHIND] = behind_tween
    return behind_tween


def validation_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Read a request's body, and its parameters by compiled readers, or let pyramid_swagger's tween do the latter."""
    behind: Handler = registry[BEHIND]
    routes = registry.getUtility(IRoutesMapper)
    readers = _readers(registry)
    bodies = body_readers(registry)

    def validation_tween(request: Request) -> Response:
        found = routes(request)
        route = found["route"]
        if bodies and route is not None and (body_reader := bodies.get(route.name)) is not None:
            request.contract_body = body_reader.read(request)
        reader = readers.get(route)
        values = None if reader is None else reader.read(found["match"], request)
        if reader is None or values is None:
            return handler(request)
        request.operation = reader.operation
        request.swagger_data = values
        return behind(request)

    return validation_tween


def _readers(registry: Registry) -> dict[Any, RequestReader]:
    """The readers by route, of the operations that pyramid_swagger itself finds for them."""
    spec = registry.settings["pyramid_swagger.schema20"]
    readers = {}
    for item in registry.introspector.get_category("routes", []):
        route, methods = item["introspectable"]["object"], item["introspectable"]["request_methods"]
        for method in methods or ():
            operation = spec.get_op_for_request(method, route.pattern)
            if operation is not None and operation.operation_id == route.name:
                reader = request_reader(operation)
                if reader is not None:
                    readers[route] = reader
    return readers


def includeme(config: Configurator) -> None:
    add_tween(config, f"{__name__}.behind_tween_factory")
    add_tween(config, f"{__name__}.validation_tween_factory")
