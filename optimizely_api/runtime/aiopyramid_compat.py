"""aiopyramid 0.4.1 on current Python: our patches, and the reason for each.

Importing this module imports aiopyramid, and no other module may import aiopyramid before it. aiopyramid's `includeme`,
view mapper, `synchronize` and `spawn_greenlet` still run the views. The patches:

1. Python 3.11 removed `asyncio.coroutine`, and 3.14 deprecates `asyncio.iscoroutinefunction`. aiopyramid needs both,
   at import and for every view that it maps. Its modules get an `asyncio` of their own with replacements. The real
   module has the name only during aiopyramid's import, so no other code sees it.
2. A new greenlet starts with an empty context, so tweens and views did not see the context variables of the server.
   `spawn_greenlet` gives the greenlet the context of the task that awaits it.
3. A cancelled request kept the event loop busy for ever: `run_in_greenlet` caught only Exception, so the request's
   greenlet kept waiting for a task that had ended. Here the task that awaits `spawn_greenlet` awaits the view's
   coroutine itself, and raises every exception of it, CancelledError included, in the greenlet too. This also saves a
   task and a context switch for every coroutine view.
4. `spawn_greenlet` was a generator-based coroutine, which `create_task` rejects from 3.12 on; ours is an `async def`.
5. Pyramid keeps the current request on a thread-local stack, which all greenlets of a thread share, so
   `get_current_request()` could return another client's request. The stack is now in a context variable.
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

WRAPPED = "_optimizely_api_wrapped"  # attribute of what `coroutine` returns: the function that it wraps
_MARKER = object()


@types.coroutine
def _drive(generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    return (yield from generator)


def coroutine(func: Callable[..., Any]) -> Callable[..., Any]:
    """Replaces `asyncio.coroutine`: the result of a call can be awaited, whatever `func` returns."""
    if inspect.iscoroutinefunction(func):
        return func
    if inspect.isgeneratorfunction(func):
        marked: Any = types.coroutine(func)
        marked._is_coroutine = _MARKER
        return marked  # type: ignore[no-any-return]

    @functools.wraps(func)
    async def awaitable(*args: Any, **kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        if result.__class__ is types.CoroutineType or inspect.isawaitable(result):
            return await result
        return await _drive(result) if inspect.isgenerator(result) else result

    setattr(awaitable, WRAPPED, func)
    return awaitable


def iscoroutinefunction(func: object) -> bool:
    """Replaces `asyncio.iscoroutinefunction`; also True for the functions that `coroutine` marked."""
    if inspect.iscoroutinefunction(func):
        return True
    mark = getattr(func, "_is_coroutine", None)
    return mark is not None and mark in (_MARKER, getattr(asyncio.coroutines, "_is_coroutine", _MARKER))


class _OldAsyncio(types.ModuleType):
    """asyncio as aiopyramid's modules expect it."""

    coroutine = staticmethod(coroutine)
    iscoroutinefunction = staticmethod(iscoroutinefunction)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


class AwaitedCall:
    """A call that a request's greenlet hands to its task, which awaits it on the greenlet's behalf.

    asyncio treats an object of any class with `_asyncio_future_blocking` as a future, so `asyncio.ensure_future` in
    aiopyramid's `synchronize` returns it unchanged and creates no task.
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
    """Run `func` in a greenlet that shares the caller's context, and await the calls that it hands over.

    Returns the result of `func`. An exception of an awaited call, CancelledError included, is raised in the greenlet,
    where it waits for the call: so the greenlet has always finished before this coroutine ends.
    """
    # In this task's own context, not in a copy: tween and view see each other's context variables.
    worker, result = greenlets.start((func, args, kwargs))
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

    The stack is an immutable tuple: a task started by a view inherits the stack of that moment, and its own pushes do
    not show anywhere else.
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


def _patch_pyramid() -> None:
    # Pyramid's modules have imported the one manager by name, and keep that object: it cannot be replaced, so its class
    # is changed in place.
    if isinstance(manager, ContextLocalManager):
        return
    _stack.set(tuple(manager.stack))
    manager.stack = []
    manager.__class__ = ContextLocalManager


def _patch_aiopyramid() -> None:
    is_missing = not hasattr(asyncio, "coroutine")
    if is_missing:
        asyncio.coroutine = coroutine  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings():
            # aiopyramid has a `return` inside `finally`, a SyntaxWarning from 3.14 on.
            warnings.simplefilter("ignore", SyntaxWarning)
            import aiopyramid.config
            import aiopyramid.helpers
    finally:
        if is_missing:
            del asyncio.coroutine  # type: ignore[attr-defined]
    old_asyncio = _OldAsyncio("asyncio")
    aiopyramid.config.asyncio = old_asyncio
    aiopyramid.helpers.asyncio = old_asyncio
    aiopyramid.helpers.run_in_greenlet = run_in_greenlet
    aiopyramid.helpers.spawn_greenlet = spawn_greenlet


_patch_pyramid()
_patch_aiopyramid()
