"""The HTTP interface of an entity: the same five operations for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from aiohttp import web
from sqlalchemy import ColumnElement

from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.endpoints import entity_response, page_response
from optimizely_api.services.http.json_body import read_object
from optimizely_api.services.http.made_once import made_once
from optimizely_api.services.http.query import path_id, read_at, read_boolean, read_integer
from optimizely_api.services.http.responses import JSONResponse

Where = Callable[[web.Request], Iterable[ColumnElement[bool]]]

FILTERS = ("account_id", "project_id")


def routes(
    entity: Entity, *, further: Iterable[str] = (), where: Where | None = None, reads: bool = True
) -> list[web.RouteDef]:
    """List, create, get, update and archive at `/<plural>`.

    Lists filter by `further` columns of ids too, and by what `where` makes of the request. Without `reads` the list
    and the single entity have handlers of their own.
    """
    filters, id_name = (*FILTERS, *further), f"{entity.noun}_id"

    async def list_entities(request: web.Request) -> web.Response:
        """A page of entities, ordered by id; `archived` chooses those that are, or are not."""
        chosen = [*filtered(request, entity, filters), *(where(request) if where else ())]
        return await page_response(request, lambda connection, page: entity.page(connection, chosen, page))

    async def create_entity(request: web.Request) -> web.Response:
        body, at = await read_object(request), read_at(request)
        async with request.app[DATABASE].transaction() as connection:
            created = await made_once(request, connection, lambda: entity.create(connection, body, at))
        return JSONResponse(created, status=201)

    async def get_entity(request: web.Request) -> web.Response:
        return await entity_response(request, id_name, entity.get)

    async def update_entity(request: web.Request) -> web.Response:
        """Change what the body names; `If-Match` names the version that is to be changed."""
        entity_id, body, at = path_id(request, id_name), await read_object(request), read_at(request)
        async with request.app[DATABASE].transaction() as connection:
            changed = await entity.update(connection, entity_id, body, at, _if_match(request))
        return JSONResponse(changed)

    async def archive_entity(request: web.Request) -> web.Response:
        entity_id, at = path_id(request, id_name), read_at(request)
        async with request.app[DATABASE].transaction() as connection:
            await entity.archive(connection, entity_id, at, _if_match(request))
        return web.Response(status=204)

    path = f"/{entity.plural}"
    one = f"{path}/{{{id_name}}}"
    return [
        *([web.get(path, list_entities), web.get(one, get_entity)] if reads else []),
        web.post(path, create_entity),
        web.patch(one, update_entity),
        web.delete(one, archive_entity),
    ]


def filtered(request: web.Request, entity: Entity, filters: Sequence[str]) -> list[ColumnElement[bool]]:
    """What the query's `filters` and its `archived` ask for."""
    columns = entity.table.c
    where = [columns[name] == value for name in filters if (value := read_integer(request, name)) is not None]
    archived = read_boolean(request, "archived")
    return where if archived is None else [*where, columns.archived.is_(archived)]


def _if_match(request: web.Request) -> str:
    return request.headers.get("If-Match", "")
