"""Pyramid on asyncio: coroutine views under aiopyramid, and the servers that run them.

    config.include("optimizely_api.runtime")
    config.set_runtime_options(RuntimeOptions(header_timeout_seconds=5.0))
    config.add_lifespan(open_upstream_session)

includes aiopyramid with our patches (`aiopyramid_compat`), and makes it reject plain views (`mapper`). Serve the
application by `gunicorn -k optimizely_api.runtime.server.worker.GatewayWorker`, or by any ASGI server through
`AsgiBridge`.
"""

from typing import Any

from pyramid.interfaces import PHASE3_CONFIG

from optimizely_api.runtime import (
    aiopyramid_compat,  # noqa: F401  (before anything that imports aiopyramid)
    relied_on,
)
from optimizely_api.runtime.bridge import (
    BODY_OVER_LIMIT,
    CAME_AT,
    CLASSIFIER_KEY,
    LIFESPAN_KEY,
    OPTIONS_KEY,
    ROUTE_NAMER_KEY,
    AsgiBridge,
    Classifier,
    RouteNamer,
)
from optimizely_api.runtime.lifespan import Factory
from optimizely_api.runtime.mapper import CoroutineViewMapper, await_factories
from optimizely_api.runtime.options import RuntimeOptions

from aiopyramid.helpers import spawn_greenlet, synchronize  # isort: skip

__all__ = [
    "BODY_OVER_LIMIT",
    "CAME_AT",
    "AsgiBridge",
    "RuntimeOptions",
    "add_lifespan",
    "includeme",
    "set_classifier",
    "set_route_namer",
    "set_runtime_options",
    "spawn_greenlet",
    "synchronize",
]


def set_runtime_options(config: Any, options: RuntimeOptions) -> None:
    """Directive: the limits of the bridge, the worker and the watchdog."""
    config.registry[OPTIONS_KEY] = options


def set_route_namer(config: Any, namer: RouteNamer) -> None:
    """Directive: `namer(method, path_info)` names the route of a request that the server rejects by itself."""
    config.registry[ROUTE_NAMER_KEY] = namer


def set_classifier(config: Any, classifier: Classifier) -> None:
    """Directive: `classifier(method, path, authorization)` returns (class, account) of a request, 0 for no account,
    and below 0 for callers who have only their turn in common.

    Our server asks it while the worker is overloaded: classes are those of `serving/line.py`, the first one is
    always served.
    """
    config.registry[CLASSIFIER_KEY] = classifier


def add_lifespan(config: Any, factory: Factory) -> None:
    """Directive: `factory(registry)` returns an async context manager, entered at start-up inside the event loop.

    The contexts are entered in the order of the calls and left in reverse. One that raises stops the start-up.
    """
    config.registry.setdefault(LIFESPAN_KEY, []).append(factory)


def includeme(config: Any) -> None:
    """Include aiopyramid, reject plain views, and add the directives."""
    relied_on.check()
    config.include("aiopyramid")
    config.set_view_mapper(CoroutineViewMapper)
    # After all routes and the root factory, which Pyramid registers up to phase 3.
    config.action(None, await_factories, args=(config,), order=PHASE3_CONFIG + 10)
    config.add_directive("set_runtime_options", set_runtime_options)
    config.add_directive("set_route_namer", set_route_namer)
    config.add_directive("set_classifier", set_classifier)
    config.add_directive("add_lifespan", add_lifespan)
