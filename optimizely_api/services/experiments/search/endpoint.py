"""What is found, as a list: filtered, sorted and in pages, read in the index alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from sqlalchemy import ColumnElement, Dialect, Row, Select, and_, case, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments.search.index import use_of
from optimizely_api.services.experiments.search.match import match_label, match_words
from optimizely_api.services.experiments.search.words import MAX_WORDS, environment_word, words_of
from optimizely_api.services.experiments.tables import search_entries, search_results, uses
from optimizely_api.services.experiments.usage import counts_of_users
from optimizely_api.services.http.endpoints import page_response
from optimizely_api.services.http.errors import bad_request
from optimizely_api.services.http.query import Page, read_boolean, read_integer, read_integers, read_texts
from optimizely_api.services.storage.paging import fetch_page, fetch_page_at_once

COLUMNS = search_entries.c
SORTS = ("id", "name", "status", "created", "last_modified", "experiment_type")
ORDERS = ("asc", "desc")
STARTED = ("running", "campaign_paused")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a search asks for. Empty lists do not filter."""

    account_id: int | None
    text: str
    is_full: bool
    project_ids: list[int]
    kinds: list[str]
    sub_types: list[str]
    archived: bool
    statuses: list[str]
    audience_ids: list[int]
    environment_key: str
    sort: str
    order: str


def read_wanted(request: web.Request) -> Wanted:
    """The query's filters and order; 400 for an unknown order."""
    sort = request.query.get("sort", "")
    order = request.query.get("order") or ("asc" if sort else "desc")
    if sort not in ("", *SORTS) or order not in ORDERS:
        raise bad_request(f"sort must be one of {', '.join(SORTS)}, and order asc or desc")
    return Wanted(
        account_id=read_integer(request, "account_id"),
        text=request.query.get("query", "").strip(),
        is_full=read_boolean(request, "fullsearch") or False,
        project_ids=read_integers(request, "project_id"),
        kinds=read_texts(request, "type"),
        sub_types=read_texts(request, "type_expand"),
        archived=read_boolean(request, "archived") or False,
        statuses=read_texts(request, "status"),
        audience_ids=read_integers(request, "audience_id"),
        environment_key=request.query.get("environment_key", ""),
        sort=sort or "last_modified",
        order=order,
    )


async def search(request: web.Request) -> web.Response:
    """A page of what is found."""
    wanted, now = read_wanted(request), datetime.now(UTC)

    async def fetch(connection: AsyncConnection, page: Page) -> tuple[int, list[dict[str, Any]]]:
        status = _status(now)
        # Ids alone: all that is found is sorted, and one page of it is shown.
        query = select(COLUMNS.id).where(*_where(connection.dialect, wanted, status, now))
        fetch_them = fetch_page_at_once if wanted.text else fetch_page
        total, rows = await fetch_them(connection, query.order_by(_order(wanted, status)), COLUMNS.id, page)
        return total, await _results(connection, [row.id for row in rows], status)

    return await page_response(request, fetch)


def _status(now: datetime) -> ColumnElement[str]:
    """The status after the effects of the schedule until `now`."""
    started = and_(COLUMNS.awaits_start, COLUMNS.starts <= now)
    return case(
        (and_(COLUMNS.stops <= now, or_(COLUMNS.status.in_(STARTED), started)), "concluded"),
        (started, COLUMNS.status_once_started),
        else_=COLUMNS.status,
    )


def _is_on(dialect: Dialect, key: str, now: datetime) -> ColumnElement[bool]:
    """Whether an experiment runs, or a feature is on, in an environment; the schedule holds in every environment."""
    on, awaited = (match_label(dialect, environment_word(key, awaited=awaits)) for awaits in (False, True))
    started = or_(on, and_(awaited, COLUMNS.starts <= now))
    return and_(started, or_(COLUMNS.stops.is_(None), COLUMNS.stops > now))


def _where(
    dialect: Dialect, wanted: Wanted, status: ColumnElement[str], now: datetime
) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if wanted.account_id is not None:
        # SQLite would rather read the account's whole index than the few rows that have a word: a sum has no index.
        is_by_words = wanted.text and dialect.name == "sqlite"
        where.append((COLUMNS.account_id + 0 if is_by_words else COLUMNS.account_id) == wanted.account_id)
    if not wanted.archived and "archived" not in wanted.statuses:
        where.append(COLUMNS.archived.is_(False))
    for column, values in (
        (COLUMNS.project_id, wanted.project_ids),
        (COLUMNS.kind, wanted.kinds),
        (COLUMNS.sub_type, wanted.sub_types),
        (status, wanted.statuses),
    ):
        if values:
            where.append(column.in_(values))
    if wanted.audience_ids:
        names = [use_of("audience", number) for number in wanted.audience_ids]
        where.append(COLUMNS.id.in_(select(uses.c.entity_id).where(uses.c.used.in_(names))))
    if wanted.environment_key:
        where.append(_is_on(dialect, wanted.environment_key, now))
    if wanted.text:
        where.append(_occurs(dialect, wanted))
    return where


def _occurs(dialect: Dialect, wanted: Wanted) -> ColumnElement[bool]:
    words = words_of(wanted.text)[:MAX_WORDS]
    return match_words(dialect, words, is_full=wanted.is_full) if words else false()


def _order(wanted: Wanted, status: ColumnElement[str]) -> ColumnElement[Any]:
    by: dict[str, ColumnElement[Any]] = {"name": COLUMNS.sort_name, "status": func.coalesce(status, "")}
    column = by[wanted.sort] if wanted.sort in by else COLUMNS[wanted.sort]
    if wanted.text:
        # PostgreSQL would rather walk through the account in this order than read the few rows that have a word.
        column = func.coalesce(column, column)
    return column.desc() if wanted.order == "desc" else column.asc()


async def _results(
    connection: AsyncConnection, ids: Sequence[int], status: ColumnElement[str]
) -> list[dict[str, Any]]:
    shown = (COLUMNS[name] for name in ("id", "account_id", "project_id", "kind", "archived"))
    query: Select[Any] = select(*shown, status.label("status"), search_results.c.shown)
    query = query.join_from(search_entries, search_results, COLUMNS.id == search_results.c.id)
    rows = {row.id: row for row in await connection.execute(query.where(COLUMNS.id.in_(ids)))} if ids else {}
    audiences = [number for number in ids if rows[number].kind == "audience"]
    counts = await counts_of_users(connection, "audience", audiences)
    return [_result(rows[number], counts) for number in ids]


def _result(row: Row[Any], counts: dict[int, int]) -> dict[str, Any]:
    result = {
        **row.shown,
        "id": row.id,
        "account_id": row.account_id,
        "project_id": row.project_id,
        "type": row.kind,
        "archived": row.archived,
    }
    if row.status is not None:
        result["status"] = row.status
    return result | ({"experiment_count": counts[row.id]} if row.id in counts else {})
