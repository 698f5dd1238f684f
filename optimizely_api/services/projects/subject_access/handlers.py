"""Exports, for the gateway."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime

from aiohttp import web

from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.http.query import path_id
from optimizely_api.services.http.responses import JSONResponse
from optimizely_api.services.projects.subject_access import store


async def get_export(request: web.Request) -> web.Response:
    """The ZIP file that a request has found, in Base64; 404 where there is none, or no longer."""
    request_id = path_id(request, "request_id")
    async with request.app[DATABASE].snapshot() as connection:
        content = await store.get_export(connection, request_id, datetime.now(UTC))
    return JSONResponse({"id": request_id, "content": b64encode(content).decode()})


ROUTES = [web.get("/subject_access_requests/{request_id}/export", get_export)]
