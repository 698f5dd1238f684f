"""How late the event loop is, and whether that is because its thread has so much to do.

A request that waits for a service or a database makes no other wait; one that waits for the loop waits behind all
others. So response times say little about an overload, and the lateness of a timer much.
"""

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path

TICK_SECONDS = 0.01

# Nanoseconds on a CPU and nanoseconds ready to run, <https://docs.kernel.org/scheduler/sched-stats.html>.
_SCHEDULER_STATISTICS = Path("/proc/thread-self/schedstat")

Clock = Callable[[], float]


def busy_seconds() -> float:
    """How long this thread has run or been ready to run; the rest of the time it slept.

    A thread that is ready all the time has too much to do, for the CPU that the machine lets it have. Where the system
    does not tell, it is not a number.
    """
    try:
        running, ready, _ = map(int, _SCHEDULER_STATISTICS.read_bytes().split())
    except (OSError, ValueError):
        return math.nan
    # Some kernels have the file and count nothing: all numbers are 0.
    return (running + ready) / 1e9 if running else math.nan


class LagMeter:
    """Calls `on_sample` at each tick with its lateness, in seconds."""

    def __init__(self, on_sample: Callable[[float], None], clock: Clock = time.monotonic) -> None:
        self._on_sample = on_sample
        self._clock = clock
        self._due_at = clock() + TICK_SECONDS
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tick on the loop until `stop`."""
        self._loop = loop
        self._due_at = self._clock() + TICK_SECONDS
        self._timer = loop.call_later(TICK_SECONDS, self._run)

    def stop(self) -> None:
        """Tick no more; may be called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def tick(self) -> None:
        """Report the lateness of this moment, and expect the next tick in TICK_SECONDS."""
        now = self._clock()
        late, self._due_at = max(0.0, now - self._due_at), now + TICK_SECONDS
        self._on_sample(late)

    def _run(self) -> None:
        self._timer = self._loop.call_later(TICK_SECONDS, self._run)
        self.tick()
