"""Views that never wait, for both kinds of application.

aiopyramid runs a coroutine view on the event loop and sends every other view to a thread, away from the request's
context. The blocking application wants plain functions. A view that waits for nothing can be either.
"""

from collections.abc import Callable
from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request

View = Callable[[Any, Request], Any]

BLOCKING = "optimizely_api.blocking"  # set on the registry of an application with plain views


def as_view(config: Configurator, view: View) -> View:
    """Return `view(context, request)` as the kind of view that this application runs."""
    if config.registry.get(BLOCKING):
        return view

    async def coroutine_view(context: Any, request: Request) -> Any:
        return view(context, request)

    coroutine_view.__name__ = coroutine_view.__qualname__ = view.__name__
    coroutine_view.__doc__ = view.__doc__
    return coroutine_view
