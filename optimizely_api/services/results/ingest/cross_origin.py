"""Cross-origin requests to the public port: pages of every origin may send events."""

from __future__ import annotations

from aiohttp import web

PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, X-Request-Id",
    "Access-Control-Max-Age": "7200",  # seconds; browsers cache a preflight response no longer than this
}


async def handle_options(request: web.Request) -> web.Response:
    """204; for a preflight (Fetch standard, "CORS-preflight request") with the methods and headers that are allowed."""
    is_preflight = "Access-Control-Request-Method" in request.headers
    return web.Response(status=204, headers=PREFLIGHT if is_preflight else {"Allow": "OPTIONS, POST"})


async def allow_every_origin(_request: web.Request, response: web.StreamResponse) -> None:
    """Let every page read the response; no response depends on the sender."""
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-Id"
