"""Limits the calls under way at a service that slows down under them, and lets the accounts take turns.

There is no limit while responses take about as long as usual, however many are under way: a slow service may well serve
thousands at once. When they take longer, the limit goes down from as many as there were, once a second at most, by the
ratio of usual and present time (a gradient limit, as in Netflix's concurrency-limits); when they no longer do, it goes
up again by a quarter.

Calls beyond the limit wait for a second at most, in a start-time fair queue: whoever has fewer calls waiting goes
first, so an account with a thousand calls does not hold up one with a single call.
"""

import asyncio
import heapq
import itertools
import math
from collections.abc import Hashable
from typing import Any

from optimizely_api.upstream.resilience.refusals import Full
from optimizely_api.upstream.resilience.timing import Timing

WINDOW_SECONDS = 1.0
LEAST_SAMPLES = 50  # of a window
QUANTILE = 0.9  # of the durations in a window
TOLERANCE = 2.0  # so many times the usual duration is no sign of a queue
SHARPEST_CUT = 0.5
GROWTH = 1.25
DRIFT = 1.05  # so much longer may the usual duration become in a window
LONGEST_WAIT_SECONDS = 1.0
SHARE_OF_TIME_LEFT = 0.25


class Limit:
    """The calls of one worker under way at one service: between `least` and `most`; `least` of 0 is no limit."""

    __slots__ = ("_accounts", "_durations", "_ends", "_least", "_most", "_numbers", "_peak", "_served", "_timing",
                 "_usual", "_waiting", "in_flight", "is_on", "limit")  # fmt: skip

    def __init__(self, least: int, most: int, timing: Timing) -> None:
        self._timing, self._least, self._most = timing, min(least, most), most
        self.is_on = least > 0
        self.limit: float = most if least else math.inf
        self.in_flight = self._peak = 0
        self._usual = math.inf  # seconds
        self._durations: list[float] = []
        self._ends = 0.0  # of the window
        self._numbers = itertools.count()
        # The queue, by virtual finish time; that of each account's last call, and of the last call that was served.
        self._waiting: list[tuple[float, int, asyncio.Future[Any]]] = []
        self._accounts: dict[Hashable, float] = {}
        self._served = 0.0

    @property
    def is_nearly_full(self) -> bool:
        """Whether there is no room for calls that need not be."""
        return self.in_flight >= 0.8 * self.limit

    def enter(self) -> bool:
        """Whether the call may go on at once; then it must `leave`, else `wait` for its turn."""
        if self.in_flight >= self.limit or self._waiting:
            return False
        self._count_in()
        return True

    def wait(self, account: Hashable, seconds_left: float) -> "asyncio.Future[Any]":
        """Return a future that is done when the call has entered, or raises Full after too long.

        Whoever stops waiting before must `forsake` it.
        """
        turn = self._timing.create_future()
        finish = max(self._served, self._accounts.get(account, 0.0)) + 1
        self._accounts[account] = finish
        heapq.heappush(self._waiting, (finish, next(self._numbers), turn))
        self._timing.call_later(
            min(LONGEST_WAIT_SECONDS, SHARE_OF_TIME_LEFT * seconds_left), lambda: _give_up(turn)
        )
        return turn

    def forsake(self, turn: "asyncio.Future[Any]") -> None:
        """Nobody waits for this turn any more, though it may just have come."""
        if turn.done() and turn.exception() is None:
            self.leave(None)
        else:
            turn.cancel()

    def leave(self, seconds: float | None) -> None:
        """A call has ended, after so many seconds if its duration says something about the service."""
        self.in_flight -= 1
        if seconds is not None:
            self._durations.append(seconds)
            if len(self._durations) >= LEAST_SAMPLES:
                self._end_window()
        if self._waiting:
            self._let_in()

    def _count_in(self) -> None:
        self.in_flight += 1
        if self.in_flight > self._peak:
            self._peak = self.in_flight

    def _let_in(self) -> None:
        while self._waiting and self.in_flight < self.limit:
            finish, _, turn = heapq.heappop(self._waiting)
            if turn.done():
                continue  # it has waited too long, or its caller has gone
            self._served = finish
            self._count_in()
            turn.set_result(None)
        if not self._waiting:
            self._accounts.clear()
            self._served = 0.0

    def _end_window(self) -> None:
        now = self._timing.now()
        if now < self._ends:
            return
        durations = sorted(self._durations)
        present = durations[int(len(durations) * QUANTILE)]
        self._usual = min(present, self._usual * DRIFT)
        if present > TOLERANCE * self._usual:
            gradient = max(SHARPEST_CUT, TOLERANCE * self._usual / present)
            self.limit = max(self._least, min(self.limit, self._peak) * gradient)
        elif self._peak >= 0.5 * self.limit:
            self.limit = min(self._most, self.limit * GROWTH)
        self._durations.clear()
        self._peak = self.in_flight
        self._ends = now + WINDOW_SECONDS


def _give_up(turn: "asyncio.Future[Any]") -> None:
    if not turn.done():
        turn.set_exception(Full())
