"""The HTTP interface of datafiles: environments come in, datafiles go out, and a feed of their revisions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web
from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.times import format_time
from optimizely_api.services.experiments import environment_keys
from optimizely_api.services.experiments.datafiles.build import NEVER, build, lock
from optimizely_api.services.experiments.tables import datafile_revisions, datafiles
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.conditional import is_known, not_modified
from optimizely_api.services.http.errors import not_found
from optimizely_api.services.http.feeds import feed_response
from optimizely_api.services.http.json_body import read_object
from optimizely_api.services.http.query import parse_time
from optimizely_api.services.http.responses import JSONResponse
from optimizely_api.services.schema import BOOLEAN, ID, TEXT, Schema, list_of, object_of

Json = dict[str, Any]

ENVIRONMENT: Json = {
    "id": ID,
    "key": TEXT,
    "sdk_key": {"type": "string", "minLength": 1, "maxLength": 64},
    "is_primary": BOOLEAN,
    "archived": BOOLEAN,
    "version": TEXT,
}
PROJECT: Json = {
    "account_id": ID,
    "project_id": ID,
    "platform": TEXT,
    "anonymize_ip": BOOLEAN,
    "project_version": TEXT,
    "environments": list_of(object_of(ENVIRONMENT, *ENVIRONMENT)),
}
REGISTRATION = Schema(object_of(PROJECT, *PROJECT))
OF_THE_ENVIRONMENT = ("sdk_key", "environment_key", "is_primary", "archived", "environment_version")
OF_THE_PROJECT = ("platform", "anonymize_ip", "project_version")
UNBUILT: Json = {"revision": 0, "content": b"", "size": 0, "digest": "", "built": NEVER}


async def register_environments(request: web.Request) -> web.Response:
    """200: the datafiles of the environments in the body, which names them as the projects service has them now.

    What is known of a later version stays. Nothing is written when nothing is new.
    """
    given = _rows(REGISTRATION.read(await read_object(request)))
    database = request.app[DATABASE]
    async with database.snapshot() as connection:
        known = await _known(connection, given)
    while any(_news(values, known.get(values["environment_id"])) for values in given):
        with contextlib.suppress(_RenamedMeanwhile):
            async with database.transaction() as connection:
                await _register(connection, given, known)
        async with database.snapshot() as connection:
            known = await _known(connection, given)
    shown = [known[values["environment_id"]] for values in given]
    return JSONResponse(
        {
            "items": [
                {name: getattr(row, name) for name in ("environment_id", "revision", "size")} for row in shown
            ]
        }
    )


async def get_datafile(request: web.Request) -> web.Response:
    """200: the datafile of an SDK key, as text; 304 if If-None-Match names its revision; 404 for an archived one."""
    columns, sdk_key = datafiles.c, request.match_info["sdk_key"]
    this_one = (columns.sdk_key == sdk_key, columns.archived.is_(False))
    async with request.app[DATABASE].snapshot() as connection:
        query = select(columns.environment_id, columns.revision).where(*this_one)
        found = (await connection.execute(query)).one_or_none()
        if found is None:
            raise not_found("datafile", sdk_key[:64])
        tag = f'"{found.environment_id}-{found.revision}"'
        if is_known(request, tag):
            return not_modified(tag)
        row = (await connection.execute(select(datafiles).where(*this_one))).one()
    shown = {
        **{
            name: getattr(row, name)
            for name in ("account_id", "project_id", "environment_id", "sdk_key", "revision")
        },
        "last_modified": format_time(row.built),
        "content": row.content.decode("ascii"),
    }
    return JSONResponse(shown, headers={"ETag": tag})


async def list_revisions(request: web.Request) -> web.Response:
    """Revisions of all datafiles in the order in which they came: a feed, for the sender of webhooks."""
    return await feed_response(request, datafile_revisions, _revision)


def _revision(row: Row[Any]) -> Json:
    names = (
        "id",
        "account_id",
        "project_id",
        "environment_id",
        "environment_key",
        "sdk_key",
        "revision",
        "size",
    )
    return {
        **{name: getattr(row, name) for name in names},
        "url": f"/datafiles/{row.sdk_key}.json",  # at the gateway, whose address is not known here
        "created": format_time(row.created),
    }


def _rows(given: Json) -> list[Json]:
    """The columns of each environment in the body."""
    project = {name: given[name] for name in ("account_id", "project_id", "platform", "anonymize_ip")}
    project["project_version"] = parse_time(given["project_version"], "project_version")
    return [
        {
            **project,
            "environment_id": one["id"],
            "environment_key": one["key"],
            **{name: one[name] for name in ("sdk_key", "is_primary", "archived")},
            "environment_version": parse_time(one["version"], "version"),
        }
        for one in given["environments"]
    ]


async def _known(connection: AsyncConnection, given: Iterable[Json]) -> dict[int, Row[Any]]:
    ids = [values["environment_id"] for values in given]
    rows = await connection.execute(select(datafiles).where(datafiles.c.environment_id.in_(ids)))
    return {row.environment_id: row for row in rows}


def _news(given: Json, known: Row[Any] | None) -> Json:
    """What is to be written of an environment: the parts that differ and are of no earlier version."""
    if known is None:
        return {**given, **UNBUILT}
    parts: Iterable[tuple[str, ...]] = (OF_THE_ENVIRONMENT, OF_THE_PROJECT)
    newer = (names for names in parts if given[names[-1]] >= getattr(known, names[-1]))
    return {name: given[name] for names in newer for name in names if given[name] != getattr(known, name)}


def _new_keys(given: Iterable[Json], known: Mapping[int, Row[Any]]) -> dict[int, str]:
    """{environment: its key}, of those that are there and have been renamed."""
    there = ((known[one["environment_id"]], one) for one in given if one["environment_id"] in known)
    return {
        row.environment_id: one["environment_key"]
        for row, one in there
        if "environment_key" in _news(one, row)
    }


class _RenamedMeanwhile(Exception):
    """Another request has written another key of an environment."""


async def _register(
    connection: AsyncConnection, given: Sequence[Json], believed: Mapping[int, Row[Any]]
) -> None:
    """Write what is new. Raises _RenamedMeanwhile when the environments have other keys than was `believed`."""
    project_ids = {values["project_id"] for values in given}
    renamed = _new_keys(given, believed)
    for project_id in sorted(project_ids if renamed else ()):
        await environment_keys.follow(connection, project_id, renamed)
    for project_id in sorted(project_ids):
        await lock(connection, project_id)
    known = await _known(connection, given)
    if _new_keys(given, known) != renamed:
        raise _RenamedMeanwhile
    for values in given:
        environment_id: int = values["environment_id"]
        news: Mapping[str, Any] = _news(values, known.get(environment_id))
        if environment_id not in known:
            await connection.execute(insert(datafiles).values(**news))
        elif news:
            this_one = datafiles.c.environment_id == environment_id
            await connection.execute(update(datafiles).where(this_one).values(**news))
    for project_id in sorted(project_ids):
        await build(connection, project_id)
