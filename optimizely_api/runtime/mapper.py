"""The default view mapper: aiopyramid's, but it rejects the views that aiopyramid would run in a thread."""

import inspect
import io
from collections.abc import Callable
from typing import Any

from pyramid.config.views import DefaultViewMapper
from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import IRootFactory, IRoutesMapper
from pyramid.static import static_view

from optimizely_api.runtime.aiopyramid_compat import WRAPPED, await_in_greenlet  # before aiopyramid
from optimizely_api.runtime.body_input import BodyInput
from optimizely_api.start_failures import CannotStart

from aiopyramid.config import CoroutineOrExecutorMapper  # isort: skip

# The methods whose content has a meaning (RFC 9110 section 9.3).
METHODS_WITH_CONTENT = frozenset(("POST", "PUT", "PATCH", "QUERY"))

View = Callable[[Any, Any], Any]


class NotACoroutine(CannotStart, ConfigurationError):  # type: ignore[misc]
    """A view that would block the event loop; the message names the view and the remedy."""


def load_body(request: Any) -> None:
    """Read the body before a coroutine view runs, which has no greenlet to wait in when it reads the body.

    For methods without content, and for exception views, the body is empty.
    """
    environ = request.environ
    if request.method in METHODS_WITH_CONTENT and getattr(request, "exception", None) is None:
        environ["wsgi.input"] = environ["wsgi.input"].load()
    else:
        environ["wsgi.input"] = io.BytesIO()
        environ["CONTENT_LENGTH"] = "0"


def _callable_of(view: Any, attr: str | None) -> Any:
    """Return what Pyramid calls for a view: the view itself, or its attribute `attr`, by default `__call__`."""
    return view if inspect.isroutine(view) and attr is None else getattr(view, attr or "__call__", None)


def _is_coroutine(func: Any) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(func)) if callable(func) else False


def await_factories(config: Any) -> None:
    """Await the root factories that are coroutine functions: Pyramid would use their coroutine as the context."""
    registry = config.registry
    root = registry.queryUtility(IRootFactory)
    if _is_coroutine_factory(root):
        registry.registerUtility(_awaited(root), IRootFactory)
    mapper = registry.queryUtility(IRoutesMapper)
    for route in mapper.get_routes(include_static=True) if mapper is not None else ():
        if _is_coroutine_factory(route.factory):
            route.factory = _awaited(route.factory)


def _is_coroutine_factory(factory: Any) -> bool:
    return _is_coroutine(factory) or (
        not inspect.isclass(factory) and _is_coroutine(getattr(factory, "__call__", None))  # noqa: B004
    )


def _awaited(factory: Any) -> Callable[[Any], Any]:
    def awaited_factory(request: Any) -> Any:
        return await_in_greenlet(factory, request)

    return awaited_factory


class CoroutineViewMapper(CoroutineOrExecutorMapper):  # type: ignore[misc]
    """Maps coroutine views as aiopyramid does, and rejects plain views when the application is configured.

    aiopyramid runs a plain view in a thread, where the request's context variables and the current request are missing.
    Pyramid's static file views need neither, and still run in a thread. A plain view that never blocks can run on the
    event loop: configure it with `mapper=pyramid.config.views.DefaultViewMapper`.
    """

    def __call__(self, view: Any) -> View:
        self._original = view
        if not inspect.iscoroutinefunction(view) and _is_coroutine(_callable_of(view, self.attr)):
            # Pyramid's mapper creates the instance if necessary and calls the method, which returns a coroutine.
            return self.run_in_coroutine_view(DefaultViewMapper.__call__(self, view))
        mapped: View = super().__call__(view)
        return mapped

    def run_in_coroutine_view(self, view: Any) -> View:
        # Overridden: aiopyramid first reads the body through a closure that makes every request a reference cycle.
        if inspect.iscoroutinefunction(self._original):
            # Without aiopyramid's wrapper: its coroutine can be awaited directly.
            view = getattr(view, WRAPPED, view)

        def coroutine_view(context: Any, request: Any) -> Any:
            if request.environ.get("wsgi.input").__class__ is BodyInput:
                load_body(request)
            return await_in_greenlet(view, context, request)

        return coroutine_view

    def run_in_executor_view(self, view: Any) -> View:
        if isinstance(self._original, static_view):
            in_thread: View = super().run_in_executor_view(view)
            return in_thread
        name = f"{self._original!r}, attr {self.attr!r}," if self.attr else f"{self._original!r}"
        raise NotACoroutine(
            f"The view {name} is not a coroutine function. Make it an `async def` function or method; or, when it "
            "never blocks, give it mapper=pyramid.config.views.DefaultViewMapper to run it on the event loop."
        )
