"""Subject access requests: what a person may ask of an account, to see or to delete the data about them.

A request is kept with its deadline; `subject_access` works on it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.definitions import writable
from optimizely_api.contract.times import format_time
from optimizely_api.services.http.endpoints import created_response, entity_response, page_response
from optimizely_api.services.http.errors import bad_request
from optimizely_api.services.http.query import Page, read_integer
from optimizely_api.services.projects.store import get_account
from optimizely_api.services.projects.tables import next_ids, subject_access_requests
from optimizely_api.services.schema import ID, Schema, field_error
from optimizely_api.services.storage.ids import allocate_ids
from optimizely_api.services.storage.paging import fetch_page
from optimizely_api.services.storage.rows import fetch_row

DEADLINE = timedelta(days=30)  # a month at most: Article 12(3) of the General Data Protection Regulation

PATH = "/subject_access_requests"
GIVEN = ("data_type", "identifier", "identifier_type", "request_type")
TIMES = ("requested_at_time", "sla_deadline_time", "processing_started_time", "completed_at_time")


def _schema() -> Schema:
    node = writable("SubjectAccessRequest")
    identifier = {**node["properties"]["identifier"], "pattern": r"\S"}
    properties = {**node["properties"], "identifier": identifier, "account_id": ID}
    return Schema({**node, "properties": properties, "required": [*node["required"], "account_id"]})


_SCHEMA = _schema()


def read_request(body: dict[str, Any]) -> dict[str, Any]:
    """Check a new request: users of the account are known by their email, visitors by any identifier."""
    given = _SCHEMA.read(body)
    if given["data_type"] == "user" and given["identifier_type"] != "email":
        raise field_error("/identifier_type", "must be email where data_type is user")
    if given["identifier_type"] == "email" and "@" not in given["identifier"]:
        raise field_error("/identifier", "must be an email address where identifier_type is email")
    return given


async def create_request(connection: AsyncConnection, given: dict[str, Any], at: datetime) -> dict[str, Any]:
    """Add a pending request from checked input; 404 when its account is unknown."""
    await get_account(connection, given["account_id"])
    (request_id,) = await allocate_ids(connection, next_ids)
    times = {"requested_at_time": at, "sla_deadline_time": at + DEADLINE}
    values = {"id": request_id, "status": "pending", **given, **times}
    await connection.execute(insert(subject_access_requests).values(**values))
    return await get_request(connection, request_id)


async def get_request(connection: AsyncConnection, request_id: int) -> dict[str, Any]:
    """One request; 404 when there is none."""
    return _json(await fetch_row(connection, subject_access_requests, request_id, "subject access request"))


async def list_requests(
    connection: AsyncConnection, account_id: int, page: Page
) -> tuple[int, list[dict[str, Any]]]:
    """The number of an account's requests, and a page of them, ordered by id."""
    columns = subject_access_requests.c
    query = select(subject_access_requests).where(columns.account_id == account_id)
    total, rows = await fetch_page(connection, query, columns.id, page)
    return total, [_json(row) for row in rows]


def _json(row: Row[Any]) -> dict[str, Any]:
    """The contract's entity: a time that has not come is null, or absent where the contract knows no null."""
    times = {name: getattr(row, name) for name in TIMES}
    shown = {name: None if moment is None else format_time(moment) for name, moment in times.items()}
    expiry = {} if row.expired_at_time is None else {"expired_at_time": format_time(row.expired_at_time)}
    export = {} if row.export_location is None else {"export_location": row.export_location}
    given = {name: getattr(row, name) for name in GIVEN}
    return {
        "id": row.id,
        "account_id": row.account_id,
        "status": row.status,
        **given,
        **shown,
        **expiry,
        **export,
    }


async def answer_list(request: web.Request) -> web.Response:
    """The requests of the query's `account_id`."""
    account_id = read_integer(request, "account_id")
    if account_id is None:
        raise bad_request("account_id is required")
    return await page_response(request, lambda connection, page: list_requests(connection, account_id, page))


async def answer_create(request: web.Request) -> web.Response:
    """A new request, of the account that `account_id` names."""
    return await created_response(request, read_request, create_request)


async def answer_get(request: web.Request) -> web.Response:
    """One request."""
    return await entity_response(request, "request_id", get_request)


ROUTES = [
    web.get(PATH, answer_list),
    web.post(PATH, answer_create),
    web.get(f"{PATH}/{{request_id}}", answer_get),
]
