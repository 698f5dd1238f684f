"""Deliveries and secrets of webhooks, for the operator's commands."""

from __future__ import annotations

import secrets

from aiohttp import web

from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.endpoints import page_response
from optimizely_api.services.http.query import path_id
from optimizely_api.services.http.responses import JSONResponse
from optimizely_api.services.projects.delivery import store

SECRET_BYTES = 32


async def list_deliveries(request: web.Request) -> web.Response:
    """The deliveries of a webhook, newest first."""
    webhook_id = path_id(request, "webhook_id")
    return await page_response(
        request, lambda connection, page: store.list_deliveries(connection, webhook_id, page)
    )


async def create_secret(request: web.Request) -> web.Response:
    """Give a webhook a new secret, which only this response contains."""
    webhook_id, secret = path_id(request, "webhook_id"), secrets.token_urlsafe(SECRET_BYTES)
    async with request.app[DATABASE].transaction() as connection:
        await store.change_secret(connection, webhook_id, secret)
    return JSONResponse({"secret": secret}, status=201)


ROUTES = [
    web.get("/webhooks/{webhook_id}/deliveries", list_deliveries),
    web.post("/webhooks/{webhook_id}/secret", create_secret),
]
