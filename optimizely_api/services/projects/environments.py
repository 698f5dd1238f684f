"""Environments: where an application runs, each with a datafile of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.http.errors import not_found
from optimizely_api.services.projects.tables import METADATA, next_ids, sdk_keys
from optimizely_api.services.schema import BOOLEAN
from optimizely_api.services.storage.ids import allocate_ids

MAX_PRIORITY = 2**31 - 1
SDK_KEY_BYTES = 16  # 22 characters of URL-safe base64

ENVIRONMENTS = Entity(
    "Environment",
    METADATA,
    next_ids,
    initial={"description": "", "is_primary": False},
    internal={"is_primary": BOOLEAN},
)
PRODUCTION = {
    "key": "production",
    "name": "Production",
    "is_primary": True,
    "priority": 1,
    "has_restricted_permissions": True,
}
DEVELOPMENT = {"key": "development", "name": "Development", "priority": 2}


@ENVIRONMENTS.complete
async def a_new_one_has_a_datafile_and_comes_last(
    connection: AsyncConnection, environment: dict[str, Any], before: dict[str, Any] | None
) -> dict[str, Any]:
    if before is not None:
        return environment
    (datafile_id,) = await allocate_ids(connection, next_ids)
    sdk_key = secrets.token_urlsafe(SDK_KEY_BYTES)
    await connection.execute(insert(sdk_keys).values(sdk_key=sdk_key, environment_id=environment["id"]))
    datafile = {
        "id": datafile_id,
        "sdk_key": sdk_key,
        # The service that builds datafiles knows better, and the gateway shows what it knows.
        "revision": 1,
        "other_urls": [],
        "latest_file_size": 0,
    }
    priority = environment.get("priority")
    if priority is None:
        priority = await _next_priority(connection, environment["project_id"])
    return {**environment, "datafile": datafile, "priority": priority}


@ENVIRONMENTS.rule
def the_primary_one_is_never_archived(
    environment: dict[str, Any], before: dict[str, Any] | None
) -> Iterator[tuple[str, str]]:
    if environment["archived"] and environment["is_primary"]:
        yield "/archived", "the primary environment of a project cannot be archived"


async def find_sdk_key(connection: AsyncConnection, sdk_key: str) -> dict[str, Any]:
    """The environment of an SDK key; 404 when there is none."""
    query = select(sdk_keys).where(sdk_keys.c.sdk_key == sdk_key)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise not_found("environment", "of this SDK key")
    return {"sdk_key": row.sdk_key, "environment_id": row.environment_id}


async def create_environments_of(connection: AsyncConnection, project: dict[str, Any], at: datetime) -> None:
    """A new project's environments: production, and development where code has SDKs."""
    owner = {"account_id": project["account_id"], "project_id": project["id"]}
    for environment in (PRODUCTION,) if project["platform"] == "web" else (PRODUCTION, DEVELOPMENT):
        await ENVIRONMENTS.create(connection, {**owner, **environment}, at)


async def _next_priority(connection: AsyncConnection, project_id: int) -> int:
    table = ENVIRONMENTS.table
    documents = await connection.execute(select(table.c.document).where(table.c.project_id == project_id))
    highest = max((document["priority"] for document in documents.scalars()), default=0)
    return min(highest + 1, MAX_PRIORITY)
