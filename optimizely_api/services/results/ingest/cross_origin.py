"""Cross-origin requests to the public port: pages of every origin may send events, as with the gateway."""

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
    "Access-Control-Max-Age": "7200",  # seconds; browsers keep a preflight no longer than that
}


async def answer_options(request: web.Request) -> web.Response:
    """204, to a preflight with what a page may send (Fetch standard, "CORS-preflight request")."""
    is_preflight = "Access-Control-Request-Method" in request.headers
    return web.Response(status=204, headers=PREFLIGHT if is_preflight else {"Allow": "OPTIONS, POST"})
