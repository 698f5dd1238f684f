"""Time that passes only when a test says so, with chance from a seed."""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Coroutine
from typing import Any


class VirtualFuture:
    """A future that wakes whoever waits at once."""

    def __init__(self) -> None:
        self._is_done, self._result, self._error = False, None, None
        self._callbacks: list[Callable[[Any], object]] = []

    def done(self) -> bool:
        return self._is_done

    def set_result(self, result: Any) -> None:
        self._result = result
        self._end()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._end()

    def cancel(self) -> None:
        if not self._is_done:
            self.set_exception(asyncio.CancelledError())

    def cancelled(self) -> bool:
        return isinstance(self._error, asyncio.CancelledError)

    def exception(self) -> BaseException | None:
        return self._error

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        if self._is_done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def result(self) -> Any:
        assert self._is_done
        if self._error is not None:
            raise self._error
        return self._result

    def __await__(self):
        if not self._is_done:
            yield self
        return self.result()

    def _end(self) -> None:
        self._is_done = True
        for callback in self._callbacks:
            callback(self)


class VirtualTime:
    """A `Timing` of a clock that a test moves."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.seconds = 1000.0
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self.seconds

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        heapq.heappush(self._timers, (self.seconds + seconds, next(self._numbers), callback))

    def create_future(self) -> Any:
        return VirtualFuture()

    def go_on(self, seconds: float) -> None:
        """Let time pass, and run the timers that are due meanwhile, each at its time."""
        ends = self.seconds + seconds
        while self._timers and self._timers[0][0] <= ends:
            due, _, callback = heapq.heappop(self._timers)
            self.seconds = max(self.seconds, due)  # it is later where a test let the event loop stand still
            callback()
        self.seconds = max(self.seconds, ends)


def start(work: Coroutine[Any, Any, Any]) -> VirtualFuture:
    """Run a coroutine that waits for virtual futures only, without an event loop; returns the future of its end."""
    ended = VirtualFuture()

    def go_on(_ended: object = None) -> None:
        try:
            awaited = work.send(None)
        except StopIteration as end:
            ended.set_result(end.value)
        except Exception as exc:
            ended.set_exception(exc)
        else:
            awaited.add_done_callback(go_on)

    go_on()
    return ended
