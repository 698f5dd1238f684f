"""Refuses calls to a service in proportion to how many of the last ones failed, in place of a circuit breaker.

It has no modes: of n attempts in the last seconds, s of them good, a part of (n - 2s) / (n + 1) is refused ("Handling
Overload", Site Reliability Engineering, chapter 21, with K = 2). Refused calls do not count, so that a service that
works again is not held to what it never saw. A probe is let through twice a second, so its first good response is there
within a second of its return; and four good ones in a row forget the failures before them. In turn, an attempt that
took long to fail, while no other was answered, forgets the good ones before it: a service that falls silent is noticed
when the first callers give up, however much it answered before, and however few they are. Attempts that began before
its return, and end after it, say nothing about it any more.
"""

import math
from collections import deque

from optimizely_api.upstream.resilience.timing import Timing

LEAST_ATTEMPTS = 10  # before them nothing is refused
# So many in silence are enough: all who ask for one key share an attempt, and each attempt takes the whole time limit.
SILENT_ATTEMPTS = 2
PROBE_SECONDS = 0.5
GOOD_AGAIN = 4  # good responses in a row; of a service that fails in 8 of 10 calls they are one in 600
SILENCE_SECONDS = 1.0  # a failure after less says nothing about the time before it
SLOT_SECONDS = 1.0


class Throttle:
    """The attempts of one worker at one service in the last `seconds`; with 0 seconds nothing is ever refused."""

    __slots__ = ("_answered_at", "_bad", "_good", "_in_a_row", "_probed_at", "_returned_at", "_seconds", "_silent",
                 "_slot_ends", "_slots", "_timing", "has_failures")  # fmt: skip

    def __init__(self, seconds: float, timing: Timing) -> None:
        self._timing, self._seconds = timing, seconds
        self.has_failures = False  # whether `lets_pass` has to be asked before the next call
        self._good = self._bad = self._in_a_row = 0
        self._silent = 0  # attempts in silence since the last good response
        self._slots: deque[list[float]] = deque()  # end, good and bad ones of each second, the newest last
        self._slot_ends = 0.0
        self._probed_at = self._answered_at = 0.0
        self._returned_at = -math.inf  # when the first attempt succeeded after all had failed

    @property
    def refused_share(self) -> float:
        """The part of the calls that is refused at present."""
        attempts = self._good + self._bad
        if self.is_silent:
            attempts = max(attempts, LEAST_ATTEMPTS)
        if attempts < LEAST_ATTEMPTS:
            return 0.0
        return max(0.0, (attempts - 2 * self._good) / (attempts + 1))

    @property
    def is_silent(self) -> bool:
        """Whether the last attempts took long and nothing has been answered since: those under way may be stuck."""
        return self.has_failures and self._silent >= SILENT_ATTEMPTS

    def lets_pass(self) -> bool:
        """Whether the next call may be sent."""
        now = self._timing.now()
        self._forget(now)
        share = self.refused_share
        if share and now - self._probed_at < PROBE_SECONDS and self._timing.chance.random() < share:
            return False
        self._probed_at = now
        return True

    def was_not_sent(self) -> None:
        """The call that passed was not sent, so it was no probe: the next one may be."""
        self._probed_at = -math.inf

    def succeeded(self, now: float) -> None:
        """An attempt was answered by a service that works; `now` is the time of the clock."""
        slot = self._slots[-1] if now < self._slot_ends else self._new_slot(now)
        slot[1] += 1
        self._answered_at = now
        self._silent = 0
        self._good += 1
        if self.has_failures:
            self._succeeded_again(now)

    def _succeeded_again(self, now: float) -> None:
        if self._good == 1:
            self._returned_at = now
        self._in_a_row += 1
        if self._in_a_row >= GOOD_AGAIN:
            self.has_failures, self._bad = False, 0
            for slot in self._slots:
                slot[2] = 0

    def failed(self, seconds: float = 0.0) -> None:
        """An attempt was, after so many seconds, not answered, or answered by a service that does not work."""
        if not self._seconds:
            return
        now = self._timing.now()
        if now - seconds < self._returned_at:
            return
        if seconds >= SILENCE_SECONDS and now - self._answered_at > seconds:
            self._silent += 1
            self._good = 0
            for slot in self._slots:
                slot[1] = 0
        slot = self._slots[-1] if now < self._slot_ends else self._new_slot(now)
        slot[2] += 1
        self.has_failures = True
        self._bad += 1
        self._in_a_row = 0

    def _new_slot(self, now: float) -> list[float]:
        self._forget(now)
        self._slot_ends = now + SLOT_SECONDS
        slot = [self._slot_ends, 0, 0]
        self._slots.append(slot)
        return slot

    def _forget(self, now: float) -> None:
        while self._slots and self._slots[0][0] <= now - self._seconds:
            _, good, bad = self._slots.popleft()
            self._good -= int(good)
            self._bad -= int(bad)
        self.has_failures = self._bad > 0
