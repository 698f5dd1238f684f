"""Accounts, tokens and projects in SQL. Every function runs inside the transaction of its connection."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.errors import conflict, not_found
from optimizely_api.services.http.query import Page
from optimizely_api.services.http.responses import format_time
from optimizely_api.services.projects.schema import PROJECT_DEFAULTS, WEB_SNIPPET_DEFAULTS
from optimizely_api.services.projects.tables import accounts, next_ids, projects, tokens
from optimizely_api.services.storage.ids import allocate_ids
from optimizely_api.services.storage.paging import fetch_page
from optimizely_api.services.storage.rows import fetch_row

COLUMNS = ("name", "platform", "status")  # the properties of a project that have their own columns


async def create_account(connection: AsyncConnection, given: dict[str, Any], at: datetime) -> dict[str, Any]:
    """Add an account from checked input."""
    (account_id,) = await allocate_ids(connection, next_ids)
    await connection.execute(insert(accounts).values(id=account_id, name=given["name"], created=at))
    return await get_account(connection, account_id)


async def get_account(connection: AsyncConnection, account_id: int) -> dict[str, Any]:
    """One account; 404 when there is none."""
    return _account(await fetch_row(connection, accounts, account_id, "account"))


async def list_accounts(
    connection: AsyncConnection, name: str | None, page: Page
) -> tuple[int, list[dict[str, Any]]]:
    """The number of accounts (with that name, if one is given), and a page of them."""
    query = select(accounts)
    if name is not None:
        query = query.where(accounts.c.name == name)
    total, rows = await fetch_page(connection, query, accounts.c.id, page)
    return total, [_account(row) for row in rows]


async def create_token(
    connection: AsyncConnection, account_id: int, name: str, token_sha256: str, at: datetime
) -> dict[str, Any]:
    """Store the hash of an account's token; storing the same hash again changes nothing.

    409 when the hash belongs to another account, or has been revoked.
    """
    await get_account(connection, account_id)
    existing = await _find_token(connection, token_sha256)
    if existing is not None:
        if existing.account_id != account_id or existing.revoked is not None:
            raise conflict("/token_sha256: this token has been used already")
        return _token(existing)
    (token_id,) = await allocate_ids(connection, next_ids)
    values = {"id": token_id, "account_id": account_id, "name": name, "token_sha256": token_sha256}
    await connection.execute(insert(tokens).values(**values, created=at))
    return {"token_id": token_id, "account_id": account_id, "name": name, "created": format_time(at)}


async def list_tokens(
    connection: AsyncConnection, account_id: int, page: Page
) -> tuple[int, list[dict[str, Any]]]:
    """The number of an account's tokens, and a page of them; revoked ones have the time. 404 for an unknown account."""
    await get_account(connection, account_id)
    query = select(tokens).where(tokens.c.account_id == account_id)
    total, rows = await fetch_page(connection, query, tokens.c.id, page)
    return total, [_listed_token(row) for row in rows]


async def get_token(connection: AsyncConnection, token_sha256: str) -> dict[str, Any]:
    """The token with this hash; 404 when unknown or revoked."""
    row = await _find_token(connection, token_sha256)
    if row is None or row.revoked is not None:
        raise not_found("token", "of this hash")
    # With the hash, the gateway can check that the response belongs to its request.
    return {**_token(row), "token_sha256": row.token_sha256}


async def revoke_token(connection: AsyncConnection, account_id: int, token_id: int, at: datetime) -> None:
    """Revoke a token; 404 when the account has no such token, or it is revoked already."""
    result = await connection.execute(
        update(tokens)
        .where(tokens.c.id == token_id, tokens.c.account_id == account_id, tokens.c.revoked.is_(None))
        .values(revoked=at)
    )
    if result.rowcount == 0:
        raise not_found("token", token_id)


async def create_project(connection: AsyncConnection, given: dict[str, Any], at: datetime) -> dict[str, Any]:
    """Add a project from checked input; 404 when its account is unknown."""
    document = {**PROJECT_DEFAULTS, **given}
    account_id = document.pop("account_id")
    await get_account(connection, account_id)
    if document["platform"] == "web":
        snippet = {**WEB_SNIPPET_DEFAULTS, **document.get("web_snippet", {})}
        document["web_snippet"] = {**snippet, "code_revision": 1}
    (project_id,) = await allocate_ids(connection, next_ids)
    columns = {name: document.pop(name) for name in COLUMNS}
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
    return await get_project(connection, project_id)


async def get_project(connection: AsyncConnection, project_id: int) -> dict[str, Any]:
    """One project in the contract's shape; 404 when there is none."""
    return _project(await fetch_row(connection, projects, project_id, "project"))


async def update_project(
    connection: AsyncConnection, project_id: int, changes: dict[str, Any], at: datetime
) -> dict[str, Any]:
    """Apply checked changes; a `web_snippet` is merged, every other property replaced."""
    row = await fetch_row(connection, projects, project_id, "project", for_update=True)
    columns = {name: changes.pop(name) for name in COLUMNS if name in changes}
    document = {**row.document, **changes}
    if row.platform == "web":
        old = row.document.get("web_snippet", {})
        revision = old.get("code_revision", 0) + 1
        document["web_snippet"] = {**old, **changes.get("web_snippet", {}), "code_revision": revision}
    await connection.execute(
        update(projects)
        .where(projects.c.id == project_id)
        .values(document=document, last_modified=max(at, row.last_modified), **columns)
    )
    return await get_project(connection, project_id)


async def list_projects(
    connection: AsyncConnection, account_id: int | None, filters: dict[str, list[str]], page: Page
) -> tuple[int, list[dict[str, Any]]]:
    """The number of matching projects, and a page of them; several values of one filter mean any of them."""
    query = select(projects)
    if account_id is not None:
        query = query.where(projects.c.account_id == account_id)
    for name, values in filters.items():
        query = query.where(projects.c[name].in_(values))
    total, rows = await fetch_page(connection, query, projects.c.id, page)
    return total, [_project(row) for row in rows]


async def _find_token(connection: AsyncConnection, token_sha256: str) -> Row[Any] | None:
    rows = await connection.execute(select(tokens).where(tokens.c.token_sha256 == token_sha256))
    return rows.one_or_none()


def _account(row: Row[Any]) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "created": format_time(row.created)}


def _token(row: Row[Any]) -> dict[str, Any]:
    return {
        "token_id": row.id,
        "account_id": row.account_id,
        "name": row.name,
        "created": format_time(row.created),
    }


def _listed_token(row: Row[Any]) -> dict[str, Any]:
    return _token(row) if row.revoked is None else {**_token(row), "revoked": format_time(row.revoked)}


def _project(row: Row[Any]) -> dict[str, Any]:
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
