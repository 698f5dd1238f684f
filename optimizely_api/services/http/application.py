"""The aiohttp application of a service: its database, health, errors, request ids and access log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web
from sqlalchemy.exc import IntegrityError

from optimizely_api.services.http.admission import admit
from optimizely_api.services.http.authentication import HEALTH_PATH, require_key
from optimizely_api.services.http.deadline import keep_deadline
from optimizely_api.services.http.errors import ServiceError, error_response
from optimizely_api.services.http.health import Health
from optimizely_api.services.http.log import REQUEST_ID, SERVICE_NAME, log_access
from optimizely_api.services.http.responses import RESPONSE_HEADERS, JSONResponse
from optimizely_api.services.storage.database import Database, is_unavailable
from optimizely_api.services.storage.turns import DatabaseBusy

DATABASE = web.AppKey("database", Database)
HEALTH = web.AppKey("health", Health)
CLOSING = web.AppKey("closing", asyncio.Event)  # set when the service ends, for responses that wait
MAX_BODY_BYTES = 1024 * 1024
log = logging.getLogger("optimizely_api.services")


def make_application(
    name: str,
    *,
    database_url: str,
    routes: Iterable[web.AbstractRouteDef],
    contexts: Sequence[Callable[[web.Application], AsyncIterator[None]]] = (),
    max_body_bytes: int = MAX_BODY_BYTES,
    engine_options: dict[str, Any] | None = None,
    is_public: bool = False,
    response_headers: Mapping[str, str] | None = None,
) -> web.Application:
    """Make an application with the given routes, `/healthz`, JSON errors, request ids and the access log.

    Requests need the services' key (see `authentication`). A public application needs no key and has no `/healthz`.

    `request.app[DATABASE]` is the database, which must have been migrated. The application opens it at start, inside
    the worker's event loop, and closes it at the end. `contexts` are further aiohttp clean-up contexts; they are
    entered after the database is opened and left before it is closed. Every response has `response_headers`.
    """
    authentication = [] if is_public else [require_key()]
    application = web.Application(
        # The deadline is outside the admission: the time in the line is its client's too.
        middlewares=[log_access, _answer_errors, keep_deadline, admit, *authentication],
        client_max_size=max_body_bytes,
    )
    application[SERVICE_NAME] = name
    application[RESPONSE_HEADERS] = dict(response_headers or {})
    if response_headers:
        application.on_response_prepare.append(_add_response_headers)

    application[CLOSING] = asyncio.Event()
    application.on_shutdown.append(_stop_waiting)

    async def with_database(app: web.Application) -> AsyncIterator[None]:
        app[DATABASE] = Database(database_url, **(engine_options or {}))
        app[HEALTH] = Health(app[DATABASE])
        yield
        await app[DATABASE].close()

    application.cleanup_ctx.append(with_database)
    application.cleanup_ctx.extend(contexts)
    if not is_public:
        application.router.add_get(HEALTH_PATH, _healthz)
    application.router.add_routes(routes)
    return application


async def _stop_waiting(app: web.Application) -> None:
    app[CLOSING].set()


async def _add_response_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(request.app[RESPONSE_HEADERS])


async def _healthz(request: web.Request) -> web.Response:
    if problem := await request.app[HEALTH].problem():
        raise ServiceError(503, "unavailable", problem, {"Retry-After": "1"})
    return JSONResponse({"status": "ok"})


@web.middleware
async def _answer_errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """Turn every exception into a `{"code", "message"}` response; a bug is logged with its traceback."""
    try:
        response: web.StreamResponse = await handler(request)
        return response
    except ServiceError as exc:
        return error_response(exc.status, exc.code, exc.message, exc.headers, exc.messages)
    except web.RequestPayloadError:  # the body is not valid in its Content-Encoding, or the client has gone
        return _refuse_undecodable(request)
    except web.HTTPException as exc:
        return _from_aiohttp(request, exc)
    except DatabaseBusy as exc:
        return error_response(503, "overloaded", str(exc), {"Retry-After": "1"})
    except Exception as exc:
        if is_unavailable(exc):
            log.error("the database failed in request %s: %s", request[REQUEST_ID], exc)
            return error_response(503, "unavailable", "the database does not answer", {"Retry-After": "1"})
        if isinstance(exc, IntegrityError) and _is_duplicate(exc):
            return error_response(409, "conflict", "there is one with this key already")
        log.exception("request %s failed", request[REQUEST_ID])
        return error_response(500, "internal_error", "the service failed to answer; its log says why")


def _refuse_undecodable(request: web.Request) -> web.Response:
    # The end of such a body is unknown: its rest cannot be read, and the connection cannot serve another request.
    request.content.feed_eof()
    response = error_response(400, "bad_request", "the body cannot be decoded")
    response.force_close()
    return response


def _is_duplicate(exc: IntegrityError) -> bool:
    """Whether a unique constraint was violated; a missing value or reference would be a bug of the service."""
    is_unique = getattr(exc.orig, "sqlstate", None) == "23505"  # PostgreSQL's unique_violation
    return is_unique or "UNIQUE constraint failed" in str(exc.orig)


def _from_aiohttp(request: web.Request, exc: web.HTTPException) -> JSONResponse:
    if isinstance(exc, web.HTTPMethodNotAllowed):
        allow = ", ".join(sorted(exc.allowed_methods))
        message = f"{request.method} is not allowed here; allowed: {allow}"
        return error_response(405, "method_not_allowed", message, {"Allow": allow})
    if isinstance(exc, web.HTTPRequestEntityTooLarge):
        limit = request.app._client_max_size
        return error_response(413, "body_too_large", f"the body is longer than {limit} bytes")
    if exc.status == 404:
        return error_response(404, "not_found", f"nothing at {request.rel_url.raw_path}")
    return error_response(exc.status, "http_error", exc.reason or "the request cannot be answered")
