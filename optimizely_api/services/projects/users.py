"""Users of an account, and their roles in its projects. Every function in SQL runs in its connection's transaction."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web
from sqlalchemy import Row, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.times import format_time
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.endpoints import page_response
from optimizely_api.services.http.errors import not_found
from optimizely_api.services.http.json_body import read_object
from optimizely_api.services.http.query import Page, path_id, read_at, read_integers
from optimizely_api.services.http.responses import JSONResponse
from optimizely_api.services.projects.store import get_account
from optimizely_api.services.projects.tables import project_roles, projects, users
from optimizely_api.services.schema import BOOLEAN, TEXT, Schema, field_error, object_of, one_of
from optimizely_api.services.storage.paging import fetch_page
from optimizely_api.services.storage.rows import fetch_row, insert_missing

Json = dict[str, Any]

ROLES = (
    *("viewer", "restricted_editor", "editor", "restricted_publisher", "publisher"),
    *("project_owner", "administrator"),
)
EMAIL = {"type": "string", "pattern": r"^[^\s@]+@[^\s@]+$", "maxLength": 254}
NAMES = {"first_name": TEXT, "last_name": TEXT}
USER = Schema(object_of({"email": EMAIL, **NAMES, "is_administrator": BOOLEAN}, "email"))
ROLE = Schema(object_of({"role": one_of(*ROLES)}, "role"))


async def create_user(connection: AsyncConnection, account_id: int, given: Json, at: datetime) -> Json:
    """Add a user; 400 for an email address that another user of the account has, 404 for an unknown account."""
    await get_account(connection, account_id)
    same = select(users.c.id).where(users.c.account_id == account_id, users.c.email == given["email"])
    if holder := (await connection.execute(same)).scalar_one_or_none():
        raise field_error("/email", f"is already in use (id: {holder})")
    defaults = {"first_name": "", "last_name": "", "is_administrator": False}
    user_id = str(uuid.uuid4())
    values = {**defaults, **given, "id": user_id, "account_id": account_id, "created": at}
    await connection.execute(insert(users).values(**values))
    return await get_user(connection, account_id, user_id)


async def get_user(connection: AsyncConnection, account_id: int, user_id: str) -> Json:
    """One user of the account, with the roles; 404 when there is none."""
    query = select(users).where(users.c.id == user_id, users.c.account_id == account_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise not_found("user", user_id[:40])
    return (await _with_roles(connection, [row]))[0]


async def list_users(
    connection: AsyncConnection, account_id: int, email: str | None, project_ids: Iterable[int], page: Page
) -> tuple[int, list[Json]]:
    """The number of an account's users, and a page of them, in the order of their creation.

    Those with the email address, if one is given, who have a role in each of the projects.
    """
    await get_account(connection, account_id)
    query = select(users).where(users.c.account_id == account_id)
    if email is not None:
        query = query.where(users.c.email == email)
    for project_id in project_ids:
        members = select(project_roles.c.user_id).where(project_roles.c.project_id == project_id)
        query = query.where(users.c.id.in_(members))
    total, rows = await fetch_page(connection, query.order_by(users.c.created), users.c.id, page)
    return total, await _with_roles(connection, rows)


async def set_role(
    connection: AsyncConnection, account_id: int, user_id: str, project_id: int, role: str | None
) -> Json:
    """Give a user a role in a project in place of any other, or none; 404 unless all are of one account."""
    await get_user(connection, account_id, user_id)
    project = await fetch_row(connection, projects, project_id, "project")
    if project.account_id != account_id:
        raise not_found("project", project_id)
    columns = project_roles.c
    same = (columns.user_id == user_id) & (columns.project_id == project_id)
    await connection.execute(delete(project_roles).where(same))
    if role is not None:
        await insert_missing(connection, project_roles, user_id=user_id, project_id=project_id, role=role)
    return await get_user(connection, account_id, user_id)


async def _with_roles(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Json]:
    roles = await roles_of(connection, [row.id for row in rows])
    return [_user(row, roles[row.id]) for row in rows]


async def roles_of(connection: AsyncConnection, user_ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """{user id: {project id as text: role}}."""
    found: dict[str, dict[str, str]] = {user_id: {} for user_id in user_ids}
    columns = project_roles.c
    query = select(project_roles).where(columns.user_id.in_(found)).order_by(columns.project_id)
    for row in await connection.execute(query):
        found[row.user_id][str(row.project_id)] = row.role
    return found


def _user(row: Row[Any], roles: dict[str, str]) -> Json:
    return {
        **{name: getattr(row, name) for name in ("id", "account_id", "email", "first_name", "last_name")},
        "is_administrator": row.is_administrator,
        "created": format_time(row.created),
        "roles": roles,
    }


async def answer_list(request: web.Request) -> web.Response:
    """The users of an account: those with the query's `email`, who have a role in each `project_id`."""
    account_id, email = path_id(request, "account_id"), request.query.get("email")
    project_ids = read_integers(request, "project_id")
    return await page_response(
        request, lambda connection, page: list_users(connection, account_id, email, project_ids, page)
    )


async def answer_create(request: web.Request) -> web.Response:
    """A new user without roles."""
    account_id, given = path_id(request, "account_id"), USER.read(await read_object(request))
    async with request.app[DATABASE].transaction() as connection:
        user = await create_user(connection, account_id, given, read_at(request))
    return JSONResponse(user, status=201)


async def answer_role(request: web.Request) -> web.Response:
    """PUT a role of a user in a project, or DELETE it; 200 with the user."""
    account_id, project_id = path_id(request, "account_id"), path_id(request, "project_id")
    role = ROLE.read(await read_object(request))["role"] if request.method == "PUT" else None
    async with request.app[DATABASE].transaction() as connection:
        user = await set_role(connection, account_id, request.match_info["user_id"], project_id, role)
    return JSONResponse(user)


PATH = "/accounts/{account_id}/users"
ROUTES = [
    web.get(PATH, answer_list),
    web.post(PATH, answer_create),
    web.put(f"{PATH}/{{user_id}}/roles/{{project_id}}", answer_role),
    web.delete(f"{PATH}/{{user_id}}/roles/{{project_id}}", answer_role),
]
