"""The HTTP interface of the projects service."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Any

from aiohttp import web

from optimizely_api.services.entities.endpoints import routes
from optimizely_api.services.entities.history import shown
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.endpoints import created_response, entity_response, page_response
from optimizely_api.services.http.errors import bad_request, not_found
from optimizely_api.services.http.feeds import feed_response
from optimizely_api.services.http.json_body import read_object
from optimizely_api.services.http.query import path_id, read_at, read_integer
from optimizely_api.services.http.responses import JSONResponse
from optimizely_api.services.projects import idempotency, projects, store, subject_access_requests, users
from optimizely_api.services.projects.delivery.handlers import ROUTES as DELIVERY_ROUTES
from optimizely_api.services.projects.environments import ENVIRONMENTS, find_sdk_key
from optimizely_api.services.projects.schema import ACCOUNT, PROJECT, PROJECT_UPDATE, TOKEN
from optimizely_api.services.projects.subject_access.handlers import ROUTES as EXPORT_ROUTES
from optimizely_api.services.projects.tables import changes
from optimizely_api.services.projects.webhooks import WEBHOOKS

FILTERS = ("id", "name", "platform", "status")
TOKEN_BYTES = 32


async def get_token(request: web.Request) -> web.Response:
    """A token and its account, by the hexadecimal SHA-256 of the token."""
    token_sha256 = request.match_info["token_sha256"].lower()
    if not re.fullmatch("[0-9a-f]{64}", token_sha256):
        raise not_found("token", "of this hash")
    async with request.app[DATABASE].snapshot() as connection:
        token = await store.get_token(connection, token_sha256)
        if user_id := token.get("user_id"):
            token["user"] = await users.get_user(connection, token["account_id"], user_id)
        return JSONResponse(token)


async def feed_changes(request: web.Request) -> web.Response:
    """Changes of environments and projects in the order of their ids, for the history of the experiments service."""
    return await feed_response(request, changes, shown)


async def list_accounts(request: web.Request) -> web.Response:
    """All accounts, or those with the query's `name`."""
    name = request.query.get("name")
    return await page_response(request, lambda connection, page: store.list_accounts(connection, name, page))


async def create_account(request: web.Request) -> web.Response:
    """Create an account."""
    return await created_response(request, ACCOUNT.read, store.create_account)


async def get_account(request: web.Request) -> web.Response:
    """One account."""
    return await entity_response(request, "account_id", store.get_account)


async def create_token(request: web.Request) -> web.Response:
    """Create a token for an account: from the hash in the body, or a new one, which only this response contains."""
    account_id = path_id(request, "account_id")
    given, at = TOKEN.read(await read_object(request)), read_at(request)
    new_token = {}
    if "token_sha256" not in given:
        new_token["token"] = f"2:{secrets.token_urlsafe(TOKEN_BYTES)}"
        given["token_sha256"] = hashlib.sha256(new_token["token"].encode()).hexdigest()
    async with request.app[DATABASE].transaction() as connection:
        user_id = given.get("user_id")
        if user_id:
            await users.get_user(connection, account_id, user_id)
        token = await store.create_token(
            connection, account_id, given["name"], given["token_sha256"], at, user_id
        )
    return JSONResponse({**token, **new_token}, status=201)


async def list_tokens(request: web.Request) -> web.Response:
    """The tokens of an account, revoked ones included; neither tokens nor hashes are in the response."""
    account_id = path_id(request, "account_id")
    return await page_response(
        request, lambda connection, page: store.list_tokens(connection, account_id, page)
    )


async def revoke_token(request: web.Request) -> web.Response:
    """Revoke a token."""
    account_id, token_id = path_id(request, "account_id"), path_id(request, "token_id")
    async with request.app[DATABASE].transaction() as connection:
        await store.revoke_token(connection, account_id, token_id, read_at(request))
    return web.Response(status=204)


async def get_sdk_key(request: web.Request) -> web.Response:
    """The environment that SDKs with this key are of."""
    async with request.app[DATABASE].snapshot() as connection:
        return JSONResponse(await find_sdk_key(connection, request.match_info["sdk_key"]))


async def list_projects(request: web.Request) -> web.Response:
    """Projects, by `account_id`, by `filter=field:value`, and those that `user_id` has a role in."""
    account_id, filters = read_integer(request, "account_id"), _filters(request)
    user_id = request.query.get("user_id")
    return await page_response(
        request,
        lambda connection, page: projects.list_projects(connection, account_id, filters, page, user_id),
    )


async def create_project(request: web.Request) -> web.Response:
    """Create a project of the account that `account_id` names."""
    return await created_response(request, PROJECT.read, projects.create_project)


async def get_project(request: web.Request) -> web.Response:
    """One project."""
    return await entity_response(request, "project_id", projects.get_project)


async def update_project(request: web.Request) -> web.Response:
    """Change a project; properties that cannot be changed are ignored. `If-Match` names the version to be changed."""
    project_id = path_id(request, "project_id")
    given, at = PROJECT_UPDATE.read(await read_object(request)), read_at(request)
    if_match = request.headers.get("If-Match", "")
    async with request.app[DATABASE].transaction() as connection:
        project = await projects.update_project(connection, project_id, given, at, if_match)
    return JSONResponse(project)


def _filters(request: web.Request) -> dict[str, list[Any]]:
    filters: dict[str, list[Any]] = {}
    for text in request.query.getall("filter", []):
        if not text.strip():
            continue
        name, colon, value = text.partition(":")
        if name not in FILTERS or not colon:
            raise bad_request(f"filter must be FIELD:VALUE with FIELD one of {', '.join(FILTERS)}")
        filters.setdefault(name, []).append(_id(value) if name == "id" else value)
    return filters


def _id(text: str) -> int:
    if not re.fullmatch("[0-9]{1,16}", text):
        raise bad_request("filter must have a whole number after id:")
    return int(text)


ROUTES = [
    web.get("/changes/feed", feed_changes),
    web.get("/tokens/{token_sha256}", get_token),
    web.get("/accounts", list_accounts),
    web.post("/accounts", create_account),
    web.get("/accounts/{account_id}", get_account),
    web.get("/accounts/{account_id}/tokens", list_tokens),
    web.post("/accounts/{account_id}/tokens", create_token),
    web.delete("/accounts/{account_id}/tokens/{token_id}", revoke_token),
    web.get("/projects", list_projects),
    web.post("/projects", create_project),
    web.get("/projects/{project_id}", get_project),
    web.patch("/projects/{project_id}", update_project),
    web.get("/sdk_keys/{sdk_key}", get_sdk_key),
    *routes(ENVIRONMENTS),
    *routes(WEBHOOKS),
    *DELIVERY_ROUTES,
    *subject_access_requests.ROUTES,
    *EXPORT_ROUTES,
    *idempotency.ROUTES,
    *users.ROUTES,
]
