"""Await in another context (PEP 567), so that timers and transports do not keep the request that created them."""

import contextvars
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def in_context(context: contextvars.Context, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await `work`, running each of its steps in `context`: the transports and timers it creates keep that context.

    A separate task with that context would do the same, but we would have to cancel and clean it up by hand.
    """
    step = partial(work.send, None)
    while True:
        try:
            awaited = context.run(step)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            yield awaited
        except BaseException as exc:
            step = partial(work.throw, exc)
        else:
            step = partial(work.send, None)
