"""Errors of the services: what handlers raise, and the one shape of their responses."""

from __future__ import annotations

from collections.abc import Mapping

from optimizely_api.services.http.responses import JSONResponse

MAX_MESSAGES = 5  # in one sentence; `messages` has all


class ServiceError(Exception):
    """An answer other than success: `status`, a stable `code`, a sentence for the reader, and headers."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: dict[str, str] | None = None,
        messages: Mapping[str, str] | None = None,
    ) -> None:
        """`messages` are the violations of a 400 by JSON pointer, such as `/body/key`."""
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers
        self.messages = messages


def bad_request(message: str) -> ServiceError:
    """400: the request is invalid; the message names the field."""
    return ServiceError(400, "bad_request", message)


def not_found(what: str, key: object) -> ServiceError:
    """404: there is no such thing."""
    return ServiceError(404, "not_found", f"{what} {key} does not exist")


def gone(what: str, key: object) -> ServiceError:
    """410: it was there and has been archived already."""
    return ServiceError(410, "gone", f"{what} {key} is archived already")


def conflict(message: str) -> ServiceError:
    """409: right in itself, but not in the present state."""
    return ServiceError(409, "conflict", message)


def field_errors(problems: Mapping[str, str]) -> ServiceError:
    """400: {JSON pointer into the body: what is wrong there}."""
    shown = [f"{pointer}: {problem}" for pointer, problem in problems.items()]
    more = len(shown) - MAX_MESSAGES
    text = "; ".join(shown[:MAX_MESSAGES] + ([f"and {more} more"] if more > 0 else []))
    messages = {f"/body{pointer.rstrip('/')}": problem for pointer, problem in problems.items()}
    return ServiceError(400, "bad_request", text, messages=messages)


def version_mismatch(what: str, key: object) -> ServiceError:
    """412: the caller's `If-Match` names another version than there is."""
    return ServiceError(412, "precondition_failed", f"{what} {key} has another version than If-Match names")


def error_response(
    status: int,
    code: str,
    message: str,
    headers: dict[str, str] | None = None,
    messages: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The one shape of errors of the services."""
    body: dict[str, object] = {"code": code, "message": message}
    if messages:
        body["messages"] = dict(messages)
    return JSONResponse(body, status=status, headers=headers)
