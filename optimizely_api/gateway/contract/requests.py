"""Request validation: pyramid_swagger decides on parameters, here is what surrounds it.

`ContractRequest` reads the parts of a request as the contract's clients write them, `validation_context` runs
around pyramid_swagger's check and turns a refusal into a 400 that lists every violation. A valid request carries its
typed parameters, defaults filled in, as `request.swagger_data`.
"""

import logging
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
import pyramid_swagger
from bravado_core.operation import Operation as BravadoOperation
from bravado_core.spec import Spec
from bravado_core.swagger20_validator import get_validator_type
from pyramid.config import Configurator
from pyramid.config.views import DefaultViewMapper
from pyramid.decorator import reify
from pyramid.exceptions import URLDecodeError
from pyramid.request import Request
from pyramid.response import Response
from pyramid_swagger.exceptions import RequestValidationError
from pyramid_swagger.ingest import create_bravado_core_config
from webob.multidict import MultiDict, NestedMultiDict, NoVars

from optimizely_api.contract.composition import NO_PARTS, Composition
from optimizely_api.contract.formats import REQUEST_FORMATS
from optimizely_api.contract.load import CONTRACT, METHODS, Contract, Json, Operation, pointer, resolve
from optimizely_api.contract.query import read_query
from optimizely_api.contract.violations import phrase
from optimizely_api.gateway.contract.bodies import Body
from optimizely_api.gateway.contract.refusals import refusal
from optimizely_api.gateway.errors import BadRequest, gateway_error
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.errors import UpstreamError

log = logging.getLogger(__name__)

PLANS = "optimizely_api.contract.request_plans"
MAY_BE_EMPTY = "optimizely_api.contract.may_be_empty"  # names of query parameters

_INTEGER = re.compile(r"-?[0-9]{1,400}", re.ASCII)
_LONG_INTEGER = re.compile(
    r"-?[0-9]{400,}", re.ASCII
)  # its first digits are as far out of range as all of them
_BOOLEAN = re.compile(r"true|false|1|0", re.ASCII | re.IGNORECASE)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
# bravado-core resolves references on a stack that it keeps per document, so two threads must not validate at once
# (Yelp/pyramid_swagger issue 184). On an event loop nobody waits here: a validation is never suspended.
_one_at_a_time = threading.Lock()


class ContractRequest(Request):  # type: ignore[misc]
    """A request whose query leaves out empty values and whose body is JSON, never a form."""

    # WebOb copies larger bodies than this to a file; ours are in memory, and bounded, already.
    request_body_tempfile_limit = sys.maxsize

    query_is_text = True
    contract_body: Body | None = None  # of an operation with a body, once it is read

    # Set by the identity tween. A plain attribute, because Pyramid's property asks a security policy; we have none.
    identity: Any = None  # set by the identity tween; Pyramid has a read-only property of that name
    least_role: Any = None  # that the operation takes, where the identity is a user with roles
    claimed_operation = ""  # of the request's idempotency key, set by the tween that claims it

    @property
    def composition(self) -> Composition:
        """The parts of the operation's response, by the contract; none for an address that is no operation's."""
        route = getattr(self, "matched_route", None)
        operation: Operation | None = route and self.registry[CONTRACT].operations.get(route.name)
        return NO_PARTS if operation is None else operation.composition

    def failed_part(self, error: UpstreamError) -> str:
        """The name of the part whose call failed; empty for another call."""
        return "" if error.call is None else self.part_of(error.call)

    def part_of(self, call: Call) -> str:
        """The name of the part that a call belongs to; empty for none."""
        found = self.composition.parts_of(call.upstream, call.method, call.path)
        return found[0] if found else ""

    def do_without(self, failures: Mapping[str, UpstreamError]) -> None:
        """Note, for the response and the log, the parts that it is without."""
        context = self.call_context
        missing = {*context.unreachable, *failures}
        context.unreachable = tuple(name for name in self.composition.parts if name in missing)
        for name, error in failures.items():
            log.warning("request %s: without %s: %s", self.uuid, name, error.message)

    @reify
    def GET(self) -> MultiDict:  # noqa: N802 - WebOb's name
        """The query parameters that have a value, or need none (`allowEmptyValue`).

        None, and `query_is_text` false, unless they are UTF-8.
        It never raises: aiopyramid looks at it before every view, exception views included.
        """
        query = self.environ.get("QUERY_STRING")
        if not query:
            return MultiDict()
        try:
            may_be_empty = self.registry.get(MAY_BE_EMPTY, ())
            return MultiDict([pair for pair in read_query(query) if pair[1] != "" or pair[0] in may_be_empty])
        except UnicodeDecodeError:
            self.query_is_text = False
            return MultiDict()

    @reify
    def params(self) -> NestedMultiDict:
        """GET and POST, made once: aiopyramid asks twice for every view, and most views never."""
        return NestedMultiDict(self.GET, self.POST)

    @property
    def POST(self) -> NoVars:  # noqa: N802 - WebOb's name
        """Nothing: no operation takes a form, and reading one could fail."""
        return NoVars("the API takes JSON")

    @reify
    def response(self) -> Response:
        """What a view's value is rendered into; given its only header, WebOb need not think about charsets."""
        return Response(app_iter=[b""], headerlist=[("Content-Type", "application/json")])


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """What of an operation is looked at on every request; made once."""

    path_segments: dict[str, int]  # name of a path parameter -> index of its segment in the path
    integer_segments: tuple[int, ...]
    query_patterns: dict[
        str, re.Pattern[str]
    ]  # query parameters that bravado-core casts -> how they are written


def request_plan(operation: Operation) -> RequestPlan:
    parameters = operation.spec["parameters"]
    segments = {
        part[1:-1]: index for index, part in enumerate(operation.path.split("/")) if part.startswith("{")
    }
    return RequestPlan(
        path_segments=segments,
        integer_segments=tuple(segments[name] for name in _names(parameters, "path", "integer")),
        query_patterns={
            **dict.fromkeys(_names(parameters, "query", "integer"), _INTEGER),
            **dict.fromkeys(_names(parameters, "query", "boolean"), _BOOLEAN),
        },
    )


def _names(parameters: list[dict[str, Json]], place: str, kind: str) -> list[str]:
    return [item["name"] for item in parameters if item["in"] == place and item.get("type") == kind]


@contextmanager
def validation_context(request: ContractRequest, response: object = None) -> Iterator[None]:
    """Run pyramid_swagger's check of one request; raises BadRequest with every violation.

    bravado-core reads integers with int(), which takes " 7", "1_000" and the digits of every script, and writes a
    warning that holds what it cannot read. Such a request is refused here first.
    """
    operation: BravadoOperation = request.operation
    plan: RequestPlan = request.registry[PLANS][operation.operation_id]
    with _one_at_a_time:
        if request.GET is not None and not request.query_is_text:
            raise not_utf8("/query")
        if not _is_plainly_written(request, plan):
            raise invalid_request(request, operation, plan)
        try:
            yield
        except RequestValidationError as error:
            raise invalid_request(request, operation, plan) from error


def _is_plainly_written(request: ContractRequest, plan: RequestPlan) -> bool:
    if plan.integer_segments:
        segments = request.environ["PATH_INFO"].split("/")
        if not all(_INTEGER.fullmatch(segments[index]) for index in plan.integer_segments):
            return False
    read: set[str] = set()
    for name, value in request.GET.items():
        if pattern := plan.query_patterns.get(name):
            if name in read or not pattern.fullmatch(value):
                return False
            read.add(name)
    return True


def invalid_request(request: ContractRequest, operation: BravadoOperation, plan: RequestPlan) -> BadRequest:
    """The 400 for a request that was refused: all that is wrong in `messages`, and the first of it as `message`."""
    found = [
        violation
        for parameter in operation.params.values()
        for violation in _violations(request, operation, plan, parameter.param_spec)
    ]
    if request.contract_body is not None:
        found += request.contract_body.violations
    return refusal(found)


def _violations(
    request: ContractRequest, operation: BravadoOperation, plan: RequestPlan, spec: dict[str, Json]
) -> Iterator[tuple[str, str, Json]]:
    """(place, what is wrong there, what was sent) for each violation of one parameter."""
    place = pointer(spec["in"], spec["name"])
    value = _read(request, plan, spec)
    if value is None:
        if spec.get("required"):
            yield place, "is required", None
        return
    swagger = operation.swagger_spec
    validator: Any = get_validator_type(swagger)(
        swagger.deref(spec), format_checker=swagger.format_checker, resolver=swagger.resolver
    )
    for error in validator.iter_errors(value):
        yield place + pointer(*error.absolute_path), phrase(error), error.instance


def _read(request: ContractRequest, plan: RequestPlan, spec: dict[str, Json]) -> Json:
    """The value of a parameter with its type, or as written when it does not have that type; None without one."""
    name = spec["name"]
    if spec["in"] == "path":
        return _typed(spec["type"], request.path_info.split("/")[plan.path_segments[name]])
    if spec["in"] == "header":
        written = request.headers.get(name)
        return None if written is None else _typed(spec["type"], written)
    values = request.GET.getall(name)
    if spec["type"] == "array":
        return [_typed(spec["items"]["type"], value) for value in values] if values else None
    if len(values) > 1:
        return values  # a list where one value is expected: its type is wrong
    return _typed(spec["type"], values[0]) if values else None


def _typed(kind: str, text: str) -> Json:
    try:
        if kind == "integer" and _INTEGER.fullmatch(text):
            return int(text)
        if kind == "integer" and _LONG_INTEGER.fullmatch(text):
            return int(text[: 400 + text.startswith("-")])
        if kind == "number":
            return float(text)
    except ValueError:  # also for more digits than int() takes
        return text
    return _BOOLEANS.get(text.lower(), text) if kind == "boolean" else text


def path_not_utf8(error: URLDecodeError, request: Request) -> dict[str, Any]:
    return gateway_error(not_utf8("/path"), request)


def not_utf8(place: str) -> BadRequest:
    problem = "must be UTF-8, percent-encoded"
    return refusal([(place, problem, None)])


PYRAMID_SWAGGER = {
    "pyramid_swagger.enable_swagger_spec_validation": False,  # `load` has done it
    "pyramid_swagger.enable_request_validation": True,
    "pyramid_swagger.enable_response_validation": False,  # `responses.py` does it, and faster
    "pyramid_swagger.enable_path_validation": False,  # not every address is an operation
    "pyramid_swagger.enable_api_doc_views": False,
    "pyramid_swagger.exclude_paths": [],
    "pyramid_swagger.user_formats": REQUEST_FORMATS,
    "pyramid_swagger.validation_context_path": f"{__name__}.validation_context",
}
NO_RESPONSES = {"default": {"description": "any"}}  # there must be one


def _hand_over(config: Configurator, contract: Contract) -> None:
    """Include pyramid_swagger with the flattened document.

    It would read a file, which a read-only system has no room for: its function that reads is stood in for meanwhile.
    """
    config.add_settings(PYRAMID_SWAGGER)
    reads_file = pyramid_swagger.get_swagger_spec
    pyramid_swagger.get_swagger_spec = lambda settings: _spec(contract)
    try:
        config.include("pyramid_swagger")
    finally:
        pyramid_swagger.get_swagger_spec = reads_file


@lru_cache(maxsize=4)
def _spec(contract: Contract) -> Spec:
    """The document as bravado-core reads it, which checks requests by it.

    It goes without its security: signing in is `gateway/identity.py`'s, and bravado-core would put the token among the
    parameters, and so into its debug log. It goes without bodies too, which are `bodies.py`'s, and without responses
    and definitions: bravado-core makes a class of each, which took a fifteenth of a worker's start.
    """
    document = {key: value for key, value in contract.document.items() if not key.startswith("security")}
    document |= {"paths": _paths(contract), "definitions": {}, "responses": {}}
    copied = orjson.loads(orjson.dumps(document))  # bravado-core leaves notes in what it reads
    spec: Spec = Spec.from_dict(copied, config=create_bravado_core_config(PYRAMID_SWAGGER))  # type: ignore[no-untyped-call]
    return spec


def _paths(contract: Contract) -> dict[str, Json]:
    """The paths with what a request has but its body."""

    def kept(node: dict[str, Json]) -> dict[str, Json]:
        if "parameters" not in node:
            return node
        parameters = [item for item in node["parameters"] if resolve(contract.document, item)["in"] != "body"]
        return {**node, "parameters": parameters}

    return {
        path: kept(
            {
                key: {**kept(value), "responses": NO_RESPONSES} if key in METHODS else value
                for key, value in item.items()
            }
        )
        for path, item in contract.document["paths"].items()
    }


def includeme(config: Configurator) -> None:
    contract: Contract = config.registry[CONTRACT]
    config.registry[PLANS] = {
        name: request_plan(operation) for name, operation in contract.operations.items()
    }
    config.registry[MAY_BE_EMPTY] = frozenset(
        item["name"]
        for operation in contract.operations.values()
        for item in operation.spec["parameters"]
        if item.get("allowEmptyValue")
    )
    config.set_request_factory(ContractRequest)
    _hand_over(config, contract)
    config.include(".compiled")
    config.add_exception_view(
        path_not_utf8, context=URLDecodeError, renderer="json", mapper=DefaultViewMapper
    )
