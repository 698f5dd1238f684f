"""Errors that the server sends without the application: their one shape, and their access-log line."""

import json
import logging
import uuid

from optimizely_api.serving.log import GATEWAY_ACCESS, log_request

# The application's access log: it writes one line for every request that it serves.
access_log = logging.getLogger(GATEWAY_ACCESS)

# status -> (code, message)
REFUSALS: dict[int, tuple[str, str]] = {
    400: ("bad_request", "The request is not valid HTTP"),
    408: ("request_timeout", "The request did not arrive in time"),
    414: ("uri_too_long", "The request line is too long"),
    431: ("headers_too_large", "There are too many request headers, or one of them is too long"),
    429: ("too_many_requests", "This account has too many requests under way"),
    500: ("internal_error", "The server failed to answer this request"),
    413: ("request_too_large", "The request body is too large"),
    503: ("overloaded", "The server has no room for this request"),
    505: ("http_version_not_supported", "HTTP/1.1 is spoken here"),
    501: ("not_implemented", "The request is transferred in a way that is not known here"),
}

# Headers of every response, the server's own errors included: any web page may read it, and these headers of it.
CROSS_ORIGIN = (
    ("Access-Control-Allow-Origin", "*"),
    (
        "Access-Control-Expose-Headers",
        "Link, ETag, Age, Cache-Status, Retry-After, Content-Disposition, Preference-Applied, X-Request-Id,"
        " X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Sample-Ratio-Mismatch, X-Unreachable",
    ),
)

MESSAGE_DETAIL_CHARACTERS = 100  # of the parser's message, which may quote the client


def refusal(status: int, detail: str) -> tuple[str, str]:
    """Return (code, message) for a request that the server rejects; `detail` is the parser's message."""
    code, reason = REFUSALS.get(status) or REFUSALS[400 if status < 500 else 500]
    if code in ("bad_request", "not_implemented") and detail:
        reason += ": " + detail[:MESSAGE_DETAIL_CHARACTERS].rstrip(".")
    return code, reason + "."


def error_body(code: str, message: str, error_id: str | None = None) -> tuple[str, bytes]:
    """Return (uuid, JSON body) of an error; `error_id` is the uuid, if the request has one already."""
    error_id = error_id or str(uuid.uuid4())
    body: dict[str, object] = {"code": code, "message": message, "uuid": error_id}
    if code == "bad_request":
        body["messages"] = {"/request": message}
    return error_id, json.dumps(body).encode()


def log_access(
    status: int,
    request_id: str,
    *,
    method: str | None,
    path: str | None,
    client: str | None,
    route: str | None = None,
    duration_ms: float | None = None,
) -> None:
    """Write the line of a request that the application did not serve; None stands for an unknown value."""
    fields: dict[str, object] = {
        "method": method,
        "route": route,
        "path": path,
        "status": status,
        "duration_ms": duration_ms,
        "request_id": request_id,
        "client": client,
        "upstreams_ms": {},
    }
    log_request(access_log, fields)
