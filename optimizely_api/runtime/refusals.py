"""Errors that the server makes by itself, where the application cannot: their one shape, and their access-log line."""

import json
import logging
import uuid

from optimizely_api.serving.log import GATEWAY_ACCESS, log_request

# The log that the application writes its own lines to, one for every request it answers.
access_log = logging.getLogger(GATEWAY_ACCESS)

# status -> (code, what is wrong)
REFUSALS: dict[int, tuple[str, str]] = {
    400: ("bad_request", "The request is not valid HTTP"),
    408: ("request_timeout", "The request did not arrive in time"),
    414: ("uri_too_long", "The request line is too long"),
    431: ("headers_too_large", "There are too many request headers, or one of them is too long"),
    500: ("internal_error", "The server failed to answer this request"),
    413: ("request_too_large", "The request body is too large"),
    503: ("overloaded", "The server has no room for this request"),
    505: ("http_version_not_supported", "HTTP/1.1 is spoken here"),
    501: ("not_implemented", "The request is transferred in a way that is not known here"),
}

# What every response of the API says to browsers, the server's own included: any page may read it, and these headers.
CROSS_ORIGIN = (
    ("Access-Control-Allow-Origin", "*"),
    (
        "Access-Control-Expose-Headers",
        "Link, ETag, Retry-After, X-Request-Id, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset,"
        " X-Sample-Ratio-Mismatch",
    ),
)

MESSAGE_DETAIL_CHARACTERS = 100  # of what the parser says, which may be the client's own text


def refusal(status: int, detail: str) -> tuple[str, str]:
    """(code, message) for a request that the server itself turns down; `detail` is the parser's word."""
    code, what = REFUSALS.get(status) or REFUSALS[400 if status < 500 else 500]
    if code in ("bad_request", "not_implemented") and detail:
        what += ": " + detail[:MESSAGE_DETAIL_CHARACTERS].rstrip(".")
    return code, what + "."


def problem(code: str, message: str, identity: str | None = None) -> tuple[str, bytes]:
    """(uuid, JSON body) of an error in its one shape; `identity` is the uuid where the request has one already."""
    identity = identity or str(uuid.uuid4())
    body: dict[str, object] = {"code": code, "message": message, "uuid": identity}
    if code == "bad_request":
        body["messages"] = {"/request": message}
    return identity, json.dumps(body).encode()


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
    """Write the line of a request that the application did not answer; None stands for what is not known of it."""
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
