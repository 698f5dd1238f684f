"""The one error shape, and the exception views that make it.

Every answer from status 400 up is `{"code", "message", "uuid"}`; an invalid request adds `messages`, the
violations by JSON pointer. `CODES` lists every code with its status: codes are stable, messages are not.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

from pyramid.config import Configurator
from pyramid.config.views import DefaultViewMapper
from pyramid.httpexceptions import HTTPException
from pyramid.interfaces import IRoutesMapper
from pyramid.request import Request

from optimizely_api.contract.violations import sentence
from optimizely_api.runtime.body_input import BodyError
from optimizely_api.upstream.errors import CallRefused, UpstreamError

log = logging.getLogger(__name__)

_SLASHES = re.compile("/+")

CODES: dict[str, int] = {
    "bad_request": 400,  # the request breaks the contract; `messages` says where
    "unauthorized": 401,  # no bearer token, or one that is unknown or revoked
    "forbidden": 403,  # the entity belongs to another account
    "not_found": 404,  # no such entity, or no such address
    "method_not_allowed": 405,  # `Allow` lists the methods of this address
    "conflict": 409,  # the request would be right in another state of the entity
    "gone": 410,  # the entity is archived already
    "request_timeout": 408,  # the head or the body was not whole in time; made by runtime/
    "precondition_failed": 412,  # what would be answered, or changed, is not what `If-Match` names
    "request_too_large": 413,  # the body is larger than max_request_body_bytes, or a batch than max_event_batch_bytes
    "unsupported_media_type": 415,  # a body that is not JSON; a content coding that batches of events may not have
    # The results service takes no more events for now, or an account fills a worker; `Retry-After` says when to return.
    "too_many_requests": 429,
    "uri_too_long": 414,  # made by runtime/, like the next two, before there is a request
    "headers_too_large": 431,
    # An operation of the public API that is not here yet, by its operationId; of runtime/, an unknown method or coding.
    "not_implemented": 501,
    "http_version_not_supported": 505,
    "overloaded": 503,  # too much to do, or no memory for another request body; `Retry-After` says when to return
    "internal_error": 500,  # a defect of the gateway; the log has more under the same uuid
    "bad_upstream_answer": 502,  # a service answered with something it should not
    "upstream_unavailable": 503,  # a service cannot be reached; `Retry-After` says when to return
    "upstream_timeout": 504,  # a service did not answer in time, or the request could not begin in time
}


class GatewayError(Exception):
    """An error that the caller is told about: a code of `CODES`, a message and perhaps more."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        messages: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = CODES[code]
        self.message = message
        self.messages = messages
        self.headers = dict(headers or {})


class BadRequest(GatewayError):
    """400: the request breaks the contract; `messages` maps JSON pointers to what is wrong there."""

    def __init__(self, message: str, messages: Mapping[str, str]) -> None:
        super().__init__("bad_request", message, messages=messages)


class Unauthorized(GatewayError):
    """401: the request has no valid bearer token (RFC 6750 section 3)."""

    def __init__(self, message: str) -> None:
        super().__init__(
            "unauthorized", message, headers={"WWW-Authenticate": 'Bearer realm="optimizely_api"'}
        )


class Forbidden(GatewayError):
    """403: the entity exists and belongs to another account."""

    def __init__(self, what: str) -> None:
        super().__init__("forbidden", f"The token's account may not see {what}.")


class NotFound(GatewayError):
    """404: there is no such entity."""

    def __init__(self, what: str) -> None:
        super().__init__("not_found", f"There is no {what}.")


class MethodNotAllowed(GatewayError):
    """405: the address exists, the method does not."""

    def __init__(self, method: str, allowed: list[str]) -> None:
        listed = ", ".join(sorted(allowed))
        super().__init__("method_not_allowed", f"{method} is not one of {listed}.", headers={"Allow": listed})


class NotImplementedYet(GatewayError):
    """501: the public API has this operation, and we do not."""

    def __init__(self, operation_id: str, address: str) -> None:
        super().__init__(
            "not_implemented",
            f"{operation_id} ({address}) is an operation of the public API that is not here yet.",
        )


class PreconditionFailed(GatewayError):
    """412: the request's If-Match names no answer that there is (RFC 9110 section 13.1.1)."""

    def __init__(self) -> None:
        super().__init__("precondition_failed", "If-Match does not name the answer's ETag.")


class Overdue(GatewayError):
    """504: the request waited to begin until its deadline had passed."""

    def __init__(self) -> None:
        super().__init__("upstream_timeout", "The request's time was spent before it could begin.")


class RequestTooLarge(GatewayError):
    """413: the request body is over the limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__("request_too_large", f"The request body is larger than {limit_bytes} bytes.")


def error_body(error: GatewayError, uuid: str) -> dict[str, Any]:
    """The contract's Error: `code`, `message`, `uuid` and, for an invalid request, `messages`."""
    body: dict[str, Any] = {"code": error.code, "message": error.message, "uuid": uuid}
    if error.messages:
        body["messages"] = dict(error.messages)
    elif error.status == 400:  # refused by Pyramid, or by a service, which does not say where
        body["messages"] = {"/request": error.message}
    return body


def write_error(error: GatewayError, request: Request) -> dict[str, Any]:
    """Set the status and headers of `request.response`, and return the body."""
    request.response.status_int = error.status
    request.response.headers.update(error.headers)
    return error_body(error, request.uuid)


def gateway_error(error: GatewayError, request: Request) -> dict[str, Any]:
    if error.status >= 500 and not isinstance(error, NotImplementedYet):
        # One line: what a service does wrong is no defect of ours that a traceback would explain.
        cause = " ".join(repr(error.__cause__).split()) if error.__cause__ is not None else "no exception"
        log.warning("request %s: %s: %s (%s)", request.uuid, error.code, error.message, cause)
    return write_error(error, request)


def upstream_error(error: UpstreamError, request: Request) -> dict[str, Any]:
    """What a service did wrong, or refused, in the one shape; `upstream/errors.py` says which is which."""
    if isinstance(error, CallRefused):
        if error.messages:
            first, problem = next(iter(error.messages.items()))
            return write_error(BadRequest(sentence(first, problem), error.messages), request)
        return write_error(_refused_question(error.message, request), request)
    message = error.message
    if error.is_outage and (part := request.failed_part(error)):
        message = f"{message.removesuffix('.')} (part: {part})."
    shaped = GatewayError(error.code, message, headers=error.headers)
    shaped.__cause__ = error.__cause__
    return gateway_error(shaped, request)


def _refused_question(message: str, request: Request) -> BadRequest:
    """The 400 for what a service refused; its message begins with the parameter, as the gateway passed it on."""
    message = message.replace("segment.", "")
    name, _, problem = message.partition(" ")
    place = f"/query/{name}" if name in request.swagger_data else "/request"
    return BadRequest(f"{message.rstrip('.')}.", {place: problem if place != "/request" else message})


def body_error(error: BodyError, request: Request) -> dict[str, Any]:
    """A request body that cannot be had: too large, late, malformed, or one too many."""
    headers = {} if error.retry_after_seconds is None else {"Retry-After": str(error.retry_after_seconds)}
    return gateway_error(GatewayError(error.code, error.message, headers=headers), request)


def http_exception(error: HTTPException, request: Request) -> dict[str, Any]:
    """What Pyramid itself raises, such as 404 for an address that no route matches."""
    return write_error(_as_gateway_error(error, request), request)


def _as_gateway_error(error: HTTPException, request: Request) -> GatewayError:
    if error.status_int == 404:
        return _no_such_address(request)
    code = next((code for code, status in CODES.items() if status == error.status_int), None)
    if code is None:
        code = "bad_request" if error.status_int < 500 else "internal_error"
    return GatewayError(code, error.explanation or error.title)


def _no_such_address(request: Request) -> NotFound:
    """Name the address that was perhaps meant, when there is one with fewer slashes."""
    path = request.path_info
    meant = _SLASHES.sub("/", path).rstrip("/")
    if meant and meant != path and _is_address(meant, request):
        return NotFound(f"such address: it has a slash too many, {request.script_name}{meant} has none")
    return NotFound(f"such address; {request.script_name}/v2/swagger.json lists them all")


def _is_address(path: str, request: Request) -> bool:
    mapper = request.registry.getUtility(IRoutesMapper)
    return any(route.match(path) is not None for route in mapper.get_routes())


def unexpected(error: Exception, request: Request) -> dict[str, Any]:
    """A defect of ours: the caller learns the request id, the log has the traceback under it."""
    log.error("request %s: unexpected error", request.uuid, exc_info=error)
    return write_error(
        GatewayError("internal_error", "The gateway failed; its log has more under this uuid."), request
    )


def includeme(config: Configurator) -> None:
    """Register the exception views; each is rendered and checked like any other answer."""
    for exception, view in (
        (GatewayError, gateway_error),
        (UpstreamError, upstream_error),
        (BodyError, body_error),
        (HTTPException, http_exception),
        (Exception, unexpected),
    ):
        config.add_exception_view(view, context=exception, renderer="json", mapper=DefaultViewMapper)
