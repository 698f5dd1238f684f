"""The services' key: every request needs it but `GET /healthz`, which load balancers send without one."""

from __future__ import annotations

import os
from typing import Any

from aiohttp import web

from optimizely_api.services.http.errors import error_response
from optimizely_api.services_key import is_authorized, read_keys

HEALTH_PATH = "/healthz"
REFUSAL = "send the services' key as `Authorization: Bearer <key>`"


def require_key() -> Any:
    """Return a middleware that answers 401 to requests without one of the keys in the environment.

    It refuses a wrong key at `/healthz` too, where the gateway checks that its own key is right. The keys are read
    once, when the middleware is made. Raises InvalidServicesKey.
    """
    keys = read_keys(os.environ)

    @web.middleware
    async def key_required(request: web.Request, handler: Any) -> web.StreamResponse:
        header = request.headers.get("Authorization")
        is_open = header is None and request.rel_url.raw_path == HEALTH_PATH
        if not is_open and not is_authorized(header, keys):
            return error_response(401, "unauthorized", REFUSAL, {"WWW-Authenticate": "Bearer"})
        response: web.StreamResponse = await handler(request)
        return response

    return key_required
