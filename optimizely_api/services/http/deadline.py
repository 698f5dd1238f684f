"""The client's deadline (`X-Envoy-Expected-Rq-Timeout-Ms`): when it has passed, the work ends with a 504.

A question (`questions.py`) is cancelled, and its statements in the database are stopped. A write goes on to its end
once its transaction has begun: whoever stopped waiting could not know how far it got.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from optimizely_api.http.deadlines import EXPECTED_TIMEOUT, seconds_of
from optimizely_api.services.http.errors import ServiceError
from optimizely_api.services.http.questions import is_question
from optimizely_api.services.storage.deadlines import DEADLINE, DeadlinePassed

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def keep_deadline(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the handler as long as the client waits; without the header, or an unreadable one, it has no limit."""
    seconds = seconds_of(request.headers.get(EXPECTED_TIMEOUT))
    if seconds is None:
        return await handler(request)
    deadline = time.monotonic() + seconds
    DEADLINE.set(deadline)
    try:
        async with asyncio.timeout(seconds if is_question(request) else None) as limit:
            return await handler(request)
    except (DeadlinePassed, TimeoutError) as exc:
        # uvloop's timers may fire a millisecond early, so the clock alone does not tell whose time limit it was.
        if isinstance(exc, TimeoutError) and not limit.expired() and time.monotonic() < deadline:
            raise  # another time limit, inside the handler
        raise ServiceError(504, "deadline_passed", "the time that the client waits is spent") from exc
