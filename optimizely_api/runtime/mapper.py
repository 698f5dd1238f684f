"""The default view mapper: aiopyramid's, which here refuses what it would send to a thread."""

import inspect
import io
from collections.abc import Callable
from typing import Any

from pyramid.config.views import DefaultViewMapper
from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import IRootFactory, IRoutesMapper
from pyramid.static import static_view

from optimizely_api.runtime.aiopyramid_compat import MADE_OF, await_in_greenlet  # before aiopyramid
from optimizely_api.runtime.body_input import BodyInput
from optimizely_api.start_failures import CannotStart

from aiopyramid.config import CoroutineOrExecutorMapper  # isort: skip

# The methods whose content means something (RFC 9110 section 9.3).
METHODS_WITH_CONTENT = frozenset(("POST", "PUT", "PATCH", "QUERY"))

View = Callable[[Any, Any], Any]


class NotACoroutine(CannotStart, ConfigurationError):  # type: ignore[misc]
    """A view that would hold the event loop; the message names it and the way out."""


def load_body(request: Any) -> None:
    """Read the body before a coroutine view, which has no greenlet to wait in, asks for it.

    Where it means nothing, and for the views of errors, there is none.
    """
    environ = request.environ
    if request.method in METHODS_WITH_CONTENT and getattr(request, "exception", None) is None:
        environ["wsgi.input"] = environ["wsgi.input"].load()
    else:
        environ["wsgi.input"] = io.BytesIO()
        environ["CONTENT_LENGTH"] = "0"


def _called(view: Any, attr: str | None) -> Any:
    """What Pyramid calls of a view: of a class, an instance or a module its `attr`, which is `__call__` by default."""
    return view if inspect.isroutine(view) and attr is None else getattr(view, attr or "__call__", None)


def _is_coroutine(called: Any) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(called)) if callable(called) else False


def await_factories(config: Any) -> None:
    """Have the root factories that are coroutine functions awaited: Pyramid takes what they return for the context."""
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
    """Maps coroutine views as aiopyramid does and refuses plain ones while the application is configured.

    aiopyramid runs a plain view in a thread, where it has neither the request's context variables nor its current
    request. Pyramid's own static file views need neither, and stay in a thread. A plain view that never blocks may
    run on the event loop, if it says so with `mapper=pyramid.config.views.DefaultViewMapper`.
    """

    def __call__(self, view: Any) -> View:
        self._original = view
        if not inspect.iscoroutinefunction(view) and _is_coroutine(_called(view, self.attr)):
            # Pyramid makes the instance, or takes the one there is, and calls the method; that returns a coroutine.
            return self.run_in_coroutine_view(DefaultViewMapper.__call__(self, view))
        mapped: View = super().__call__(view)
        return mapped

    def run_in_coroutine_view(self, view: Any) -> View:
        # aiopyramid's own first loads the body, which is in memory here, by a line that ties each request into a cycle.
        if inspect.iscoroutinefunction(self._original):
            view = getattr(view, MADE_OF, view)  # what it returns can be awaited as it is

        def coroutine_view(context: Any, request: Any) -> Any:
            if request.environ.get("wsgi.input").__class__ is BodyInput:
                load_body(request)
            return await_in_greenlet(view, context, request)

        return coroutine_view

    def run_in_executor_view(self, view: Any) -> View:
        if isinstance(self._original, static_view):
            in_thread: View = super().run_in_executor_view(view)
            return in_thread
        called = f"{self._original!r}, attr {self.attr!r}," if self.attr else f"{self._original!r}"
        raise NotACoroutine(
            f"The view {called} is not a coroutine function. Make it an `async def` function or method; or, when it "
            "never blocks, give it mapper=pyramid.config.views.DefaultViewMapper to run it on the event loop."
        )
