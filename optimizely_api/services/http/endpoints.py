"""What all handlers of lists, single entities and new entities share: one transaction, one response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.conditional import conditional_response
from optimizely_api.services.http.json_body import read_object
from optimizely_api.services.http.made_once import made_once
from optimizely_api.services.http.query import Page, path_id, read_at, read_page
from optimizely_api.services.http.responses import JSONResponse, page_body


async def page_response(
    request: web.Request, fetch: Callable[[AsyncConnection, Page], Awaitable[tuple[int, Sequence[Any]]]]
) -> JSONResponse:
    """200: the page that the query asks for, which `fetch` reads in one snapshot of the database."""
    page = read_page(request)
    async with request.app[DATABASE].snapshot() as connection:
        total, items = await fetch(connection, page)
    return JSONResponse(page_body(total, items))


async def entity_response(
    request: web.Request, name: str, fetch: Callable[[AsyncConnection, int], Awaitable[Any]]
) -> web.Response:
    """200: the entity whose id is `name` in the path; 304 if If-None-Match names its entity tag."""
    number = path_id(request, name)
    async with request.app[DATABASE].snapshot() as connection:
        entity = await fetch(connection, number)
    return conditional_response(request, JSONResponse(entity))


async def created_response(
    request: web.Request,
    check: Callable[[dict[str, Any]], dict[str, Any]],
    create: Callable[[AsyncConnection, dict[str, Any], datetime], Awaitable[dict[str, Any]]],
) -> JSONResponse:
    """201: the entity that `create` makes, in one transaction, from the body that `check` has validated."""
    given, at = check(await read_object(request)), read_at(request)
    async with request.app[DATABASE].transaction() as connection:
        entity = await made_once(request, connection, lambda: create(connection, given, at))
    return JSONResponse(entity, status=201)
