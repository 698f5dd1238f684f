"""413 for a request whose body is over the limit.

The asyncio worker does not take such a body, whatever its length was said to be, and leaves a note. Blocking workers
leave bodies unread, and the declared length is judged here.
"""

from collections.abc import Callable

from pyramid.config import Configurator
from pyramid.interfaces import IRoutesMapper
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.gateway import add_tween
from optimizely_api.gateway.contract.routes import EVENTS_ROUTE, is_only_refused
from optimizely_api.gateway.errors import RequestTooLarge
from optimizely_api.runtime import BODY_OVER_LIMIT

Handler = Callable[[Request], Response]


def body_limit_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Answer in the one error shape for what the server found while it read the body, or for what was declared."""
    largest_body = registry["settings"].max_request_body_bytes
    largest = {EVENTS_ROUTE: registry["settings"].max_event_batch_bytes}
    smallest = min(largest_body, *largest.values())
    routes = registry.getUtility(IRoutesMapper)

    def body_limit_tween(request: Request) -> Response:
        # Nearly all requests have no body, and their route need not be looked up.
        length = request.content_length or 0
        if BODY_OVER_LIMIT in request.environ or length > smallest:
            route = routes(request)["route"]
            # A wrong address or method comes first: no body would be right there.
            if not is_only_refused(route):
                limit_bytes = largest.get(route.name, largest_body)
                if BODY_OVER_LIMIT in request.environ or length > limit_bytes:
                    raise RequestTooLarge(limit_bytes)
        return handler(request)

    return body_limit_tween


def includeme(config: Configurator) -> None:
    add_tween(config, f"{__name__}.body_limit_tween_factory")
