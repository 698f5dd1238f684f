"""Search: entities of all kinds as one list, made of one statement over their tables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from sqlalchemy import (
    Boolean,
    ColumnElement,
    Row,
    Select,
    Subquery,
    Table,
    Text,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.times import format_time
from optimizely_api.services.experiments import shapes
from optimizely_api.services.experiments.pages import listed
from optimizely_api.services.experiments.tables import METADATA, experiments, layers
from optimizely_api.services.http.endpoints import page_response
from optimizely_api.services.http.errors import bad_request
from optimizely_api.services.http.query import Page, read_boolean, read_integer, read_integers, read_texts
from optimizely_api.services.storage.paging import fetch_page

TABLES = {"audience": "audiences", "event": "events", "feature": "features", "page": "pages"}
SORTS = ("id", "name", "status", "created", "last_modified", "experiment_type")
ORDERS = ("asc", "desc")
DUE = ("not_started", "paused", "running", "concluded")  # states that a schedule may end
_ENVIRONMENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # what may stand in a path into JSON
_AUDIENCE = re.compile(r'"audience_id": *([0-9]{1,16})')

Statuses = dict[int, str]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a search asks for. Empty lists do not filter."""

    account_id: int | None
    words: list[str]
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
        words=request.query.get("query", "").split(),
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
        due = await _due(connection, wanted, now)
        found = union_all(*_selects(wanted, due)).subquery("found")
        query = select(found).where(*_where(found, wanted)).order_by(_order(found, wanted))
        total, rows = await fetch_page(connection, query, found.c.id, page)
        return total, [_result(row) for row in rows]

    return await page_response(request, fetch)


async def _due(connection: AsyncConnection, wanted: Wanted, now: datetime) -> Statuses:
    """{id: status} of the experiments whose schedule has changed their status since it was stored."""
    scheduled = experiments.c.document["schedule"].as_string().is_not(None)
    query = select(experiments).where(*_owned(experiments, wanted), experiments.c.status.in_(DUE), scheduled)
    statuses = [(row, shapes.state_of(row, now).status) for row in await connection.execute(query)]
    return {row.id: status for row, status in statuses if status != row.status}


# One select for each kind, all with the same columns.


def _selects(wanted: Wanted, due: Statuses) -> Iterable[Select[Any]]:
    yield _experiments(wanted, due)
    yield _campaigns(wanted, due)
    for kind, name in TABLES.items():
        yield _entities(kind, METADATA.tables[name], wanted)


def _experiments(wanted: Wanted, due: Statuses) -> Select[Any]:
    own = _own_status(due)
    status = case((and_(own == "running", layers.c.paused.is_not(None)), "campaign_paused"), else_=own)
    document = experiments.c.document
    return (
        select(
            *_common("experiment", experiments),
            experiments.c.key.label("key"),
            document["name"].as_string().label("name"),
            (own == "archived").label("archived"),
            status.label("status"),
            document["type"].as_string().label("sub_type"),
            *_conditions(
                wanted,
                experiments,
                lambda key: document[("environments", key, "status")].as_string() == "running",
            ),
        )
        .join_from(experiments, layers, experiments.c.layer_id == layers.c.id)
        .where(*_owned(experiments, wanted), experiments.c.is_classic.is_(False))
    )


def _campaigns(wanted: Wanted, due: Statuses) -> Select[Any]:
    """Campaigns without those of lone experiments, which the API does not show."""
    return select(
        *_common("campaign", layers),
        cast(null(), Text).label("key"),
        layers.c.document["name"].as_string().label("name"),
        layers.c.archived.is_not(None).label("archived"),
        _status_of_campaign().label("status"),
        layers.c.type.label("sub_type"),
        *_conditions(wanted, layers, None),
    ).where(*_owned(layers, wanted), layers.c.type != "other")


def _status_of_campaign() -> ColumnElement[str]:
    return case((layers.c.archived.is_not(None), "archived"), else_=layers.c["status"])


def _entities(kind: str, table: Table, wanted: Wanted) -> Select[Any]:
    is_on: Callable[[str], ColumnElement[bool]] | None = None
    if kind == "feature":

        def is_on(key: str) -> ColumnElement[bool]:
            enabled = table.c.document[("environments", key, "rollout_rules", 0, "enabled")].as_string()
            return or_(enabled == "true", enabled == "1")  # as PostgreSQL and SQLite write it

    where = _owned(table, wanted)
    if "is_classic" in table.c:
        where.append(table.c.is_classic.is_(False))
    if kind == "page":
        where.append(listed())
    return select(
        *_common(kind, table),
        table.c.key.label("key"),
        table.c.name.label("name"),
        table.c.archived.label("archived"),
        cast(null(), Text).label("status"),
        cast(null(), Text).label("sub_type"),
        *_conditions(wanted, table, is_on),
    ).where(*where)


def _common(kind: str, table: Table) -> list[ColumnElement[Any]]:
    columns = table.c
    names = ("id", "account_id", "project_id", "document", "created", "last_modified")
    return [literal(kind).label("type"), *(columns[name].label(name) for name in names)]


def _owned(table: Table, wanted: Wanted) -> list[ColumnElement[bool]]:
    where = [] if wanted.account_id is None else [table.c.account_id == wanted.account_id]
    return where + ([table.c.project_id.in_(wanted.project_ids)] if wanted.project_ids else [])


def _own_status(due: Statuses) -> ColumnElement[str]:
    stored = experiments.c.status
    return case(due, value=experiments.c.id, else_=stored) if due else cast(stored, Text)


def _has_member(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(experiments.c.layer_id == layers.c.id, condition)


def _conditions(
    wanted: Wanted, table: Table, is_on: Callable[[str], ColumnElement[bool]] | None
) -> list[ColumnElement[bool]]:
    """Whether it passes what only experiments and features can pass."""
    fits: list[ColumnElement[bool]] = []
    if wanted.audience_ids:
        text = cast(table.c.document, Text)
        # Conditions are JSON text in JSON: no other number follows an id.
        patterns = [f'audience_id\\": {number}{end}' for number in wanted.audience_ids for end in "},"]
        fits.append(or_(*(text.contains(pattern, autoescape=True) for pattern in patterns)))
    if key := wanted.environment_key:
        known = is_on is not None and _ENVIRONMENT.fullmatch(key) is not None
        fits.append(func.coalesce(is_on(key), false()) if is_on is not None and known else false())
    return [cast(and_(true(), *fits), Boolean).label("fits")]


# The filters, order and results that all kinds share.


def _where(found: Subquery, wanted: Wanted) -> list[ColumnElement[bool]]:
    columns = found.c
    where: list[ColumnElement[bool]] = [columns.fits] if wanted.audience_ids or wanted.environment_key else []
    if not wanted.archived and "archived" not in wanted.statuses:
        where.append(columns.archived.is_(False))
    for name, values in (
        ("type", wanted.kinds),
        ("sub_type", wanted.sub_types),
        ("status", wanted.statuses),
    ):
        if values:
            where.append(columns[name].in_(values))
    return where + [_occurs(found, word, wanted.is_full) for word in wanted.words]


def _occurs(found: Subquery, word: str, is_full: bool) -> ColumnElement[bool]:
    columns = found.c
    places = [columns.name.icontains(word, autoescape=True), columns.key.icontains(word, autoescape=True)]
    if is_full:
        written = json.dumps(word)[1:-1]  # as the document has it
        places.append(cast(columns.document, Text).icontains(written, autoescape=True))
    if word.isascii() and word.isdigit() and len(word) <= 16:
        places.append(columns.id == int(word))
    return or_(*(func.coalesce(place, false()) for place in places))


def _order(found: Subquery, wanted: Wanted) -> ColumnElement[Any]:
    columns = found.c
    by: dict[str, ColumnElement[Any]] = {
        "name": func.lower(func.coalesce(columns.name, columns.key, "")),
        "status": func.coalesce(columns.status, ""),
        "experiment_type": func.coalesce(case((columns.type == "experiment", columns.sub_type)), ""),
    }
    column = by[wanted.sort] if wanted.sort in by else columns[wanted.sort]
    return column.desc() if wanted.order == "desc" else column.asc()


def _result(row: Row[Any]) -> dict[str, Any]:
    document = row.document
    result = {
        "id": row.id,
        "account_id": row.account_id,
        "project_id": row.project_id,
        "type": row.type,
        "name": row.name or row.key,
        "key": row.key,
        "description": document.get("description"),
        "status": row.status,
        "archived": row.archived,
        "created": format_time(row.created),
        "last_modified": format_time(row.last_modified),
    }
    if row.type == "campaign":
        result["campaign_type"] = row.sub_type
    if row.type == "experiment":
        result["experiment_type"] = row.sub_type
        result["audience_ids"] = _audiences(document.get("audience_conditions") or "")
        result |= {name: document.get(name) for name in ("feature_key", "feature_name")}
    return {name: value for name, value in result.items() if value is not None}


def _audiences(conditions: str) -> list[int]:
    return list(dict.fromkeys(int(number) for number in _AUDIENCE.findall(conditions)))
