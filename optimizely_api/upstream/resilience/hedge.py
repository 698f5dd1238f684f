"""Hedges: a call that takes longer than most is sent a second time, and the first good response is taken.

One call in a hundred that takes a second makes one composite in twenty-five slow, since each needs several. A second
attempt at once would double the calls; one after the time in which 95 of 100 responses come costs a twentieth at most
(Dean and Barroso, "The Tail at Scale", 2013), and the share of hedges is bounded besides.

Arming a call takes an entry in a dictionary: one timer looks over all attempts under way, when the oldest may be due.
"""

import asyncio
import math
from collections import deque
from typing import Protocol

from optimizely_api.upstream.resilience.budget import Budget
from optimizely_api.upstream.resilience.limit import Limit
from optimizely_api.upstream.resilience.timing import Timing
from optimizely_api.upstream.transport.connection import ServiceResponse

QUANTILE = 0.95
SAMPLES = 512
LEAST_SAMPLES = 100
TIMES_MEDIAN = 3.0  # where all take about as long, a second attempt would take as long too
REFRESH_SECONDS = 1.0
# Nobody notices less, and a service whose responses all come sooner gets no second attempt.
SHORTEST_DELAY_SECONDS = 0.05
TICK_SECONDS = 0.01  # so late may a hedge be
LONGEST_TICK_SECONDS = 1.0
MOST_SAVED = 5.0  # hedges that may follow each other at once


class HedgeWon(Exception):
    """The second attempt was answered first; thrown into the first one, it ends it."""

    def __init__(self, response: ServiceResponse) -> None:
        super().__init__()
        self.response = response


class Hedged(Protocol):
    """A call with an attempt under way; `second` is the response to come of its hedge."""

    second: asyncio.Future[ServiceResponse] | None

    def seconds_left(self) -> float: ...

    def hedge(self) -> bool:
        """Send it a second time; False if it may not be."""


class Hedges:
    """When calls of one worker to one service are sent a second time; with a `share` of 0 none is."""

    __slots__ = ("_budget", "_due_at", "_durations", "_is_ticking", "_limit", "_refreshed_at", "_saved", "_share",
                 "_timing", "_under_way", "delay", "is_on")  # fmt: skip

    def __init__(self, share: float, budget: Budget, limit: Limit, timing: Timing) -> None:
        self._share, self._budget, self._limit, self._timing = share, budget, limit, timing
        self.is_on = share > 0
        self.delay = math.inf  # seconds
        self._durations: deque[float] = deque(maxlen=SAMPLES)
        self._saved = 0.0
        self._refreshed_at = -math.inf
        # When each attempt under way began, the oldest first.
        self._under_way: dict[Hedged, float] = {}
        self._is_ticking = False
        self._due_at = 0.0  # of the next tick

    def begin(self, call: Hedged, now: float) -> None:
        """An attempt of the call begins; whoever says so must say its `end`."""
        self._under_way[call] = now
        if not self._is_ticking:
            self._is_ticking = True
            self._tick_later(now, self.delay)

    def end(self, call: Hedged, seconds: float | None) -> None:
        """The attempt has ended, with a good response after so many seconds or, with None, without."""
        self._under_way.pop(call, None)
        if seconds is not None:
            self._durations.append(seconds)
            if self._saved < MOST_SAVED:
                self._saved += self._share

    def refresh(self, now: float) -> None:
        """Find out, once a second, what most responses take."""
        if now - self._refreshed_at < REFRESH_SECONDS:
            return
        self._refreshed_at = now
        durations = sorted(self._durations)
        if len(durations) >= LEAST_SAMPLES:
            most, half = durations[int(len(durations) * QUANTILE)], durations[len(durations) // 2]
            self.delay = max(SHORTEST_DELAY_SECONDS, most, TIMES_MEDIAN * half)

    def _tick_later(self, now: float, seconds: float) -> None:
        seconds = min(LONGEST_TICK_SECONDS, max(TICK_SECONDS, seconds))
        self._due_at = now + seconds
        self._timing.call_later(seconds, self._tick)

    def _tick(self) -> None:
        now = self._timing.now()
        self.refresh(now)
        # In a late tick the event loop was busy: the responses may be here, and not read yet.
        if now - self._due_at < TICK_SECONDS:
            self._hedge_those_due(now)
        oldest = next(iter(self._under_way.values()), None)
        self._is_ticking = oldest is not None
        if oldest is not None:
            self._tick_later(now, oldest + self.delay - now)

    def _hedge_those_due(self, now: float) -> None:
        while self._saved >= 1 and self._budget.tokens >= 1 and not self._limit.is_nearly_full:
            call, began = next(iter(self._under_way.items()), (None, 0.0))
            if call is None or now - began < self.delay:
                return
            del self._under_way[call]
            # With less time left than that the second attempt would seldom be in time.
            if call.seconds_left() > self.delay and call.hedge():
                self._saved -= 1
                self._budget.spend()
