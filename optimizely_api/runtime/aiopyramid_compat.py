"""aiopyramid 0.4.1 on the Python of today: what is mended, and why.

Importing this module imports aiopyramid. It is the one place that does so first; every other module takes
aiopyramid's names from here or imports aiopyramid after it. aiopyramid's `includeme`, view mapper, `synchronize`
and `spawn_greenlet` stay what runs the views. Mended are:

1. `asyncio.coroutine` left Python in 3.11, and `asyncio.iscoroutinefunction` is deprecated from 3.14 on.
   aiopyramid needs both, at import and for every view it maps. It gets an `asyncio` of its own with equals of the
   two; the real module carries the name only while aiopyramid is being imported, so that nothing else sees it.
2. A new greenlet starts with an empty context: context variables which the server set were unset in tweens and
   views. `spawn_greenlet` gives the greenlet the context of the task that awaits it.
3. Cancelling a request span the event loop for ever: `run_in_greenlet` caught only Exception, so the request's
   greenlet asked again and again for a task that was long done. Here the task that awaits `spawn_greenlet` awaits
   the view's coroutine itself, and whatever is raised there, CancelledError included, is raised in the greenlet
   too. That also spares a task and a switch of context for every coroutine view.
4. `spawn_greenlet` was a generator-based coroutine, which `create_task` refuses from 3.12 on; it is an `async def`.
5. Pyramid keeps the current request on a thread-local stack, which all greenlets of a thread share, so
   `get_current_request()` gave another caller's request. The stack now lives in a context variable.
"""

import asyncio
import contextvars
import functools
import inspect
import types
import warnings
from collections.abc import Awaitable, Callable, Generator
from typing import Any, ClassVar

import greenlet
from pyramid.threadlocal import ThreadLocalManager, manager

from optimizely_api.runtime import greenlets

MADE_OF = "_optimizely_api_made_of"  # where what `coroutine` returns keeps the function it was made of
_MARKER = object()


@types.coroutine
def _drive(generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    return (yield from generator)


def coroutine(func: Callable[..., Any]) -> Callable[..., Any]:
    """An equal of `asyncio.coroutine`: what it returns can be awaited, whatever `func` returns."""
    if inspect.iscoroutinefunction(func):
        return func
    if inspect.isgeneratorfunction(func):
        made: Any = types.coroutine(func)
        made._is_coroutine = _MARKER
        return made  # type: ignore[no-any-return]

    @functools.wraps(func)
    async def awaitable(*args: Any, **kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        if result.__class__ is types.CoroutineType or inspect.isawaitable(result):
            return await result
        return await _drive(result) if inspect.isgenerator(result) else result

    setattr(awaitable, MADE_OF, func)
    return awaitable


def iscoroutinefunction(func: object) -> bool:
    """An equal of `asyncio.iscoroutinefunction` that also knows what `coroutine` made."""
    if inspect.iscoroutinefunction(func):
        return True
    mark = getattr(func, "_is_coroutine", None)
    return mark is not None and mark in (_MARKER, getattr(asyncio.coroutines, "_is_coroutine", _MARKER))


class _AsyncioOfThePast(types.ModuleType):
    """asyncio as aiopyramid's modules see it."""

    coroutine = staticmethod(coroutine)
    iscoroutinefunction = staticmethod(iscoroutinefunction)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


class AwaitedCall:
    """What a request's greenlet hands to the task that runs it: a call to await on its behalf.

    asyncio takes any object of a class with `_asyncio_future_blocking` for a future, so `asyncio.ensure_future`
    in aiopyramid's `synchronize` passes it on as it is and makes no task of it.
    """

    __slots__ = ("args", "func", "future", "kwargs")
    _asyncio_future_blocking: ClassVar[bool] = False

    def __init__(
        self,
        func: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: Any = None,
    ) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.future = future


def run_in_greenlet(
    back: greenlet.greenlet,
    future: "asyncio.Future[Any]",
    func: Callable[..., Awaitable[Any]],
    *args: Any,
    **kwargs: Any,
) -> AwaitedCall:
    """Describe the call of a coroutine function for `spawn_greenlet`, which sets `future` and switches `back`."""
    return AwaitedCall(func, args, kwargs, future)


async def spawn_greenlet(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run `func` in a greenlet that shares the caller's context, and await whatever it asks for.

    Returns what `func` returns. An exception of an awaited call is raised in the greenlet, at the place that waits
    for it; CancelledError is no exception to that, so the greenlet is unwound before this coroutine ends.
    """
    # In the very context of this task, not a copy: what a tween sets, the view sees, and the other way round.
    worker, result = greenlets.begin((func, args, kwargs))
    while result.__class__ is AwaitedCall:
        try:
            value = await result.func(*result.args, **result.kwargs)
        except BaseException as exc:
            result = worker.throw(type(exc), exc, exc.__traceback__)
        else:
            if result.future is not None:
                result.future.set_result(value)
            result = worker.switch(value)
    greenlets.put_back(worker)
    value = result.outcome()
    return await value if isinstance(value, asyncio.Future) else value


def await_in_greenlet(func: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Wait for `func(*args)` from inside a request's greenlet, without blocking the event loop."""
    parent = greenlet.getcurrent().parent
    if parent is None:
        raise RuntimeError(
            f"{func!r} is awaited outside of a request's greenlet: in an `async def` function write `await` before the "
            "coroutine; elsewhere run the code with `await spawn_greenlet(function)`"
        )
    return parent.switch(AwaitedCall(func, args, {}))


_stack: contextvars.ContextVar[tuple[Any, ...]] = contextvars.ContextVar(
    "pyramid.threadlocal.manager", default=()
)


class ContextLocalManager(ThreadLocalManager):  # type: ignore[misc]
    """Pyramid's stack of current requests, one for every context instead of one for every thread.

    The stack is a tuple that is never changed in place: a task started by a view inherits the stack of that moment,
    and what it pushes stays its own.
    """

    def __init__(self, default: Callable[[], Any]) -> None:
        self.default = default

    @property
    def stack(self) -> list[Any]:
        return list(_stack.get())

    def push(self, info: Any) -> None:
        _stack.set((*_stack.get(), info))

    set = push

    def pop(self) -> Any:
        stack = _stack.get()
        if not stack:
            return None
        _stack.set(stack[:-1])
        return stack[-1]

    def get(self) -> Any:
        stack = _stack.get()
        return stack[-1] if stack else self.default()

    def clear(self) -> None:
        _stack.set(())


def _mend_pyramid() -> None:
    # Pyramid's modules hold the one manager by name, so it is changed in place.
    if isinstance(manager, ContextLocalManager):
        return
    _stack.set(tuple(manager.stack))
    manager.stack = []
    manager.__class__ = ContextLocalManager


def _mend_aiopyramid() -> None:
    lacking = not hasattr(asyncio, "coroutine")
    if lacking:
        asyncio.coroutine = coroutine  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings():
            # `return` inside `finally` is a SyntaxWarning from 3.14 on.
            warnings.simplefilter("ignore", SyntaxWarning)
            import aiopyramid.config
            import aiopyramid.helpers
    finally:
        if lacking:
            del asyncio.coroutine  # type: ignore[attr-defined]
    past = _AsyncioOfThePast("asyncio")
    aiopyramid.config.asyncio = past
    aiopyramid.helpers.asyncio = past
    aiopyramid.helpers.run_in_greenlet = run_in_greenlet
    aiopyramid.helpers.spawn_greenlet = spawn_greenlet


_mend_pyramid()
_mend_aiopyramid()
