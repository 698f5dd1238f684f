"""Events: what visitors do. Custom events, clicks on a page, and those of Optimizely Classic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from aiohttp import web
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.entities.keys import free_key
from optimizely_api.services.experiments.pages import PAGES
from optimizely_api.services.experiments.tables import METADATA, events, next_ids
from optimizely_api.services.http.query import read_boolean
from optimizely_api.services.schema import BOOLEAN

KEY_CHARACTERS = 64

EVENTS = Entity(
    "Event",
    METADATA,
    next_ids,
    table=events,
    columns=("page_id", "is_classic"),
    initial={"category": "other", "event_type": "custom", "is_classic": False},
    tightened={"key": {"type": "string", "minLength": 1, "maxLength": KEY_CHARACTERS}},
    internal={"is_classic": BOOLEAN},
    update="InPageEventUpdate",  # which has all that CustomEventUpdate has, and what is a click's
)


@EVENTS.complete
async def names_and_keys_stand_in_for_each_other(
    connection: AsyncConnection, event: dict[str, Any], before: dict[str, Any] | None
) -> dict[str, Any]:
    event = {**event, "name": event.get("name") or event.get("key")}
    if event.get("key") is None and event["name"] and event["event_type"] == "click":
        event["key"] = await free_key(connection, (events, PAGES.table), event)
    return event


@EVENTS.rule
def needs_a_name_or_a_key(event: dict[str, Any], before: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    if not event["name"]:
        yield "/name", "an event needs a name or a key"


@EVENTS.rule
def properties_have_different_names(
    event: dict[str, Any], before: dict[str, Any] | None
) -> Iterator[tuple[str, str]]:
    seen = set[str | None]()
    for number, given in enumerate(event.get("event_properties", ())):
        if given.get("name") in seen:
            yield f"/event_properties/{number}/name", "stands there twice"
        seen.add(given.get("name"))


@EVENTS.reference
async def a_new_page_is_of_the_project_and_outside_the_archive(
    connection: AsyncConnection, event: dict[str, Any], before: dict[str, Any] | None
) -> list[tuple[str, str]]:
    page_id = event.get("page_id")
    if page_id is None or (before is not None and page_id == before.get("page_id")):
        return []
    columns = PAGES.table.c
    # Locked, so that the page is not archived before this event is there.
    query = select(columns.project_id, columns.archived).where(columns.id == page_id)
    page = (await connection.execute(query.with_for_update(read=True))).one_or_none()
    if page is None or page.project_id != event["project_id"]:
        return [("/page_id", "is no page of this project")]
    return [("/page_id", "is an archived page")] if page.archived else []


@EVENTS.derive
async def only_classic_events_cannot_be_edited(
    connection: AsyncConnection, found: Sequence[dict[str, Any]]
) -> None:
    for event in found:
        event["is_editable"] = not event["is_classic"]


def where_classic(request: web.Request) -> list[ColumnElement[bool]]:
    """Classic events are listed only when they are asked for."""
    return [] if read_boolean(request, "include_classic") else [events.c.is_classic.is_(False)]


async def event_names(connection: AsyncConnection, event_ids: Iterable[int]) -> dict[int, str]:
    """The names of those of the events that exist; a page is one too: that it is seen."""
    wanted = sorted(event_ids)
    if not wanted:
        return {}
    found = [
        select(table.c.id, table.c.name).where(table.c.id.in_(wanted)) for table in (PAGES.table, events)
    ]
    return {row.id: row.name for query in found for row in await connection.execute(query)}
