"""A call under way that is shared by all who want the same at the same moment."""

import asyncio
import contextvars
import copy
import math
import time
from operator import itemgetter
from typing import Any

from optimizely_api.upstream.errors import UpstreamError
from optimizely_api.upstream.transport.connection import (
    Answer,
    IdleConnectionClosed,
    Question,
    ServiceConnection,
)
from optimizely_api.upstream.transport.connector import Destination, ServiceConnector

CLOCK_SECONDS = 0.001  # uvloop's clock has milliseconds; a timer may come just before its time


class Flight:
    """One safe call, and those who wait for it.

    Everyone waits for as long as he may himself. The call has no limit of its own: it ends with its answer, or when
    the last one who waited has left. Its value goes to all of them as the same object, which nobody may change; its
    error goes to each as a copy, for raising one marks it.

    It is no task, which would cost more than all the rest: it takes the answer from the connection itself
    (`connection.Receiver`), and wakes those who wait, who are tasks of their requests.
    """

    __slots__ = (
        "_connection",
        "_connector",
        "_destination",
        "_done",
        "_loop",
        "_may_repeat",
        "_question",
        "_task",
        "_value",
        "_waiting",
        "ended_at",
        "error",
    )

    def __init__(self, connector: ServiceConnector, destination: Destination, question: Question) -> None:
        self._connector, self._destination, self._question = connector, destination, question
        self._may_repeat = True
        self._loop = asyncio.get_running_loop()
        self._waiting: set[Waiting] = set()
        self._connection: ServiceConnection | None = None
        self._task: asyncio.Task[Answer] | None = None
        self._done = False
        self._value: Any = None
        self.error: BaseException | None = None
        self.ended_at: float | None = None  # by the monotonic clock

    def read(self, answer: Answer) -> Any:
        """Make the value of the answer, or raise; called once."""
        raise NotImplementedError

    def explain(self, error: BaseException) -> BaseException:
        """What to raise for what the connection, or the way to it, ended with; called once at most."""
        raise NotImplementedError

    def land(self) -> None:
        """Nobody may join any more; called once."""
        raise NotImplementedError

    def start(self) -> None:
        """Send the request on a free connection at once, or on a new one as soon as there is one.

        Does not wait.
        """
        self._connection = self._connector.take(self._destination)
        if self._connection is None:
            self._start_in_task()
        else:
            self._connection.send(self._question, None, self)  # raises nothing: the connection is there

    def board(self, waiting: "Waiting") -> None:
        self._waiting.add(waiting)

    def leave(self, waiting: "Waiting") -> None:
        self._waiting.discard(waiting)
        if not self._waiting and not self._done:
            self._abandon()

    @property
    def value(self) -> Any:
        """What the call has brought; raises what it ended with instead."""
        if self.error is not None:
            raise _own(self.error)
        return self._value

    # What a connection calls, as it would a future.

    def done(self) -> bool:
        return self._done

    def set_result(self, answer: Answer, /) -> None:
        if self._connection is not None:
            self._connector.give_back(self._destination, self._connection)
            self._connection = None
        self._done = True
        self.land()
        try:
            self._value = self.read(answer)
        except Exception as exc:
            self.error = exc
        self._end()

    def set_exception(self, error: BaseException, /) -> None:
        if self._connection is not None:
            self._connector.let_go(self._destination, self._connection)
            self._connection = None
        if isinstance(error, IdleConnectionClosed) and self._may_repeat:
            self._may_repeat = False
            self._start_in_task(again=True)
            return
        self._done = True
        self.land()
        self.error = self.explain(error)
        self._end()

    # A task is needed only where a connection has to be waited for.

    def _start_in_task(self, *, again: bool = False) -> None:
        self._task = self._connector.ask_for_ever(self._destination, self._question, again=again)
        self._task.add_done_callback(self._end_task)

    def _end_task(self, task: "asyncio.Task[Answer]") -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._task = None
        if self._done:
            return
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(task.result())

    def _abandon(self) -> None:
        self._done = True
        self.land()
        if self._connection is not None:
            self._connector.let_go(self._destination, self._connection)
            self._connection = None
        if self._task is not None:
            self._task.cancel()

    def _end(self) -> None:
        self.ended_at = time.monotonic()
        for waiting in self._waiting:
            waiting.arrive(self)


class Waiting:
    """One who waits for calls under way: until all have ended, or one has failed or is late.

    `ended` is done then; `late` is the call whose limit came before its end, if one has.
    """

    __slots__ = ("_context", "_ends", "_left", "_loop", "_next", "_timer", "ended", "late")

    def __init__(self, context: contextvars.Context) -> None:
        """`context` is the timer's, which may be there for longer than whoever waits."""
        self._context = context
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.late: Flight | None = None
        self._ends: dict[Flight, float] = {}  # by the loop's clock
        self._left = 0
        self._next = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def board(self, flight: Flight, limit_seconds: float) -> None:
        """Wait for this call too, so long at most; once for one that is wanted twice."""
        if flight in self._ends:
            return
        self._ends[flight] = ends = self._loop.time() + limit_seconds
        self._left += 1
        if ends < self._next:
            self._look_again(ends)
        flight.board(self)

    def arrive(self, flight: Flight) -> None:
        """Called by a flight at its end."""
        self._left -= 1
        if (flight.error is not None or not self._left) and not self.ended.done():
            self.ended.set_result(None)

    def leave(self) -> None:
        """Wait no longer; a call that nobody else waits for is ended."""
        if self._timer is not None:
            self._timer.cancel()
        for flight in self._ends:
            flight.leave(self)

    def _look_again(self, at: float) -> None:
        # One timer for all: nearly always they have ended before the first limit.
        if self._timer is not None:
            self._timer.cancel()
        self._next = at
        self._timer = self._loop.call_at(at, self._look, context=self._context)

    def _look(self) -> None:
        if self.ended.done():
            return
        ends, flight = min(
            ((ends, flight) for flight, ends in self._ends.items() if flight.ended_at is None),
            key=itemgetter(0),
        )
        if ends <= self._loop.time() + CLOCK_SECONDS:
            self.late = flight
            self.ended.set_result(None)
        else:
            self._look_again(ends)


def _own(error: BaseException) -> BaseException:
    if not isinstance(error, UpstreamError):
        return error  # a defect: its traceback says where
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own
