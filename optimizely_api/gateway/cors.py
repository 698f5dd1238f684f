"""Cross-origin requests: any page may call the API, for a token travels in a header that a page must set itself.

Every response carries `CROSS_ORIGIN`, those that the server makes without the application included. No response
depends on the Origin, so none varies by it.
"""

from collections.abc import Callable

from pyramid.config import Configurator
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.gateway import add_tween
from optimizely_api.runtime.refusals import CROSS_ORIGIN

PREFLIGHT = (
    # All methods of the public contract, also where an address lacks them: a page can read a 405, but not a refused
    # preflight.
    ("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    # `*` would not cover Authorization (Fetch standard, "CORS-preflight fetch").
    (
        "Access-Control-Allow-Headers",
        "Authorization, Content-Encoding, Content-Type, If-Match, If-None-Match, Idempotency-Key, Prefer, X-Request-Id,"
        " X-Request-Timeout-Ms",
    ),
    ("Access-Control-Max-Age", "7200"),  # seconds; browsers keep a preflight no longer than that
)
_ASKED_METHOD = "HTTP_ACCESS_CONTROL_REQUEST_METHOD"

Handler = Callable[[Request], Response]


def cors_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Add the cross-origin headers to every response, and answer every preflight with 204."""

    def cors_tween(request: Request) -> Response:
        response = handler(request)
        if request.environ["REQUEST_METHOD"] == "OPTIONS" and _ASKED_METHOD in request.environ:
            if response.status_int in (404, 405):
                # The page learns of it from the response to its request itself.
                response = Response(status=204, headerlist=[])
            response.headerlist.extend(PREFLIGHT)
        response.headerlist.extend(CROSS_ORIGIN)
        return response

    return cors_tween


def includeme(config: Configurator) -> None:
    add_tween(config, f"{__name__}.cors_tween_factory")
