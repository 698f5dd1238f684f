"""Hedges: a call that takes longer than most is sent a second time, and the first good response is taken.

One call in a hundred that takes a second makes one composite in twenty-five slow, since each needs several. A second
attempt at once would double the calls; one after the time in which 95 of 100 responses come costs a twentieth at most
(Dean and Barroso, "The Tail at Scale", 2013), and the share of hedges is bounded besides.
"""

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
SHORTEST_DELAY_SECONDS = 0.005
LONGEST_SHARE_OF_LIMIT = 0.25
MOST_SAVED = 5.0  # hedges that may follow each other at once


class HedgeWon(Exception):
    """The second attempt was answered first; thrown into the first one, it ends it."""

    def __init__(self, response: ServiceResponse) -> None:
        super().__init__()
        self.response = response


class Hedged(Protocol):
    """A call with an attempt under way."""

    def seconds_left(self) -> float: ...

    def hedge(self) -> bool:
        """Send it a second time; False if it may not be."""


class Hedges:
    """When calls of one worker to one service are sent a second time; with a `share` of 0 none is."""

    __slots__ = ("_budget", "_durations", "_limit", "_refreshed_at", "_saved", "_share", "_timing", "delay")

    def __init__(self, share: float, budget: Budget, limit: Limit, timing: Timing) -> None:
        self._share, self._budget, self._limit, self._timing = share, budget, limit, timing
        self._durations: deque[float] = deque(maxlen=SAMPLES)
        self._saved = 0.0
        self._refreshed_at = -math.inf
        self.delay = math.inf  # seconds

    def note(self, seconds: float) -> None:
        """A good response took so long."""
        if not self._share:
            return
        self._durations.append(seconds)
        if self._saved < MOST_SAVED:
            self._saved += self._share

    def refresh(self, now: float) -> None:
        """Find out, once a second, what most responses take."""
        if not self._share or now - self._refreshed_at < REFRESH_SECONDS:
            return
        self._refreshed_at = now
        durations = sorted(self._durations)
        if len(durations) >= LEAST_SAMPLES:
            most, half = durations[int(len(durations) * QUANTILE)], durations[len(durations) // 2]
            self.delay = max(SHORTEST_DELAY_SECONDS, most, TIMES_MEDIAN * half)

    def hedge(self, call: Hedged, seconds: float) -> bool:
        """Send a call a second time, whose attempt has taken so long; False if it was not sent."""
        if self._saved < 1 or self.delay == math.inf or self._limit.is_nearly_full:
            return False
        longest = LONGEST_SHARE_OF_LIMIT * (seconds + call.seconds_left())
        if seconds < min(self.delay, longest):
            return False
        if self._budget.tokens < 1 or not call.hedge():
            return False
        self._saved -= 1
        return self._budget.spend()
