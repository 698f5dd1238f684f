"""Idempotency keys: which requests of a token are being answered, and what was answered to those of the last day.

They are kept here, and not where the entities are, because one key is of one token, whichever service it makes
something in, and because this service is asked least. What a key makes is made once also when a gateway ends before it
has stored its answer: the service of the entity remembers the `operation` of the key (`services/http/made_once.py`).
"""

from __future__ import annotations

import base64
import math
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.errors import bad_request
from optimizely_api.services.http.json_body import read_object
from optimizely_api.services.http.query import read_integer
from optimizely_api.services.http.responses import JSONResponse
from optimizely_api.services.projects.tables import METADATA
from optimizely_api.services.schema import ID, Schema, object_of
from optimizely_api.services.storage.database import UtcTime
from optimizely_api.services.storage.rows import insert_missing, remove_older

Json = dict[str, Any]

KEPT = timedelta(hours=24)
MOST_KEYS_OF_A_TOKEN = 10_000  # beyond these the oldest go before their time
LONGEST_LEASE_SECONDS = 600

KEYS = Table(
    "idempotency_keys",
    METADATA,
    # Of the token and the key, which is a caller's text.
    Column("key_sha256", String(64), primary_key=True),
    Column("token_id", BigInteger, nullable=False),
    Column("request_sha256", String(64), nullable=False),
    Column("operation", String(32), nullable=False, unique=True),
    Column("leased_until", UtcTime, nullable=False),  # until then it is being answered
    Column("status", Integer),  # none before it was answered
    Column("entity_tag", String(128)),
    Column("body", LargeBinary),
    Column("created", UtcTime, nullable=False),
    Index("ix_idempotency_keys_created", "created"),
    Index("ix_idempotency_keys_token_id_created", "token_id", "created"),
)

SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
SECONDS = {"type": "integer", "minimum": 1, "maximum": LONGEST_LEASE_SECONDS}
CLAIM = Schema(
    object_of(
        {"key_sha256": SHA256, "token_id": ID, "request_sha256": SHA256, "lease_seconds": SECONDS},
        *("key_sha256", "token_id", "request_sha256", "lease_seconds"),
    )
)


async def claim(connection: AsyncConnection, given: Json, at: datetime) -> Json:
    """Let one request answer a key, for as long as its lease; returns {"key_sha256", "state", ...}.

    The state is `claimed`, with the `operation` that this request is to carry out; `under_way`, with the
    `retry_after_seconds` that another may take; `answered`, with `status`, `entity_tag` and `body` (Base64);
    or `of_another_request`, when the key came with another request before.
    """
    key_sha256, seconds = given["key_sha256"], given["lease_seconds"]
    await remove_older(connection, KEYS, at - KEPT)
    new = {
        **{name: given[name] for name in ("token_id", "request_sha256")},
        "operation": uuid.uuid4().hex,
        "leased_until": at + timedelta(seconds=seconds),
        "created": at,
    }
    if await insert_missing(connection, KEYS, key_sha256=key_sha256, **new):
        await _remove_beyond_the_most(connection, given["token_id"])
        return {"key_sha256": key_sha256, "state": "claimed", "operation": new["operation"]}
    query = select(KEYS).where(KEYS.c.key_sha256 == key_sha256).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None or row.created < at - KEPT:  # too old, and about to be removed
        nothing = {"status": None, "entity_tag": None, "body": None}
        await connection.execute(delete(KEYS).where(KEYS.c.key_sha256 == key_sha256))
        await insert_missing(connection, KEYS, key_sha256=key_sha256, **new, **nothing)
        return {"key_sha256": key_sha256, "state": "claimed", "operation": new["operation"]}
    return {"key_sha256": key_sha256, **await _known(connection, row, given, at)}


async def _known(connection: AsyncConnection, row: Any, given: Json, at: datetime) -> Json:
    if row.request_sha256 != given["request_sha256"]:
        return {"state": "of_another_request"}
    if row.status is not None:
        body = base64.b64encode(row.body).decode()
        return {"state": "answered", "status": row.status, "entity_tag": row.entity_tag or "", "body": body}
    if row.leased_until > at:
        seconds = math.ceil((row.leased_until - at).total_seconds())
        return {"state": "under_way", "retry_after_seconds": seconds}
    # Whoever had it has given it back, or has ended without a word: the operation is carried out again.
    until = at + timedelta(seconds=given["lease_seconds"])
    same = KEYS.c.key_sha256 == row.key_sha256
    await connection.execute(update(KEYS).where(same).values(leased_until=until))
    return {"state": "claimed", "operation": row.operation}


async def store_answer(connection: AsyncConnection, operation: str, **answer: Any) -> None:
    """Keep what was answered; the first answer of an operation stays."""
    unanswered = (KEYS.c.operation == operation) & KEYS.c.status.is_(None)
    await connection.execute(update(KEYS).where(unanswered).values(**answer))


async def release(connection: AsyncConnection, operation: str, at: datetime) -> None:
    """End the lease of an operation that has no answer: the next request with its key may carry it out."""
    unanswered = (KEYS.c.operation == operation) & KEYS.c.status.is_(None)
    await connection.execute(update(KEYS).where(unanswered).values(leased_until=at))


async def _remove_beyond_the_most(connection: AsyncConnection, token_id: int) -> None:
    of_token = KEYS.c.token_id == token_id
    newest = select(KEYS.c.created).where(of_token).order_by(KEYS.c.created.desc())
    oldest_kept = (
        await connection.execute(newest.offset(MOST_KEYS_OF_A_TOKEN).limit(1))
    ).scalar_one_or_none()
    if oldest_kept is not None:
        await connection.execute(delete(KEYS).where(of_token, KEYS.c.created <= oldest_kept))


async def answer_claim(request: web.Request) -> web.Response:
    """200: whether the request may be carried out, or what was answered to it."""
    given = CLAIM.read(await read_object(request))
    async with request.app[DATABASE].transaction() as connection:
        return JSONResponse(await claim(connection, given, datetime.now(UTC)))


async def answer_store(request: web.Request) -> web.Response:
    """204: the body is kept as the answer of the operation, with the query's `status` and `entity_tag`."""
    operation, status = request.match_info["operation"], read_integer(request, "status", maximum=499)
    if status is None:
        raise bad_request("status is required")
    answer = {"status": status, "entity_tag": request.query.get("entity_tag"), "body": await request.read()}
    async with request.app[DATABASE].transaction() as connection:
        await store_answer(connection, operation, **answer)
    return web.Response(status=204)


async def answer_release(request: web.Request) -> web.Response:
    """204: the operation is nobody's."""
    async with request.app[DATABASE].transaction() as connection:
        await release(connection, request.match_info["operation"], datetime.now(UTC))
    return web.Response(status=204)


ROUTES = [
    web.post("/idempotency_keys", answer_claim),
    web.put("/idempotency_keys/{operation}", answer_store),
    web.delete("/idempotency_keys/{operation}", answer_release),
]
