"""Watches the attempts under way at a service, with one timer for all of them.

An attempt that takes long counts as a failure before it ends: a service that has gone silent is noticed after a second,
and not only when the first callers give up. One that takes longer than most is hedged.
"""

from typing import Protocol

from optimizely_api.upstream.resilience.hedge import Hedged, Hedges
from optimizely_api.upstream.resilience.throttle import Throttle
from optimizely_api.upstream.resilience.timing import Timing

LATE_SECONDS = 1.0  # and as long as the service was asked to wait for a computation
LONGEST_TICK_SECONDS = 0.05
SHORTEST_TICK_SECONDS = 0.005
TICKS_IN_DELAY = 4  # of a hedge


class Watched(Hedged, Protocol):
    """A call whose attempt is watched; `wait_seconds` is how long its service was asked to wait."""

    wait_seconds: float


class Attempt:
    """An attempt under way."""

    __slots__ = ("call", "is_hedged", "is_late", "started")

    def __init__(self, call: Watched, started: float) -> None:
        self.call, self.started = call, started
        self.is_late = self.is_hedged = False


class Watch:
    """The attempts of one worker at one service."""

    __slots__ = ("_attempts", "_hedges", "_is_ticking", "_throttle", "_timing")

    def __init__(self, throttle: Throttle, hedges: Hedges, timing: Timing) -> None:
        self._throttle, self._hedges, self._timing = throttle, hedges, timing
        self._attempts: dict[Attempt, None] = {}  # in the order in which they began
        self._is_ticking = False

    def begin(self, call: Watched, now: float) -> Attempt:
        """Watch an attempt that begins."""
        attempt = Attempt(call, now)
        self._attempts[attempt] = None
        if not self._is_ticking:
            self._is_ticking = True
            self._tick_later()
        return attempt

    def end(self, attempt: Attempt) -> None:
        """The attempt has ended, however it did."""
        del self._attempts[attempt]

    def _tick_later(self) -> None:
        tick = min(LONGEST_TICK_SECONDS, max(SHORTEST_TICK_SECONDS, self._hedges.delay / TICKS_IN_DELAY))
        self._timing.call_later(tick, self._tick)

    def _tick(self) -> None:
        now = self._timing.now()
        self._hedges.refresh(now)
        # A hedge may end an attempt at once, if its connection breaks.
        for attempt in list(self._attempts):
            seconds = now - attempt.started
            if not attempt.is_hedged:
                attempt.is_hedged = self._hedges.hedge(attempt.call, seconds)
            if not attempt.is_late and seconds >= LATE_SECONDS + attempt.call.wait_seconds:
                attempt.is_late = True
                self._throttle.failed()
        self._is_ticking = bool(self._attempts)
        if self._is_ticking:
            self._tick_later()
