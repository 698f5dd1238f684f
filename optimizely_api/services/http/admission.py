"""Admission to a service: while its event loop is late, requests are refused early, the least important ones first.

`serving/admission.py` decides. A refusal costs far less than a response but more than in the gateway, since aiohttp has
parsed the request by then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from optimizely_api.services.http.authentication import HEALTH_PATH
from optimizely_api.services.http.errors import error_response
from optimizely_api.services.http.questions import SAFE_METHODS, is_question
from optimizely_api.serving.admission import ALWAYS, BULK, ORDINARY, PEOPLE, Admission
from optimizely_api.serving.lag import LagMeter

RETRY_AFTER_SECONDS = (
    3  # the refusals say 1, 2 and 3 in turn, so that those who return do not all come at once
)
_IS_BULK = "is_bulk"

Handler = Callable[[web.Request], Awaitable[web.Response]]


class ServiceAdmission:
    """The admission to one worker of a service, which starts and stops its meter."""

    def __init__(self, overload_wait_seconds: float) -> None:
        self._admission = Admission(overload_wait_seconds)
        self.meter = LagMeter(self._admission.sample)
        self._under_way = 0
        self._refused = 0

    async def serve(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Answer a request by its handler, or with 503."""
        admission = self._admission
        if admission.is_watching and not self._admits(class_of(request)):
            return self._refuse()
        self._under_way += 1
        try:
            response: web.StreamResponse = await handler(request)
            return response
        finally:
            self._under_way -= 1

    def _admits(self, kind: int) -> bool:
        # Of one account, the gateway: that knows its callers.
        return kind == ALWAYS or self._admission.admits(kind, 0, is_idle=not self._under_way)

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


def is_bulk(handler: Handler) -> Handler:
    """Mark a handler whose requests are refused first: their senders send them again by themselves."""
    setattr(handler, _IS_BULK, True)
    return handler


def class_of(request: web.Request) -> int:
    """The class of a request (`serving/admission.py`): writes and reads of one entity before lists and questions."""
    if request.rel_url.raw_path == HEALTH_PATH:
        return ALWAYS
    found = request.match_info
    if getattr(found.handler, _IS_BULK, False):
        return BULK
    resource = found.route.resource
    reads_one = request.method in SAFE_METHODS and resource is not None and resource.canonical.endswith("}")
    return PEOPLE if reads_one or not is_question(request) else ORDINARY
