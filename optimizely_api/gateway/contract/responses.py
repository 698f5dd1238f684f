"""Response checks: nothing leaves an address of the contract without being held against it.

The renderer serialises and remembers the value; the tween, outside the exception views, finds the operation and
the status and judges that value. A body that came about in another way is parsed and judged all the same. A response
that breaks the contract becomes a 500 that says nothing of its content, and a log line that says where.

Members that the contract does not name, such as internal ones of a service, are taken out of the response. Fast path:
one compiled check finds them and judges the rest, so that no walk in Python looks at a large value first.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pyramid.config import Configurator
from pyramid.interfaces import IRoutesMapper
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response
from pyramid.viewderivers import VIEW

from optimizely_api.contract.composition import MISSING_PARTS
from optimizely_api.contract.definitions import pruned
from optimizely_api.contract.load import CONTRACT, Contract, Json
from optimizely_api.contract.validators import (
    ResponseValidator,
    ResponseValidators,
    Violation,
    closed_validators,
    non_finite,
)
from optimizely_api.gateway import RESPONSE_CHECK, add_tween
from optimizely_api.gateway.contract.routes import OPEN_ROUTES
from optimizely_api.gateway.errors import GatewayError, error_body

log = logging.getLogger(__name__)

VALIDATORS = "optimizely_api.contract.response_validators"
UNKNOWN_MEMBER = "additionalProperties"  # the keyword that a member breaks which the contract does not name
_RENDERED = "optimizely_api.contract.rendered"
# What orjson would turn into text on its own is not text to the validators: refuse it instead.
_PLAIN_JSON = (
    orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
)

Handler = Callable[[Request], Response]
View = Callable[[Any, Request], Any]


@dataclass(frozen=True, slots=True)
class _Rendered:
    value: Json
    body: bytes | None  # None when the value cannot be serialised


def render_json(request: Request, value: Json) -> None:
    """Serialise with orjson into `request.response`, which is JSON until something else is said (`ContractRequest`).

    The value is left where the response check finds it; None is an empty body.
    """
    response = request.response
    if value is None:
        response.content_type = None
        response.body = b""
        return
    try:
        body = orjson.dumps(value, option=_PLAIN_JSON)
    except TypeError:
        body = None
    request.environ[_RENDERED] = _Rendered(value, body)
    sent = body or b""
    # In its place: setting `body` or `app_iter` would look for a length and a digest of the one before.
    response.app_iter[:] = [sent]
    response.headerlist.append(("Content-Length", str(len(sent))))


class JsonRenderer:
    """The renderer `json`, where Pyramid looks for one."""

    def __init__(self, info: object) -> None:
        pass

    def __call__(self, value: Json, system: Mapping[str, Any]) -> None:
        render_json(system["request"], value)


def json_view_deriver(view: View, info: Any) -> View:
    """Render what a view with the renderer `json` returns, inside Pyramid's own rendering.

    That would look the renderer up, make it, and make an event, which nobody hears here, for every answer.
    """
    helper = info.options.get("renderer")
    if helper is None or helper.type != "json":
        return view

    def json_view(context: Any, request: Request) -> Any:
        result = view(context, request)
        if isinstance(result, Response):
            return result
        if missing := request.call_context.unreachable:
            result = _naming_missing_parts(request, result, missing)
        render_json(request, result)
        return request.response

    return json_view


def _naming_missing_parts(request: Request, result: Json, missing: tuple[str, ...]) -> Json:
    """The value with the names of the parts that it is without, where the operation's body has a place for them."""
    has_place = (
        request.composition.has_member and isinstance(result, dict) and request.response.status_int < 400
    )
    return {**result, MISSING_PARTS: list(missing)} if has_place else result


json_view_deriver.options = ("renderer",)  # type: ignore[attr-defined]


def response_check_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Hold every response under the basePath against the contract; HEAD is GET up to here."""
    contract: Contract = registry[CONTRACT]
    validators: ResponseValidators = registry[VALIDATORS]
    prefix = contract.base_path + "/"
    files = _files(contract)

    def response_check_tween(request: Request) -> Response:
        environ = request.environ
        if not environ["PATH_INFO"].startswith(prefix):
            return handler(request)
        response = _as_get(handler, request) if environ["REQUEST_METHOD"] == "HEAD" else handler(request)
        name = _route_name(request, registry)
        if name in OPEN_ROUTES and response.status_int < 400:
            return response
        operation_id = name if name in contract.operations else None
        if response.status_int == 200 and operation_id in files:
            is_file = response.content_type in files[operation_id]
            violation = None if is_file else Violation("", "content-type")
        else:
            violation = _check(request, response, operation_id, validators)
        return response if violation is None else _broken(request, response, operation_id, violation)

    return response_check_tween


def _files(contract: Contract) -> dict[str | None, list[str]]:
    """{operationId: the media types of its 200} of operations that answer with a file, which has no schema."""
    return {
        name: [media_type for media_type in operation.spec["produces"] if media_type != "application/json"]
        for name, operation in contract.operations.items()
        if set(operation.spec.get("produces", ())) - {"application/json"}  # which errors are
    }


def _as_get(handler: Handler, request: Request) -> Response:
    """Answer HEAD as GET would be answered; the server leaves the body out (RFC 9110 section 9.3.2)."""
    request.environ["REQUEST_METHOD"] = "GET"
    try:
        return handler(request)
    finally:
        request.environ["REQUEST_METHOD"] = "HEAD"


def _route_name(request: Request, registry: Registry) -> str | None:
    """The route, also of a request that was refused before it got to the router."""
    route = getattr(request, "matched_route", None)
    if route is None:
        try:
            route = registry.getUtility(IRoutesMapper)(request)["route"]
        except UnicodeDecodeError:  # a path that is not UTF-8 leads nowhere
            return None
    return None if route is None else str(route.name)


def _check(
    request: Request, response: Response, operation_id: str | None, validators: ResponseValidators
) -> Violation | None:
    validator = _expected(operation_id, response.status_int, validators)
    if validator is None:
        return Violation("", "status")
    if not validator.expects_body:
        return _check_empty(response)
    if response.content_type != "application/json":
        return Violation("", "content-type")
    return _check_body(request, response, validator)


def _expected(
    operation_id: str | None, status: int, validators: ResponseValidators
) -> ResponseValidator | None:
    if operation_id is not None:
        return validators.find(operation_id, status)
    if status >= 400:
        return validators.error
    return validators.nothing if status == 204 else None


def _check_empty(response: Response) -> Violation | None:
    if response.body:
        return Violation("", "empty")
    response.content_type = None
    if response.status_int == 204:
        response.content_length = None  # RFC 9110 section 8.6
    return None


def _check_body(request: Request, response: Response, validator: ResponseValidator) -> Violation | None:
    violation = _check_sent(request, response, validator)
    if violation is None or violation.keyword != UNKNOWN_MEMBER:
        return violation
    rendered: _Rendered | None = request.environ.get(_RENDERED)
    if rendered is not None and (violation := non_finite(rendered.value)) is not None:
        return violation
    response.body = orjson.dumps(pruned(validator.schema, orjson.loads(response.body)))
    return _check_sent(request, response, validator)


def _check_sent(request: Request, response: Response, validator: ResponseValidator) -> Violation | None:
    body: bytes = response.body
    rendered: _Rendered | None = request.environ.get(_RENDERED)
    if rendered is not None and rendered.body is None and not body:
        violation = validator.check(rendered.value)
        return (
            Violation("", "json") if violation is None or violation.keyword == UNKNOWN_MEMBER else violation
        )
    if rendered is not None and rendered.body is body:
        return validator.check(rendered.value, may_hold_nan=b"null" in body)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Violation("", "json")
    return validator.check(value, may_hold_nan=False)


def _broken(request: Request, response: Response, operation_id: str | None, violation: Violation) -> Response:
    log.error(
        "request %s: response breaks the contract: operation %s, status %d, at %r, keyword %s",
        request.uuid,
        operation_id or "(none)",
        response.status_int,
        violation.pointer[:200],
        violation.keyword,
    )
    error = GatewayError(
        "internal_error", "The gateway made an answer that breaks its contract; its log says where."
    )
    body = orjson.dumps(error_body(error, request.uuid))
    return Response(body, status=error.status, content_type="application/json")


def includeme(config: Configurator) -> None:
    config.registry[VALIDATORS] = closed_validators(config.registry[CONTRACT])
    config.add_renderer("json", JsonRenderer)
    config.add_view_deriver(json_view_deriver, under="rendered_view", over=VIEW)
    add_tween(config, RESPONSE_CHECK)
