"""Cross-origin requests to the public port: pages of every origin may send events."""

from __future__ import annotations

from aiohttp import web

# On every response: no response depends on who sent the request.
EVERY_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Retry-After, X-Request-Id",
}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Encoding, Content-Type, X-Request-Id",
    "Access-Control-Max-Age": "7200",  # seconds; browsers cache a preflight response no longer than this
}


async def handle_options(request: web.Request) -> web.Response:
    """204; for a preflight (Fetch standard, "CORS-preflight request") with the methods and headers that are allowed."""
    is_preflight = "Access-Control-Request-Method" in request.headers
    return web.Response(status=204, headers=PREFLIGHT if is_preflight else {"Allow": "OPTIONS, POST"})
