"""Errors of the services: what handlers raise, and the one shape of their responses."""

from __future__ import annotations

from optimizely_api.services.http.responses import JSONResponse


class ServiceError(Exception):
    """An answer other than success: `status`, a stable `code`, a sentence for the reader, and headers."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


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


def error_response(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """The one shape of errors of the services."""
    return JSONResponse({"code": code, "message": message}, status=status, headers=headers)
