"""Where the policies get time and chance from: the event loop's in a worker, virtual ones in tests."""

import asyncio
import contextvars
import random
import time
from collections.abc import Callable
from typing import Any, Protocol


class Timing(Protocol):
    """Seconds of a monotonic clock, timers, futures to wait for, and a source of everything random."""

    chance: random.Random

    def now(self) -> float: ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> object: ...

    def create_future(self) -> "asyncio.Future[Any]": ...


class LoopTiming:
    """The timing of the running event loop.

    Not the loop's own clock: uvloop's counts whole milliseconds, and calls may take less than one.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # A timer keeps the context that it was created in, and so might keep a request alive.
        self._context = contextvars.Context()
        self.chance = random.Random()  # noqa: S311 - spreads calls in time, keeps no secret
        self.now = time.monotonic
        self.create_future = self._loop.create_future

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, callback, context=self._context)


def sleep(timing: Timing, seconds: float) -> "asyncio.Future[None]":
    """Return a future that is done after so many seconds."""
    future = timing.create_future()

    def end() -> None:
        if not future.done():
            future.set_result(None)

    timing.call_later(seconds, end)
    return future
