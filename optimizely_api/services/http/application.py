"""What the three services do alike over HTTP: errors, bounded JSON, paging, times, health, access log."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.times import format_time, read_time
from optimizely_api.services.http.callers import HEALTH_PATH, require_key
from optimizely_api.services.http.conditional import unless_known
from optimizely_api.services.http.health import Health
from optimizely_api.services.storage.database import Database, is_unavailable

DATABASE = web.AppKey("database", Database)
HEALTH = web.AppKey("health", Health)
SERVICE_NAME = web.AppKey("service_name", str)
REQUEST_ID = web.RequestKey("request_id", str)

MAX_BODY_BYTES = 1024 * 1024
MAX_JSON_MEMBERS = 20_000  # object members in one body; each costs the event loop about a microsecond
MAX_ID = 2**53 - 1  # ids stay exact in every JSON reader
DEFAULT_PER_PAGE = 25
MAX_PER_PAGE = 1000
MAX_PAGE = 1_000_000_000

log = logging.getLogger("optimizely_api.services")
access_log = logging.getLogger("optimizely_api.services.access")

# A caller's own of up to 128 characters, with the number of the call that the gateway adds: it must come back.
_REQUEST_ID = re.compile(r"[!-~]{1,160}")
_SECRET = re.compile("[0-9A-Za-z%]{40,}")  # longer than any id: the hash of a token, say
_NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class ServiceError(Exception):
    """An answer other than success: `status`, a stable `code`, a sentence for the reader, and headers."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


def bad_request(message: str) -> ServiceError:
    """400: the caller sent something that cannot be used; the message names the field."""
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


class JSONResponse(web.Response):
    """A response whose body is `value` as JSON."""

    def __init__(self, value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(
            body=orjson.dumps(value), status=status, headers=headers, content_type="application/json"
        )


def parse_json(body: bytes, *, max_members: int = MAX_JSON_MEMBERS, nul_allowed: bool = False) -> Any:
    """Parse a JSON text strictly, or raise a ServiceError (400) that says what is wrong.

    Refused: invalid UTF-8, a byte order mark, NaN and Infinity, numbers too large for a double, lone
    surrogates, nesting deeper than 1024 (all by orjson), integers beyond 64 bits, duplicate names in an
    object, more than `max_members` object members, and, unless allowed, the character U+0000, which
    PostgreSQL cannot store.
    """
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise bad_request(f"the body is not JSON: {exc}") from exc
    if not nul_allowed and b"\\u0000" in body and _NUL_ESCAPE.search(body):
        raise bad_request("the body holds the character U+0000")
    left = max_members

    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal left
        left -= len(pairs)
        if left < 0:
            raise bad_request(f"the body has more than {max_members} object members")
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise bad_request(f"the name {name!r} appears twice in one object")
        return value

    try:
        return json.loads(body, object_pairs_hook=to_dict, parse_int=_parse_json_integer)
    except RecursionError as exc:
        raise bad_request("the body is nested too deeply") from exc


def _parse_json_integer(digits: str) -> int:
    # 64 bits are what databases and other JSON readers hold.
    if len(digits) < 19 or (len(digits) < 21 and -(2**63) <= int(digits) < 2**63):
        return int(digits)
    raise bad_request(f"the body holds the integer {digits[:24]}, which is out of range")


async def read_json(
    request: web.Request, *, max_members: int = MAX_JSON_MEMBERS, nul_allowed: bool = False
) -> Any:
    """The request's body as strict JSON, whatever its Content-Type; see `parse_json`."""
    return parse_json(await request.read(), max_members=max_members, nul_allowed=nul_allowed)


async def read_object(request: web.Request, *, max_members: int = MAX_JSON_MEMBERS) -> dict[str, Any]:
    """The request's body as a JSON object; an empty body counts as `{}`."""
    body = await request.read()
    value = parse_json(body, max_members=max_members) if body.strip() else {}
    if not isinstance(value, dict):
        raise bad_request("the body must be a JSON object")
    return value


@dataclass(frozen=True)
class Page:
    """A slice of a list: `number` starts at 1."""

    number: int
    size: int

    @property
    def offset(self) -> int:
        """How many items come before the page."""
        return (self.number - 1) * self.size


def read_page(request: web.Request) -> Page:
    """`page` and `per_page` of the query; 400 when they are no whole numbers in range."""
    return Page(
        number=read_integer(request, "page", minimum=1, maximum=MAX_PAGE) or 1,
        size=read_integer(request, "per_page", minimum=1, maximum=MAX_PER_PAGE) or DEFAULT_PER_PAGE,
    )


def page_body(total: int, items: Sequence[Any]) -> dict[str, Any]:
    """The body of every list answer."""
    return {"total": total, "items": list(items)}


def read_integer(request: web.Request, name: str, *, minimum: int = 1, maximum: int = MAX_ID) -> int | None:
    """An integer of the query, None when absent or empty; 400 otherwise."""
    value = request.query.get(name, "").strip()
    if not value:
        return None
    return _integer(name, value, minimum, maximum)


def read_boolean(request: web.Request, name: str) -> bool | None:
    """A truth value of the query in any case of letters, None when absent or empty; 400 otherwise."""
    value = request.query.get(name, "").strip().lower()
    if not value:
        return None
    if value not in {"true", "false", "1", "0"}:
        raise bad_request(f"{name} must be true or false, not {value[:40]!r}")
    return value in {"true", "1"}


def path_id(request: web.Request, name: str) -> int:
    """An id in the path; 404 when it is none that could exist."""
    value = request.match_info[name]
    if not re.fullmatch(r"[0-9]{1,16}", value) or not 0 < int(value) <= MAX_ID:
        raise not_found(name.removesuffix("_id"), value[:40])
    return int(value)


def _integer(name: str, value: str, minimum: int, maximum: int) -> int:
    number = int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else None
    if number is None or not minimum <= number <= maximum:
        raise bad_request(f"{name} must be a whole number from {minimum} to {maximum}, not {value[:40]!r}")
    return number


def parse_time(text: Any, name: str = "time") -> datetime:
    """A time as `contract/times.py` reads it, in UTC; raises a ServiceError (400) naming `name` otherwise."""
    if isinstance(text, str):
        try:
            return read_time(text)
        except (ValueError, OverflowError):  # no such day or hour; the edge of the calendar
            pass
    raise bad_request(f"{name} must be an ISO 8601 time such as 2026-01-31T12:00:00Z, not {str(text)[:40]!r}")


def read_at(request: web.Request) -> datetime:
    """The moment a change counts as made: now, or the query's `at` when history is being loaded.

    `at` is part of the internal interface only (`?at=2026-01-31T12:00:00Z`): it lets an experiment have been
    started some weeks ago. 400 when it lies in the future.
    """
    now = datetime.now(UTC)
    if not (text := request.query.get("at", "").strip()):
        return now
    if (moment := parse_time(text, "at")) > now:
        raise bad_request("at must not lie in the future")
    return moment


async def answer_page(
    request: web.Request, fetch: Callable[[AsyncConnection, Page], Awaitable[tuple[int, Sequence[Any]]]]
) -> JSONResponse:
    """200: the page that the query names of what `fetch` finds in one state of the database."""
    page = read_page(request)
    async with request.app[DATABASE].snapshot() as connection:
        total, items = await fetch(connection, page)
    return JSONResponse(page_body(total, items))


async def answer_one(
    request: web.Request, name: str, fetch: Callable[[AsyncConnection, int], Awaitable[Any]]
) -> web.Response:
    """200: what `fetch` finds under the id that the path has as `name`; 304 for a caller who has just that."""
    number = path_id(request, name)
    async with request.app[DATABASE].snapshot() as connection:
        found = await fetch(connection, number)
    return unless_known(request, JSONResponse(found))


async def answer_created(
    request: web.Request,
    check: Callable[[dict[str, Any]], dict[str, Any]],
    create: Callable[[AsyncConnection, dict[str, Any], datetime], Awaitable[Any]],
) -> JSONResponse:
    """201: what `create` has made of the body, once `check` has passed it, in one transaction."""
    given, at = check(await read_object(request)), read_at(request)
    async with request.app[DATABASE].transaction() as connection:
        made = await create(connection, given, at)
    return JSONResponse(made, status=201)


def make_application(
    name: str,
    *,
    database_url: str,
    routes: Iterable[web.AbstractRouteDef],
    contexts: Sequence[Callable[[web.Application], AsyncIterator[None]]] = (),
    max_body_bytes: int = MAX_BODY_BYTES,
    engine_options: dict[str, Any] | None = None,
    is_public: bool = False,
) -> web.Application:
    """An application with the given routes, `/healthz`, JSON errors, request ids and the access log.

    It takes calls with the services' key only (see `callers`), unless it is public: then it has no `/healthz` either.

    The database is opened when the application starts (inside the worker's loop) and closed when it stops:
    `request.app[DATABASE]`. It must have been migrated before. `contexts` are further aiohttp clean-up
    contexts, entered after the database is open and left before it is closed.
    """
    callers = [] if is_public else [require_key()]
    application = web.Application(
        middlewares=[_log_access, _answer_errors, *callers], client_max_size=max_body_bytes
    )
    application[SERVICE_NAME] = name

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


async def _healthz(request: web.Request) -> web.Response:
    if trouble := await request.app[HEALTH].trouble():
        raise ServiceError(503, "unavailable", trouble, {"Retry-After": "1"})
    return JSONResponse({"status": "ok"})


@web.middleware
async def _log_access(request: web.Request, handler: Any) -> web.StreamResponse:
    """Give the request its id and write one line when it has been answered."""
    given = request.headers.get("X-Request-Id", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    request[REQUEST_ID] = request_id
    started = time.perf_counter()
    status = 499  # the caller went away: nobody reads this status but the log
    try:
        response: web.StreamResponse = await handler(request)
        status = response.status
        response.headers["X-Request-Id"] = request_id
        return response
    finally:
        _write_access_line(request, request_id, status, time.perf_counter() - started)


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
    access_log.info("request", extra={"fields": fields})


@web.middleware
async def _answer_errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """Turn every way to fail into `{"code", "message"}`; bugs are logged with their traceback."""
    try:
        response: web.StreamResponse = await handler(request)
        return response
    except ServiceError as exc:
        return error_response(exc.status, exc.code, exc.message, exc.headers)
    except web.RequestPayloadError:  # a broken Content-Encoding, or the sender is gone
        return _refuse_undecodable(request)
    except web.HTTPException as exc:
        return _from_aiohttp(request, exc)
    except Exception as exc:
        if is_unavailable(exc):
            log.error("the database failed in request %s: %s", request[REQUEST_ID], exc)
            return error_response(503, "unavailable", "the database does not answer", {"Retry-After": "1"})
        if isinstance(exc, IntegrityError) and _is_duplicate(exc):
            return error_response(409, "conflict", "there is one with this key already")
        log.exception("request %s failed", request[REQUEST_ID])
        return error_response(500, "internal_error", "the service failed to answer; its log says why")


def _refuse_undecodable(request: web.Request) -> web.Response:
    # Nobody knows where such a body ends: the connection cannot be used again, nor its rest be waited for.
    request.content.feed_eof()
    response = error_response(400, "bad_request", "the body cannot be decoded")
    response.force_close()
    return response


def _is_duplicate(exc: IntegrityError) -> bool:
    """Whether a unique constraint was met; a missing value or reference would be a bug of the service."""
    is_unique = getattr(exc.orig, "sqlstate", None) == "23505"  # PostgreSQL's unique_violation
    return is_unique or "UNIQUE constraint failed" in str(exc.orig)


def error_response(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """The one shape of errors of the services."""
    return JSONResponse({"code": code, "message": message}, status=status, headers=headers)


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


class JSONLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what `extra={"fields": {...}}` adds."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record; a traceback becomes the field `traceback`."""
        line: dict[str, Any] = {
            "time": format_time(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def logging_configuration(level: str = "INFO") -> dict[str, Any]:
    """A `logging.config.dictConfig` dictionary: everything as JSON lines, to standard output."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JSONLines}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "json", "stream": sys.stdout}
        },
        "root": {"level": level, "handlers": ["console"]},
        "loggers": {
            "alembic": {"level": "WARNING"},
            "aiosqlite": {"level": "WARNING"},  # its debugging shows every parameter, hashes of tokens too
            "gunicorn.error": {"level": level, "handlers": ["console"], "propagate": False},
            "gunicorn.access": {"level": level, "handlers": ["console"], "propagate": False},
        },
    }
