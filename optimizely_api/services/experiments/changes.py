"""The history of changes, as the API lists it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiohttp import web
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities import history
from optimizely_api.services.entities.history import shown
from optimizely_api.services.experiments.change_counts import Filters, find_page
from optimizely_api.services.experiments.received_changes import receive_changes
from optimizely_api.services.experiments.tables import changes
from optimizely_api.services.http.endpoints import page_response
from optimizely_api.services.http.errors import bad_request
from optimizely_api.services.http.feeds import feed_response
from optimizely_api.services.http.query import Page, parse_time, read_integer, read_integers, read_texts
from optimizely_api.services.storage.paging import fetch_page

COLUMNS = changes.c
NOT_COUNTED = ("id", "entity", "source")  # filters


async def list_changes(request: web.Request) -> web.Response:
    """Records, newest first. Several values of one filter mean any of them; all filters must hold.

    Those of the projects service are received first: whoever has made a change finds it.
    """
    await receive_changes(request)
    filters, account_id = _counted(request), read_integer(request, "account_id")
    where = _where(request)
    # All records of a project are of one account: counting without it reads an index alone.
    of_account = [] if account_id is None else [COLUMNS.account_id + 0 == account_id]

    async def fetch(connection: AsyncConnection, page: Page) -> tuple[int, list[dict[str, Any]]]:
        if filters is None:
            query = select(changes).where(*where, *of_account).order_by(COLUMNS.created.desc())
            total, rows = await fetch_page(connection, query, COLUMNS.id.desc(), page)
            return total, [shown(row) for row in rows]
        total, before, skipped = await find_page(connection, filters, where, page)
        if before is None:
            return total, []
        query = select(changes).where(*where, *of_account, COLUMNS.created < before)
        query = query.order_by(COLUMNS.created.desc(), COLUMNS.id.desc()).offset(skipped).limit(page.size)
        return total, [shown(row) for row in await connection.execute(query)]

    return await page_response(request, fetch)


def _counted(request: web.Request) -> Filters | None:
    """The filters of the request, if its records are counted by day: those of single entities are few."""
    project_id = read_integer(request, "project_id")
    if project_id is None or any(request.query.get(name) for name in NOT_COUNTED):
        return None
    return Filters(
        project_id,
        read_texts(request, "entity_type"),
        read_texts(request, "user"),
        _time(request, "start_time"),
        _time(request, "end_time"),
    )


def _time(request: web.Request, name: str) -> datetime | None:
    text = request.query.get(name)
    return parse_time(text, name) if text else None


async def feed_changes(request: web.Request) -> web.Response:
    """This service's own records in the order of their ids: the feed that webhooks are called for.

    Received ones are in the feed of the service that made them.
    """
    return await feed_response(request, changes, shown, COLUMNS.origin_id.is_(None))


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
    where: list[ColumnElement[bool]] = []
    if (project_id := read_integer(request, "project_id")) is not None:
        # SQLite would rather read the whole project than the few records of an entity: a sum has no index.
        by_ids = any(request.query.get(name) for name in ("id", "entity"))
        where.append((COLUMNS.project_id + 0 if by_ids else COLUMNS.project_id) == project_id)
    if ids := read_integers(request, "id"):
        where.append(COLUMNS.id.in_(ids))
    texts = {"user": COLUMNS.user_name, "entity_type": COLUMNS.entity_type, "source": COLUMNS.source}
    where += [column.in_(values) for name, column in texts.items() if (values := read_texts(request, name))]
    if entities := read_texts(request, "entity"):
        where.append(or_(*(_is_about(text) for text in entities)))
    if start := _time(request, "start_time"):
        where.append(COLUMNS.created >= start)
    if end := _time(request, "end_time"):
        where.append(COLUMNS.created < end)
    return where


def _is_about(entity: str) -> ColumnElement[bool]:
    kind, _, number = entity.partition(":")
    if not (number.isascii() and number.isdigit() and len(number) <= 16):
        raise bad_request(f"entity must be a type and an id, such as experiment:123, not {entity[:40]!r}")
    return and_(COLUMNS.entity_type == kind, COLUMNS.entity_id == int(number))
