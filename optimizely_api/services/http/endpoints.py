"""What the handlers of lists, single entities and creations do alike: one transaction, one response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.conditional import unless_known
from optimizely_api.services.http.json_body import read_object
from optimizely_api.services.http.query import Page, path_id, read_at, read_page
from optimizely_api.services.http.responses import JSONResponse, page_body


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
