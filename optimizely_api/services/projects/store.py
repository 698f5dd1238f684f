"""Accounts and tokens in SQL. Every function runs inside the transaction of its connection."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.times import format_time
from optimizely_api.services.http.errors import conflict, not_found
from optimizely_api.services.http.query import Page
from optimizely_api.services.projects.tables import accounts, next_ids, tokens
from optimizely_api.services.storage.ids import allocate_ids
from optimizely_api.services.storage.paging import fetch_page
from optimizely_api.services.storage.rows import fetch_row


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
    connection: AsyncConnection,
    account_id: int,
    name: str,
    token_sha256: str,
    at: datetime,
    user_id: str | None = None,
) -> dict[str, Any]:
    """Store the hash of an account's token, which acts as the user; storing the same hash again changes nothing.

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
    values |= {"user_id": user_id}
    await connection.execute(insert(tokens).values(**values, created=at))
    of_user = {"user_id": user_id} if user_id else {}
    created = {"name": name, "created": format_time(at)}
    return {"token_id": token_id, "account_id": account_id, **created, **of_user}


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
        **({"user_id": row.user_id} if row.user_id else {}),
    }


def _listed_token(row: Row[Any]) -> dict[str, Any]:
    return _token(row) if row.revoked is None else {**_token(row), "revoked": format_time(row.revoked)}
