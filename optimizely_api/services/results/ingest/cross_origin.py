"""Cross-origin requests to the public port: pages of every origin may send events, as with the gateway."""

from __future__ import annotations

from aiohttp import web

PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, X-Request-Id",
    "Access-Control-Max-Age": "7200",  # seconds; browsers keep a preflight no longer than that
}


async def answer_options(request: web.Request) -> web.Response:
    """204, to a preflight with what a page may send (Fetch standard, "CORS-preflight request")."""
    is_preflight = "Access-Control-Request-Method" in request.headers
    return web.Response(status=204, headers=PREFLIGHT if is_preflight else {"Allow": "OPTIONS, POST"})


async def allow_every_origin(_request: web.Request, response: web.StreamResponse) -> None:
    """Let a page read the response; no response depends on who asks."""
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-Id"
