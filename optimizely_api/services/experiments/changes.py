"""The history of changes, as the API lists it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiohttp import web
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities import history
from optimizely_api.services.entities.history import shown
from optimizely_api.services.experiments.tables import changes
from optimizely_api.services.http.endpoints import page_response
from optimizely_api.services.http.errors import bad_request
from optimizely_api.services.http.feeds import feed_response
from optimizely_api.services.http.query import parse_time, read_integer, read_integers, read_texts
from optimizely_api.services.storage.paging import fetch_page

COLUMNS = changes.c


async def list_changes(request: web.Request) -> web.Response:
    """Records, newest first. Several values of one filter mean any of them; all filters must hold."""
    query = select(changes).where(*_where(request)).order_by(COLUMNS.created.desc())

    async def fetch(connection: Any, page: Any) -> tuple[int, list[dict[str, Any]]]:
        total, rows = await fetch_page(connection, query, COLUMNS.id.desc(), page)
        return total, [shown(row) for row in rows]

    return await page_response(request, fetch)


async def feed_changes(request: web.Request) -> web.Response:
    """Records in the order of their ids: the feed that webhooks are called for."""
    return await feed_response(request, changes, shown)


async def record(
    connection: AsyncConnection,
    definition: str,
    before: dict[str, Any] | None,
    after: dict[str, Any],
    at: datetime,
    action: str | None = None,
) -> None:
    """Record a change of an experiment or a campaign, which `action` may have been a part of."""
    change_type = "publish" if action == "publish" else ""
    await history.record(connection, changes, definition, before, after, at, change_type)


def _where(request: web.Request) -> list[ColumnElement[bool]]:
    where = [
        COLUMNS[name] == value
        for name in ("account_id", "project_id")
        if (value := read_integer(request, name)) is not None
    ]
    if ids := read_integers(request, "id"):
        where.append(COLUMNS.id.in_(ids))
    texts = {"user": COLUMNS.user_name, "entity_type": COLUMNS.entity_type, "source": COLUMNS.source}
    where += [column.in_(values) for name, column in texts.items() if (values := read_texts(request, name))]
    if entities := read_texts(request, "entity"):
        where.append(or_(*(_is_about(text) for text in entities)))
    if start := request.query.get("start_time"):
        where.append(COLUMNS.created >= parse_time(start, "start_time"))
    if end := request.query.get("end_time"):
        where.append(COLUMNS.created < parse_time(end, "end_time"))
    return where


def _is_about(entity: str) -> ColumnElement[bool]:
    kind, _, number = entity.partition(":")
    if not (number.isascii() and number.isdigit() and len(number) <= 16):
        raise bad_request(f"entity must be a type and an id, such as experiment:123, not {entity[:40]!r}")
    return and_(COLUMNS.entity_type == kind, COLUMNS.entity_id == int(number))
