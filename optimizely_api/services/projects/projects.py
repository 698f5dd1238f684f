"""Projects in SQL. Every function runs inside the transaction of its connection."""

from __future__ import annotations

import re
import secrets
import warnings
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.definitions import defaults
from optimizely_api.contract.times import format_time
from optimizely_api.http.entity_tags import names_tag, version_tag
from optimizely_api.services.entities.history import record
from optimizely_api.services.http.errors import conflict, field_errors, version_mismatch
from optimizely_api.services.http.query import Page
from optimizely_api.services.projects.environments import create_environments_of
from optimizely_api.services.projects.store import get_account
from optimizely_api.services.projects.tables import changes as recorded
from optimizely_api.services.projects.tables import next_ids, project_roles, projects
from optimizely_api.services.storage.ids import allocate_ids
from optimizely_api.services.storage.paging import fetch_page
from optimizely_api.services.storage.rows import fetch_row

Json = dict[str, Any]

COLUMNS = ("name", "platform", "status")  # the properties of a project that have their own columns
INITIAL = {"confidence_threshold": 0.9, "description": "", "is_flags_enabled": False}
IP_FILTER_CHARACTERS = 1500
SOCKET_TOKEN_BYTES = 16  # 22 characters of URL-safe base64


async def create_project(connection: AsyncConnection, given: Json, at: datetime) -> Json:
    """Add a project from checked input, and its environments; 404 when its account is unknown."""
    project = {**defaults("Project"), **INITIAL, **given}
    owner_id = project.pop("owner_id", None)
    _refuse({**dict(_problems_at_creation(project)), **dict(_problems(project))})
    account_id = project["account_id"]
    await get_account(connection, account_id)
    (project_id,) = await allocate_ids(connection, next_ids)
    _complete(project, project_id)
    columns, document = _split(project)
    await connection.execute(
        insert(projects).values(
            id=project_id,
            account_id=account_id,
            document=document,
            created=at,
            last_modified=at,
            **columns,
        )
    )
    created = await get_project(connection, project_id)
    await _record(connection, None, created, at)
    await create_environments_of(connection, created, at)
    if owner_id is not None:
        owned = {"user_id": owner_id, "project_id": project_id, "role": "project_owner"}
        await connection.execute(insert(project_roles).values(**owned))
    return created


async def get_project(connection: AsyncConnection, project_id: int) -> Json:
    """One project in the contract's shape; 404 when there is none."""
    return _project(await fetch_row(connection, projects, project_id, "project"))


async def update_project(
    connection: AsyncConnection, project_id: int, changes: Json, at: datetime, if_match: str = ""
) -> Json:
    """Apply checked changes; a `web_snippet` is merged, every other property replaced.

    A change of nothing stores nothing. 412 when `if_match` names another version, 409 when the project is archived
    and stays so, 400 for what does not fit.
    """
    row = await fetch_row(connection, projects, project_id, "project", for_update=True)
    before = _project(row)
    if if_match and not names_tag(if_match, version_tag(before)):
        raise version_mismatch("project", project_id)
    if "web_snippet" in changes:
        changes["web_snippet"] = {**before.get("web_snippet", {}), **changes["web_snippet"]}
    after = {**before, **changes}
    if after == before:
        return before
    if before["status"] == after["status"] == "archived":
        raise conflict(f'project {project_id} is archived; send {{"status": "active"}} to bring it back')
    _refuse(dict(_problems(after)))
    columns, document = _split(after)
    await connection.execute(
        update(projects)
        .where(projects.c.id == project_id)
        .values(document=document, last_modified=max(at, row.last_modified), **columns)
    )
    await _record(connection, before, after, at)
    return await get_project(connection, project_id)


async def list_projects(
    connection: AsyncConnection,
    account_id: int | None,
    filters: dict[str, list[Any]],
    page: Page,
    user_id: str | None = None,
) -> tuple[int, list[Json]]:
    """The number of matching projects, and a page of them; several values of one filter mean any of them."""
    query = select(projects)
    if account_id is not None:
        query = query.where(projects.c.account_id == account_id)
    if user_id is not None:
        of_user = select(project_roles.c.project_id).where(project_roles.c.user_id == user_id)
        query = query.where(projects.c.id.in_(of_user))
    for name, values in filters.items():
        query = query.where(projects.c[name].in_(values))
    total, rows = await fetch_page(connection, query, projects.c.id, page)
    return total, [_project(row) for row in rows]


async def _record(connection: AsyncConnection, before: Json | None, after: Json, at: datetime) -> None:
    of_itself = {**after, "project_id": after["id"]}
    await record(connection, recorded, "Project", before, of_itself, at)


def _complete(project: Json, project_id: int) -> None:
    """Add what a new project of its platform has."""
    platform = project["platform"]
    if platform == "web":
        project["web_snippet"] = {**defaults("WebSnippet"), **project.get("web_snippet", {})}
    if platform == "custom":
        project.setdefault("sdks", [])
    if platform in ("ios", "android"):
        project["socket_token"] = f"{secrets.token_urlsafe(SOCKET_TOKEN_BYTES)}~{project_id}"
    if project.get("third_party_platform") is None:
        project.pop("third_party_platform", None)


def _refuse(problems: dict[str, str]) -> None:
    if problems:
        raise field_errors(problems)


def _problems_at_creation(project: Json) -> Iterator[tuple[str, str]]:
    """(JSON pointer, what is wrong there) for rules between properties that are set once."""
    if project.get("third_party_platform") is not None and project["platform"] != "custom":
        yield "/third_party_platform", "is only for projects of platform custom"
    if project["is_flags_enabled"]:
        yield "/is_flags_enabled", "must be false: features managed as flags belong to another API"


def _problems(project: Json) -> Iterator[tuple[str, str]]:
    """The same for properties that change."""
    if "web_snippet" in project and project["platform"] != "web":
        yield "/web_snippet", "is only for projects of platform web"
    ip_filter = project.get("web_snippet", {}).get("ip_filter", "")
    if len(ip_filter) > IP_FILTER_CHARACTERS:
        yield "/web_snippet/ip_filter", f"must have at most {IP_FILTER_CHARACTERS} characters"
    elif not _is_expression(ip_filter):
        yield "/web_snippet/ip_filter", "is no regular expression"


def _is_expression(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of sets whose meaning may change in a later Python
        try:
            re.compile(text)
        except (re.error, OverflowError, RecursionError):
            return False
    return True


def _split(project: Json) -> tuple[Json, Json]:
    """The values of the columns, and the document."""
    apart = {*COLUMNS, "id", "account_id", "is_classic", "created", "last_modified"}
    document = {name: value for name, value in project.items() if name not in apart}
    return {name: project[name] for name in COLUMNS}, document


def _project(row: Row[Any]) -> Json:
    return {
        **row.document,
        "id": row.id,
        "account_id": row.account_id,
        "name": row.name,
        "platform": row.platform,
        "status": row.status,
        "is_classic": False,
        "created": format_time(row.created),
        "last_modified": format_time(row.last_modified),
    }
