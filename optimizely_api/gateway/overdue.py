"""504 for a request whose deadline passed while it waited to begin (`serving/admission.py`): nobody waits for more."""

import time
from collections.abc import Callable

from pyramid.config import Configurator
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.gateway import BLOCKING, add_tween
from optimizely_api.gateway.errors import Overdue
from optimizely_api.runtime import CAME_AT

Handler = Callable[[Request], Response]


def overdue_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Begin no work whose result would come too late."""

    def overdue_tween(request: Request) -> Response:
        if CAME_AT in request.environ and time.monotonic() >= request.call_context.deadline:
            raise Overdue
        return handler(request)

    return overdue_tween


def includeme(config: Configurator) -> None:
    if not config.registry.get(BLOCKING):  # blocking workers have no line
        add_tween(config, f"{__name__}.overdue_tween_factory")
