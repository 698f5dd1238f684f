"""Single-flight calls: identical safe calls that are under way at the same time share one request to the service.

Fast path: a pending call is a coroutine without a task. The connection hands it the response directly
(`connection.Receiver`), it goes on at once, and wakes the requests that wait for it, which are tasks already. This
saves one task for each call. To measure:
`python -m tests.benchmark_stages --saving off --against . --against-saving shared`. On one machine, composites for
the same experiment took 0.82 of the CPU time with shared calls, their upstream calls 162 us in place of 277.
"""

import asyncio
import contextlib
import contextvars
import copy
import math
import time
from collections.abc import Callable, Coroutine, Generator
from operator import itemgetter
from typing import Any, cast

from optimizely_api.upstream.errors import UpstreamError
from optimizely_api.upstream.transport.connection import ServiceConnection, ServiceResponse
from optimizely_api.upstream.transport.connector import Destination, ServiceConnector

CLOCK_SECONDS = 0.001  # uvloop's clock counts milliseconds, so a timer may fire slightly too early


class ResponseOnConnection:
    """A response that a connection will bring: it can be awaited, and wakes whoever waits at once.

    A future would wake a task in the next turn of the event loop. The end of the wait gives the connection back, or
    discards it if the response did not come.
    """

    __slots__ = ("_callback", "_connection", "_connector", "_destination", "_error", "_is_done", "_response")

    def __init__(
        self, connector: ServiceConnector, destination: Destination, connection: ServiceConnection
    ) -> None:
        self._connector, self._destination, self._connection = connector, destination, connection
        self._is_done = False
        self._response: ServiceResponse | None = None
        self._error: BaseException | None = None
        self._callback: Callable[[ResponseOnConnection], None] | None = None

    def __await__(self) -> "Generator[ResponseOnConnection, None, ServiceResponse]":
        try:
            if not self._is_done:
                yield self
            if self._error is not None:
                raise self._error
        except BaseException:
            self._connector.discard(self._destination, self._connection)
            raise
        self._connector.give_back(self._destination, self._connection)
        return cast(ServiceResponse, self._response)

    def add_done_callback(self, callback: "Callable[[ResponseOnConnection], None]") -> None:
        self._callback = callback

    # The connection calls these three, as it would call a future's.

    def done(self) -> bool:
        return self._is_done

    def set_result(self, response: ServiceResponse, /) -> None:
        self._response = response
        self._end()

    def set_exception(self, error: BaseException, /) -> None:
        self._error = error
        self._end()

    def _end(self) -> None:
        self._is_done = True
        if self._callback is not None:
            self._callback(self)


Awaited = ResponseOnConnection | asyncio.Future[Any]


class PendingCall:
    """One safe call under way, and its waiters.

    Each waiter applies its own deadline. The call itself has no limit: it ends with its response, or when its last
    waiter has left. All waiters get the same value object, which nobody may change. Each gets its own copy of an
    error, because raising writes a traceback into it.
    """

    __slots__ = ("_done", "_loop", "_value", "_waiters", "_work", "ended_at", "error")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[Waiter, None] = {}  # in the order in which they came, and are woken
        self._work: Coroutine[Any, None, Any] | None = None
        self._done = False
        self._value: Any = None
        self.error: BaseException | None = None
        self.ended_at: float | None = None  # by the monotonic clock

    async def work(self) -> Any:
        """Make the call: return the value of its response, or raise what its waiters shall raise.

        Runs without a task of its own, so it may wait for futures, and nothing in it may ask for the current task.
        """
        raise NotImplementedError

    def stop_sharing(self) -> None:
        """Let no further waiter join; called once."""
        raise NotImplementedError

    def lost_waiter(self) -> None:
        """A waiter has left, and others wait on."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin the call, unless it has begun: all that can be done at once is done at once. Does not wait."""
        if self._work is None:
            self._work = self.work()
            self._go_on()

    def add(self, waiter: "Waiter") -> None:
        self._waiters[waiter] = None

    def remove(self, waiter: "Waiter") -> None:
        self._waiters.pop(waiter, None)
        if self._done:
            return
        if self._waiters:
            self.lost_waiter()
        else:
            self._abandon()

    @property
    def failure(self) -> BaseException | None:
        """A copy of the error that the call ended with, if it failed."""
        return None if self.error is None else _copy_of(self.error)

    @property
    def value(self) -> Any:
        """The value of the call's response; None while there is none."""
        return self._value

    def seconds_left(self) -> float:
        """The time until the last of the waiters gives up."""
        waiters = self._waiters
        limit = next(iter(waiters)).limit(self)
        if len(waiters) > 1:
            limit = max(waiter.limit(self) for waiter in waiters)
        return limit - self._loop.time()

    def _go_on(self, ended: "Awaited | None" = None) -> None:
        """Run the work until it waits again, or ends; called when what it waited for has ended."""
        if self._done:
            if isinstance(ended, asyncio.Future) and not ended.cancelled():
                ended.exception()  # nobody else will look at it
            return
        assert self._work is not None  # noqa: S101
        self._run(self._work.send, None)

    def _throw(self, error: BaseException) -> None:
        """Let what the work waits for raise `error`."""
        assert self._work is not None  # noqa: S101
        self._run(self._work.throw, error)

    def _run(self, step: Callable[[Any], Any], argument: BaseException | None) -> None:
        try:
            awaited: Awaited = step(argument)
        except StopIteration as end:
            self._value = end.value
        except (Exception, asyncio.CancelledError) as exc:
            self.error = exc
        else:
            awaited.add_done_callback(self._go_on)
            return
        self._done = True
        self.stop_sharing()
        self._wake_waiters()

    def _abandon(self) -> None:
        self._done = True
        self.stop_sharing()
        if self._work is not None:
            with contextlib.suppress(asyncio.CancelledError):
                self._work.throw(asyncio.CancelledError())

    def _wake_waiters(self) -> None:
        self.ended_at = time.monotonic()
        for waiter in self._waiters:
            waiter.call_ended(self)


class Waiter:
    """A request that waits for pending calls, until all have ended, or one has failed or is late.

    The future `ended` is done then; `late` is the call whose limit passed before its end, if there is one. The outage
    of an optional call ends no wait; those that were late are `given_up`.
    """

    __slots__ = (
        "_context",
        "_has_failed",
        "_limits",
        "_loop",
        "_next",
        "_optional",
        "_timer",
        "_unfinished",
        "ended",
        "given_up",
        "late",
    )

    def __init__(self, context: contextvars.Context) -> None:
        """`context` is the timer's: a cancelled timer may outlive the request, and must not keep its context."""
        self._context = context
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.late: PendingCall | None = None
        self.given_up: set[PendingCall] = set()
        self._optional: set[PendingCall] = set()
        self._limits: dict[PendingCall, float] = {}  # by the loop's clock
        self._unfinished = 0
        self._has_failed = False
        self._next = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, call: PendingCall) -> float:
        """When the wait for this call ends, by the loop's clock."""
        return self._limits[call]

    def join(self, call: PendingCall, limit_seconds: float, *, is_optional: bool = False) -> None:
        """Wait for this call too, for at most `limit_seconds`; one that is joined twice is optional if both are."""
        if call in self._limits:
            if not is_optional:
                self._optional.discard(call)
            return
        if is_optional:
            self._optional.add(call)
        self._limits[call] = limit = self._loop.time() + limit_seconds
        self._unfinished += 1
        if limit < self._next:
            self._set_timer(limit)
        call.add(self)

    def call_ended(self, call: PendingCall) -> None:
        """Called by each joined call when it ends."""
        if call in self.given_up:
            return
        self._unfinished -= 1
        if call.error is not None:
            self._has_failed = True
        if (not self._unfinished or self._is_failure(call)) and not self.ended.done():
            self.ended.set_result(None)

    def _is_failure(self, call: PendingCall) -> bool:
        error = call.error
        return error is not None and not (
            call in self._optional and isinstance(error, UpstreamError) and error.is_outage
        )

    @property
    def has_ended_well(self) -> bool:
        """Whether every call has ended with a value."""
        return not (self._unfinished or self._has_failed or self.given_up)

    def was_late(self, call: PendingCall) -> bool:
        """Whether a call was not waited for any longer, and has not ended since.

        The late call that ended the wait is late all the same where others had not ended: they have no values.
        """
        if call is self.late and self._unfinished:
            return True
        return call.ended_at is None and (call is self.late or call in self.given_up)

    def leave(self) -> None:
        """Stop waiting; a call without another waiter is abandoned."""
        if self._timer is not None:
            self._timer.cancel()
        for call in self._limits:
            call.remove(self)

    def _set_timer(self, at: float) -> None:
        # One timer for all calls: nearly always they have ended before the first limit.
        if self._timer is not None:
            self._timer.cancel()
        self._next = at
        self._timer = self._loop.call_at(at, self._check_limits, context=self._context)

    def _check_limits(self) -> None:
        if self.ended.done():
            return
        waiting = (
            (limit, call)
            for call, limit in self._limits.items()
            if call.ended_at is None and call not in self.given_up
        )
        limit, call = min(waiting, key=itemgetter(0))
        if limit > self._loop.time() + CLOCK_SECONDS:
            self._set_timer(limit)
        elif call in self._optional:
            self._give_up(call)
        else:
            self.late = call
            self.ended.set_result(None)

    def _give_up(self, call: PendingCall) -> None:
        self.given_up.add(call)
        self._unfinished -= 1
        if self._unfinished:
            self._check_limits()
        else:
            self.ended.set_result(None)


def _copy_of(error: BaseException) -> BaseException:
    if not isinstance(error, UpstreamError):
        return error  # a defect of ours: its own traceback shows where
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__
    return copied
