"""Who may call a service: those with the services' key, but for `/healthz`, which load balancers ask without one."""

from __future__ import annotations

import os
from typing import Any

from aiohttp import web

from optimizely_api.services.http.errors import error_response
from optimizely_api.services_key import is_authorized, read_keys

HEALTH_PATH = "/healthz"
REFUSAL = "send the services' key as `Authorization: Bearer <key>`"


def require_key() -> Any:
    """A middleware that answers 401 to calls without one of the keys that the environment names now.

    A wrong key is refused at `/healthz` too: the gateway finds out there that its key is another one. Raises
    InvalidServicesKey.
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
