"""Whitelists by visitor: which experiments of an account name one, and how the visitor leaves all of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiohttp import web
from sqlalchemy import Row, Text, cast, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments.changes import record
from optimizely_api.services.experiments.store import get_experiment
from optimizely_api.services.experiments.tables import changes, experiments, layers
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.errors import bad_request
from optimizely_api.services.http.query import read_at, read_integer, read_text
from optimizely_api.services.http.responses import JSONResponse
from optimizely_api.services.storage.rows import fetch_row

Entries = list[dict[str, Any]]

ERASED = "erased"  # in place of the visitor's id in the history of changes


async def entries_of(connection: AsyncConnection, account_id: int, user_id: str) -> Entries:
    """The entries of the visitor, each with its experiment."""
    rows = await _rows_with(connection, account_id, user_id)
    return [
        {"experiment_id": row.id, "project_id": row.project_id, **entry}
        for row in rows
        for entry in row.document["whitelist"]
        if entry["user_id"] == user_id
    ]


async def erase(connection: AsyncConnection, account_id: int, user_id: str, at: datetime) -> None:
    """Take the visitor out of the whitelists; the history of changes keeps its records, without the visitor's id.

    Archived experiments are no exception.
    """
    for found in await _rows_with(connection, account_id, user_id):
        await fetch_row(connection, layers, found.layer_id, "campaign", for_update=True)
        row = await fetch_row(connection, experiments, found.id, "experiment")
        before = await get_experiment(connection, row.id, at)
        left = [entry for entry in row.document.get("whitelist", ()) if entry["user_id"] != user_id]
        values = {
            "document": {**row.document, "whitelist": left},
            "last_modified": max(at, row.last_modified),
        }
        await connection.execute(update(experiments).where(experiments.c.id == row.id).values(**values))
        await record(connection, "Experiment", before, await get_experiment(connection, row.id, at), at)
    await _erase_from_history(connection, account_id, user_id)


async def _rows_with(connection: AsyncConnection, account_id: int, user_id: str) -> list[Row[Any]]:
    columns = experiments.c
    # In the order of their campaigns, whose rows are locked: no two erasures wait for each other.
    query = (
        select(experiments)
        .where(columns.account_id == account_id, cast(columns.document, Text).contains('"whitelist"'))
        .order_by(columns.layer_id, columns.id)
    )
    rows = await connection.execute(query)
    return [
        row for row in rows if any(entry["user_id"] == user_id for entry in row.document.get("whitelist", ()))
    ]


async def _erase_from_history(connection: AsyncConnection, account_id: int, user_id: str) -> None:
    columns = changes.c
    query = select(columns.id, columns.changes).where(
        columns.account_id == account_id,
        columns.entity_type == "experiment",
        cast(columns.changes, Text).contains('"whitelist"'),
    )
    for row in (await connection.execute(query)).all():
        details = [_without(detail, user_id) for detail in row.changes]
        if details != row.changes:
            await connection.execute(update(changes).where(columns.id == row.id).values(changes=details))


def _without(detail: dict[str, Any], user_id: str) -> dict[str, Any]:
    if detail["property"] != "whitelist":
        return detail
    sides = {
        side: [
            {**entry, "user_id": ERASED} if entry["user_id"] == user_id else entry for entry in detail[side]
        ]
        for side in ("before", "after")
        if detail.get(side)
    }
    return {**detail, **sides}


def _visitor(request: web.Request) -> tuple[int, str]:
    account_id = read_integer(request, "account_id")
    if account_id is None:
        raise bad_request("account_id is required")
    return account_id, read_text(request, "user_id")


async def answer_entries(request: web.Request) -> web.Response:
    """The entries of the query's `user_id` in the whitelists of `account_id`."""
    async with request.app[DATABASE].snapshot() as connection:
        return JSONResponse({"items": await entries_of(connection, *_visitor(request))})


async def answer_erase(request: web.Request) -> web.Response:
    """Take the query's `user_id` out of the whitelists of `account_id`; 204, also where none has it."""
    account_id, user_id = _visitor(request)
    async with request.app[DATABASE].transaction() as connection:
        await erase(connection, account_id, user_id, read_at(request))
    return web.Response(status=204)


ROUTES = [web.get("/whitelists", answer_entries), web.delete("/whitelists", answer_erase)]
