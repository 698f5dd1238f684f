"""Admission to a service: while too many requests come, the least important ones wait, and then are refused.

`serving/admission.py` decides. A refusal costs far less than a response but more than in the gateway, since aiohttp has
parsed the request by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from optimizely_api.services.http.authentication import HEALTH_PATH
from optimizely_api.services.http.errors import error_response
from optimizely_api.services.http.questions import SAFE_METHODS, is_question
from optimizely_api.services.storage.deadlines import seconds_left
from optimizely_api.serving.admission import BEGIN, RETRY_AFTER_SECONDS, WAIT, Admission
from optimizely_api.serving.lag import LagMeter
from optimizely_api.serving.line import ALWAYS, EVENTS, ORDINARY, PEOPLE

_TAKES_EVENTS = "takes_events"

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Turn:
    """The turn of a request that waits to begin."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._begins: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        # A cancelled request leaves the line only at the next turn of the loop; it uses no room.
        if not self._begins.done():
            self._admission.begin()  # now, so that no other request takes its place
            self._begins.set_result(True)

    def refuse(self) -> None:
        if not self._begins.done():
            self._begins.set_result(False)

    async def begins(self) -> bool:
        """Wait for the turn; False if the request is refused."""
        try:
            return await self._begins
        except asyncio.CancelledError:
            if self._begins.cancelled():
                self._admission.forget(self)
            elif self._begins.result():
                self._admission.end()
            raise


class ServiceAdmission:
    """The admission to one worker of a service, which starts and stops its meter."""

    def __init__(self, overload_wait_seconds: float, connections: int) -> None:
        self._admission = Admission(overload_wait_seconds, most_events=connections // 2)
        self.meter = LagMeter(self._admission.sample)
        self._refused = 0

    async def serve(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Answer a request by its handler, or with 503; raises DeadlinePassed for one that begins too late."""
        admission = self._admission
        if not admission.is_watching:
            admission.begin()
        elif not await self._begins(class_of(request)):
            return self._refuse()
        try:
            seconds_left()  # it may have waited for longer than its client
            response: web.StreamResponse = await handler(request)
            return response
        finally:
            admission.end()

    async def _begins(self, kind: int) -> bool:
        admission, turn = self._admission, Turn(self._admission)
        decision = admission.ask(kind, 0, turn)  # of one account, the gateway: that knows its callers
        if decision == BEGIN:
            admission.begin()
        return decision == BEGIN or (decision == WAIT and await turn.begins())

    def _refuse(self) -> web.StreamResponse:
        self._refused += 1
        seconds = 1 + self._refused % RETRY_AFTER_SECONDS
        message = "the service is overloaded; send the request again"
        return error_response(503, "overloaded", message, {"Retry-After": str(seconds)})


ADMISSION = web.AppKey("admission", ServiceAdmission)  # where a worker of ours serves the application


@web.middleware
async def admit(request: web.Request, handler: Any) -> web.StreamResponse:
    """Refuse requests while the worker is overloaded."""
    admission = request.app.get(ADMISSION)
    if admission is None:
        response: web.StreamResponse = await handler(request)
        return response
    return await admission.serve(request, handler)


def takes_events(handler: Handler) -> Handler:
    """Mark a handler whose requests are refused last: SDKs may not send a batch of events again."""
    setattr(handler, _TAKES_EVENTS, True)
    return handler


def class_of(request: web.Request) -> int:
    """The class of a request (`serving/line.py`): batches of events, writes and reads of one entity, others."""
    if request.rel_url.raw_path == HEALTH_PATH:
        return ALWAYS
    found = request.match_info
    if getattr(found.handler, _TAKES_EVENTS, False):
        return EVENTS
    resource = found.route.resource
    reads_one = request.method in SAFE_METHODS and resource is not None and resource.canonical.endswith("}")
    return PEOPLE if reads_one or not is_question(request) else ORDINARY
