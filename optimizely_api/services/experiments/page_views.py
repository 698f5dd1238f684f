"""Pages as events: each page is one too, which happens whenever the page is seen.

Events and pages of a project share their ids and their keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from sqlalchemy import ColumnElement, Select, Table, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.definitions import writable
from optimizely_api.services.entities.endpoints import FILTERS, filtered
from optimizely_api.services.experiments.events import EVENTS, where_classic
from optimizely_api.services.experiments.pages import PAGES, listed
from optimizely_api.services.http.endpoints import entity_response, page_response
from optimizely_api.services.http.errors import ServiceError
from optimizely_api.services.http.query import Page
from optimizely_api.services.storage.paging import fetch_page

Json = dict[str, Any]

_EVENT = writable("Event")
LONGEST_KEY = _EVENT["properties"]["key"]["maxLength"]  # of an event; a page's may be longer
CATEGORIES = frozenset(_EVENT["definitions"]["EventCategories"]["enum"])
KEPT = ("id", "account_id", "project_id", "archived", "created", "last_modified", "name")
_LOCK = 0x6B657973  # of these locks, among PostgreSQL's advisory ones with two numbers
_LOCKED_IDS = 2**31  # two projects with the same remainder wait for each other, and nothing else


async def list_events(request: web.Request) -> web.Response:
    """A page of custom and click events and of pages, ordered by id; `archived` chooses those that are, or are not."""
    of_events = [*filtered(request, EVENTS, FILTERS), *where_classic(request)]
    of_pages = [*filtered(request, PAGES, FILTERS), listed()]

    async def fetch(connection: AsyncConnection, page: Page) -> tuple[int, list[Json]]:
        ids = union_all(_ids(EVENTS.table, of_events), _ids(PAGES.table, of_pages)).subquery("ids")
        total, rows = await fetch_page(connection, select(ids), ids.c.id, page)
        wanted = [row.id for row in rows]
        found = {event["id"]: event for event in await _with_ids(connection, wanted)}
        return total, [found[event_id] for event_id in wanted]

    return await page_response(request, fetch)


def _ids(table: Table, where: Sequence[ColumnElement[bool]]) -> Select[Any]:
    return select(table.c.id).where(*where)


async def _with_ids(connection: AsyncConnection, wanted: Sequence[int]) -> list[Json]:
    whole = Page(1, max(len(wanted), 1))
    _, of_events = await EVENTS.page(connection, [EVENTS.table.c.id.in_(wanted)], whole)
    _, of_pages = await PAGES.page(connection, [PAGES.table.c.id.in_(wanted)], whole)
    return [*of_events, *map(page_view, of_pages)]


async def get_event(request: web.Request) -> web.Response:
    """An event, or the view of a page, archived or not."""
    return await entity_response(request, "event_id", _get)


async def _get(connection: AsyncConnection, event_id: int) -> Json:
    try:
        return await EVENTS.get(connection, event_id)
    except ServiceError as exc:
        if exc.status != 404:
            raise
        pages = await _with_ids(connection, [event_id])
        if not pages:
            raise
        return pages[0]


def page_view(page: Json) -> Json:
    """The event that the page is seen."""
    category = page.get("category")
    return {
        **{name: page[name] for name in KEPT},
        **({"key": page["key"]} if len(page["key"]) <= LONGEST_KEY else {}),
        "category": category if category in CATEGORIES else "other",
        "event_type": "pageview",
        "is_classic": False,
        "page_id": page["id"],
    }


@PAGES.reference
async def no_event_has_the_key(
    connection: AsyncConnection, page: Json, before: Json | None
) -> list[tuple[str, str]]:
    return await _taken(connection, EVENTS.table, page, before)


@EVENTS.reference
async def no_page_has_the_key(
    connection: AsyncConnection, event: Json, before: Json | None
) -> list[tuple[str, str]]:
    return await _taken(connection, PAGES.table, event, before)


async def _taken(
    connection: AsyncConnection, others: Table, entity: Json, before: Json | None
) -> list[tuple[str, str]]:
    key = entity.get("key")
    if key is None or (before is not None and key == before.get("key")):
        return []
    # No constraint of the database spans two tables. Locked last, after all rows: so no two writers deadlock.
    if connection.dialect.name == "postgresql":
        numbers = {"kind": _LOCK, "number": entity["project_id"] % _LOCKED_IDS}
        await connection.execute(text("SELECT pg_advisory_xact_lock(:kind, :number)"), numbers)
    same_key = select(others.c.id).where(others.c.project_id == entity["project_id"], others.c.key == key)
    holder = (await connection.execute(same_key)).scalar_one_or_none()
    # Clients look for these words, and go on with the entity of that id.
    return [] if holder is None else [("/key", f"is already in use (id: {holder})")]
