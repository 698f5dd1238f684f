"""Request ids and the access log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from optimizely_api.serving.log import SERVICES_ACCESS, log_request

SERVICE_NAME = web.AppKey("service_name", str)
REQUEST_ID = web.RequestKey("request_id", str)


@dataclass(frozen=True, slots=True)
class User:
    """Who makes a request, as the gateway says in `X-User`: id and email of a user, or id and name of a token."""

    id: str = "system"  # nobody: what a service does by itself, or is told without a gateway
    name: str = ""


# Not an argument of everything that writes: only the history of changes asks, at the end of each change.
USER: ContextVar[User] = ContextVar("user", default=User())  # noqa: B039 - it cannot change
access_log = logging.getLogger(SERVICES_ACCESS)
# A client's id of up to 128 characters, followed by the call number that the gateway adds.
_REQUEST_ID = re.compile(r"[!-~]{1,160}")
_SECRET = re.compile("[0-9A-Za-z%]{40,}")  # longer than any id: the hash of a token, for example


@web.middleware
async def log_access(request: web.Request, handler: Any) -> web.StreamResponse:
    """Give the request an id, and write one line about its response."""
    given = request.headers.get("X-Request-Id", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    request[REQUEST_ID] = request_id
    USER.set(_user(request.headers.get("X-User", "")))
    started = time.perf_counter()
    status = 499  # the client closed the connection: only the log shows this status
    try:
        response: web.StreamResponse = await handler(request)
        status = response.status
        response.headers["X-Request-Id"] = request_id
        return response
    finally:
        _write_access_line(request, request_id, status, time.perf_counter() - started)


def _user(header: str) -> User:
    user_id, _, name = header.partition(" ")
    return User(user_id, unquote(name)) if user_id else User()


def _write_access_line(request: web.Request, request_id: str, status: int, seconds: float) -> None:
    resource = request.match_info.route.resource
    fields = {
        "service": request.app[SERVICE_NAME],
        "request_id": request_id,
        "method": request.method,
        "path": _SECRET.sub("-", request.rel_url.raw_path),
        "route": resource.canonical if resource is not None else None,
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
    }
    log_request(access_log, fields)
