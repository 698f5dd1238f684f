"""Requests that only ask: nobody needs their response once the client has gone, so their handlers are cancelled then.

A request that writes goes on to its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 section 9.2.1
_ONLY_ASKS = "only_asks"

Handler = Callable[[web.Request], Awaitable[web.Response]]


def only_asks(handler: Handler) -> Handler:
    """Mark the handler of a POST whose body is a question: it changes nothing."""
    setattr(handler, _ONLY_ASKS, True)
    return handler


def is_question(request: Any) -> bool:
    """Whether the request changes nothing; False for one that no route has been looked up for yet."""
    if request.method in SAFE_METHODS:
        return True
    found = getattr(request, "match_info", None)
    return found is not None and getattr(found.handler, _ONLY_ASKS, False)
