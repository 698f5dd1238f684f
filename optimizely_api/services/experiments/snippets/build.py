"""Builds a project's snippet when somebody asks for it, and says which revision it is.

A change only marks the snippet as due, for its content grows with the project and nobody fetches it. So changes between
two questions are one revision. The gateway asks whenever it shows a project, and names its settings, which are the
projects service's; the sender of webhooks asks for the projects that a webhook listens to.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.times import format_time
from optimizely_api.services.experiments.audiences import AUDIENCES
from optimizely_api.services.experiments.datafiles.build import lock, next_change, rows_of
from optimizely_api.services.experiments.extensions import EXTENSIONS
from optimizely_api.services.experiments.pages import PAGES
from optimizely_api.services.experiments.snippets.content import Site, content, render
from optimizely_api.services.experiments.tables import (
    events,
    experiments,
    layers,
    snippet_revisions,
    snippets,
)
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.feeds import feed_response
from optimizely_api.services.http.json_body import read_object
from optimizely_api.services.http.query import parse_time
from optimizely_api.services.http.responses import JSONResponse
from optimizely_api.services.schema import ID, TEXT, Schema, list_of, object_of
from optimizely_api.services.storage.database import is_unavailable
from optimizely_api.services.storage.deadlines import DeadlinePassed

Json = dict[str, Any]

PROJECT: Json = {"account_id": ID, "project_id": ID, "version": TEXT, "settings": {"type": "object"}}
REGISTRATION = Schema(object_of({"projects": list_of(object_of(PROJECT, *PROJECT))}, "projects"))
LISTENED = Schema(object_of({"project_ids": list_of(ID)}, "project_ids"))
UNBUILT: Json = {"revision": 0, "size": 0, "digest": ""}
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
RETRY = timedelta(minutes=1)  # until a snippet that could not be built is tried again, if nothing changes

log = logging.getLogger("optimizely_api.services.experiments")


async def register_projects(request: web.Request) -> web.Response:
    """200: revision and size of the snippets of the projects in the body, which has their settings as they are now.

    What is known of a later version stays. Nothing is written when nothing is new and nothing has changed.
    """
    now = datetime.now(UTC)
    given = [_row(one) for one in REGISTRATION.read(await read_object(request))["projects"]]
    database = request.app[DATABASE]
    async with database.snapshot() as connection:
        known = await _known(connection, given)
    if any(_is_news(one, known) or _is_due(known[one["project_id"]], now) for one in given):
        async with database.transaction() as connection:
            for one in sorted(given, key=lambda one: int(one["project_id"])):
                await _register(connection, one)
            known = await _known(connection, given)
    shown = (known[one["project_id"]] for one in given)
    names = ("project_id", "revision", "size")
    return JSONResponse({"items": [{name: getattr(row, name) for name in names} for row in shown]})


async def list_revisions(request: web.Request) -> web.Response:
    """Revisions of all snippets, in the order in which they came: a feed, for webhooks.

    What is due of the snippets of the body's projects is built first; one that cannot be built is logged.
    """
    project_ids = LISTENED.read(await read_object(request))["project_ids"]
    database, now = request.app[DATABASE], datetime.now(UTC)
    query = select(snippets.c.project_id).where(snippets.c.project_id.in_(project_ids))
    async with database.snapshot() as connection:
        due = (await connection.execute(query.where(snippets.c.next_change <= now))).scalars().all()
    for project_id in due:
        try:
            async with database.transaction() as connection:
                await build(connection, project_id)
        except Exception as exc:
            if is_unavailable(exc) or isinstance(exc, DeadlinePassed):
                raise
            # The webhooks of the other projects do not wait for this one.
            log.exception("the snippet of project %d cannot be built", project_id)
            async with database.transaction() as connection:
                await _try_again(connection, project_id, now + RETRY)
    # Those of other projects too: the reader has one position, and its projects change from one question to the next.
    return await feed_response(request, snippet_revisions, _revision)


def _revision(row: Row[Any]) -> Json:
    names = ("id", "account_id", "project_id", "revision")
    return {**{name: getattr(row, name) for name in names}, "created": format_time(row.created)}


async def _try_again(connection: AsyncConnection, project_id: int, at: datetime) -> None:
    await connection.execute(
        update(snippets).where(snippets.c.project_id == project_id).values(next_change=at)
    )


async def mark_changed(connection: AsyncConnection, project_ids: Iterable[int]) -> None:
    """Let the snippets of these projects be built when they are next asked for."""
    is_built = or_(snippets.c.next_change.is_(None), snippets.c.next_change > LONG_AGO)
    changed = update(snippets).where(snippets.c.project_id.in_(project_ids), is_built)
    await connection.execute(changed.values(next_change=LONG_AGO))


async def build(connection: AsyncConnection, project_id: int, now: datetime | None = None) -> None:
    """Build the snippet of a project, if its settings are known; one whose content is the same keeps its revision."""
    await lock(connection, project_id)
    this_one = snippets.c.project_id == project_id
    row = (await connection.execute(select(snippets).where(this_one))).one_or_none()
    if row is None:
        return
    now = now or datetime.now(UTC)
    site = await _read(connection, project_id)
    body = render(content(project_id, row.settings, site, now))
    digest = hashlib.sha256(body).hexdigest()
    values: Json = {"next_change": next_change(site.experiments, now)}
    if digest != row.digest:
        values |= {"revision": row.revision + 1, "size": len(body), "digest": digest}
        new = {"account_id": row.account_id, "project_id": project_id, "revision": row.revision + 1}
        await connection.execute(insert(snippet_revisions).values(**new, created=now))
    if any(getattr(row, name) != value for name, value in values.items()):
        await connection.execute(update(snippets).where(this_one).values(**values))


async def _read(connection: AsyncConnection, project_id: int) -> Site:
    are_campaigns = (layers.c.type == "personalization", layers.c.archived.is_(None))
    return Site(
        experiments=await rows_of(connection, experiments, project_id, experiments.c.status != "archived"),
        campaigns=await rows_of(connection, layers, project_id, *are_campaigns),
        pages=await rows_of(connection, PAGES.table, project_id, PAGES.table.c.archived.is_(False)),
        events=await rows_of(connection, events, project_id, events.c.archived.is_(False)),
        audiences=await rows_of(connection, AUDIENCES.table, project_id),
        extensions=await rows_of(connection, EXTENSIONS.table, project_id),
    )


def _row(given: Json) -> Json:
    """The columns of a project in the body."""
    return {**given, "version": parse_time(given["version"], "version")}


async def _known(connection: AsyncConnection, given: Iterable[Json]) -> dict[int, Row[Any]]:
    ids = [one["project_id"] for one in given]
    rows = await connection.execute(select(snippets).where(snippets.c.project_id.in_(ids)))
    return {row.project_id: row for row in rows}


def _is_due(row: Row[Any], now: datetime) -> bool:
    """Whether something has changed since it was built, or a schedule's time has come."""
    return row.next_change is not None and row.next_change <= now


def _is_news(given: Json, known: Mapping[int, Row[Any]]) -> bool:
    row = known.get(given["project_id"])
    return row is None or given["version"] > row.version


async def _register(connection: AsyncConnection, given: Json) -> None:
    await lock(connection, given["project_id"])
    known = await _known(connection, [given])
    if _is_news(given, known):
        if known:
            this_one = snippets.c.project_id == given["project_id"]
            await connection.execute(update(snippets).where(this_one).values(**given))
        else:
            await connection.execute(insert(snippets).values(**given, **UNBUILT))
    elif not _is_due(known[given["project_id"]], datetime.now(UTC)):
        return
    await build(connection, given["project_id"])
