"""Awaiting in another context (PEP 567): what lives longer than a request must not hold what the request holds."""

import contextvars
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def in_context(context: contextvars.Context, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await `work`, each step of it in `context`: a transport or a timer made there keeps that one.

    A task of its own would do the same, and would have to be cancelled and cleared up by hand.
    """
    step = partial(work.send, None)
    while True:
        try:
            waited_for = context.run(step)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            yield waited_for
        except BaseException as exc:
            step = partial(work.throw, exc)
        else:
            step = partial(work.send, None)
