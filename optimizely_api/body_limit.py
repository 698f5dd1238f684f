"""413 for a request whose body the server did not take because it is over the limit."""

from collections.abc import Callable

from pyramid.config import Configurator
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response
from pyramid.tweens import EXCVIEW, MAIN

from .errors import RequestTooLarge
from .runtime import BODY_OVER_LIMIT

Handler = Callable[[Request], Response]


def body_limit_tween_factory(handler: Handler, registry: Registry) -> Handler:
    """Answer in the one error shape for what `runtime/` found while it read the body."""

    def body_limit_tween(request: Request) -> Response:
        if (limit_bytes := request.environ.get(BODY_OVER_LIMIT)) is not None:
            raise RequestTooLarge(limit_bytes)
        return handler(request)

    return body_limit_tween


def includeme(config: Configurator) -> None:
    config.add_tween(
        "optimizely_api.body_limit.body_limit_tween_factory",
        under=(EXCVIEW, "optimizely_api.security.identity_tween_factory"),
        over=("pyramid_swagger.tween.validation_tween_factory", MAIN),
    )
