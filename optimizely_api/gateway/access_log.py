"""The request id, and one line per request in the log `optimizely_api.access`, with these fields (`serving/log.py`):

    {..., "method": "GET", "route": "get_experiment_results", "path": "/v2/experiments/1/results",
     "status": 200, "duration_ms": 43.1, "request_id": "...", "client": "...",
     "upstreams_ms": {"experiments": [20.4, 20.9], ...}}

`route` is the operation, or null for an address that no route has. `uuid` is there when the caller's X-Request-Id is
no UUID, and an error therefore has another; `upstream_events` where a policy of calls did something
(`upstream/resilience/order.py`). Status 499 stands for a caller that went away before the answer.
"""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from pyramid.config import Configurator
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.gateway import add_tween
from optimizely_api.gateway.contract.compiled import known_route
from optimizely_api.gateway.contract.routes import operation_of
from optimizely_api.gateway.finishing import READING
from optimizely_api.http.deadlines import WISHED_TIMEOUT, seconds_of
from optimizely_api.http.request_ids import kept_or_new
from optimizely_api.runtime.bridge import CAME_AT, LOGGED
from optimizely_api.serving.log import GATEWAY_ACCESS, log_request
from optimizely_api.upstream.client import CallContext

log = logging.getLogger(GATEWAY_ACCESS)

CALLER_WENT_AWAY = 499
REQUEST_ID_HEADER = "X-Request-Id"
REQUEST_ID_KEY = "HTTP_X_REQUEST_ID"  # the same in a WSGI environ
WISHED_TIMEOUT_KEY = f"HTTP_{WISHED_TIMEOUT.upper().replace('-', '_')}"

Handler = Callable[[Request], Response]


def access_log_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Outermost: gives the request its id and call context, and logs how it ended, however it ended.

    The deadline is the caller's wish where that is earlier than the setting. A wish that cannot be read is ignored, as
    `Prefer` is (RFC 7240 section 2).
    """
    deadline_seconds = registry["settings"].request_deadline_seconds

    def access_log_tween(request: Request) -> Response:
        # A caller's time runs while its request waits to begin.
        started = request.environ.get(CAME_AT) or time.monotonic()
        request.request_id, request.uuid = kept_or_new(request.environ.get(REQUEST_ID_KEY))
        wish = seconds_of(request.environ.get(WISHED_TIMEOUT_KEY))
        wished_deadline = math.inf if wish is None else started + wish
        deadline = min(started + deadline_seconds, wished_deadline)
        is_read = request.environ["REQUEST_METHOD"] in READING
        request.call_context = CallContext(request.request_id, deadline, wished_deadline, takes_stale=is_read)
        status = CALLER_WENT_AWAY
        try:
            response = handler(request)
            response.headerlist.append((REQUEST_ID_HEADER, request.request_id))
            status = response.status_int
            return response
        except Exception:
            status = 500
            request.environ[LOGGED] = status, request.uuid  # the server, which answers, writes no second line
            raise
        finally:
            if "exception" in request.__dict__:
                # Its traceback leads back to the request, which only the garbage collector could free then.
                request.exception = request.exc_info = None
            if log.isEnabledFor(logging.INFO):
                log_request(log, _fields(request, status, time.monotonic() - started))

    return access_log_tween


def _fields(request: Request, status: int, seconds: float) -> dict[str, Any]:
    fields = {
        "method": request.environ["REQUEST_METHOD"],
        "route": operation_of(known_route(request)),
        "path": _path(request),
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
        "request_id": request.request_id,
        "client": request.environ.get("REMOTE_ADDR"),
        "upstreams_ms": request.call_context.durations_ms,
    }
    if request.call_context.events:
        fields["upstream_events"] = request.call_context.events
    if request.uuid != request.request_id:
        fields["uuid"] = request.uuid
    return fields


def _path(request: Request) -> str:
    """The path as text, whatever bytes it held (PEP 3333 hands them over as latin-1)."""
    raw: str = request.environ["PATH_INFO"]
    return raw.encode("latin-1").decode("utf-8", "replace")


def includeme(config: Configurator) -> None:
    add_tween(config, f"{__name__}.access_log_tween_factory")
