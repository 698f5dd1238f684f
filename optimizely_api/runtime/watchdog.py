"""Notices when something holds the event loop, and says what it was."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import TracebackType

log = logging.getLogger(__name__)

# Beats in the time of one threshold: a hold is noticed for certain once it lasts a quarter longer than the threshold.
BEATS = 4


class Watchdog:
    """Logs the stack of whatever holds the running event loop longer than `stall_warning_seconds`; 0 turns it off.

    A timer on the loop notes the time at every beat. A thread sleeps until the next beat would be too late, and
    only when it is reads the frame that the loop's thread is executing: that of the greenlet which really runs.
    `stalls` counts, `longest_stall_seconds` is the longest so far.
    """

    def __init__(self, stall_warning_seconds: float) -> None:
        self.stalls = 0
        self.longest_stall_seconds = 0.0
        self._threshold = stall_warning_seconds
        self._interval = stall_warning_seconds / BEATS
        self._beat_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Watchdog":
        if self._threshold > 0:
            self._loop = asyncio.get_running_loop()
            self._beat()
            self._thread = threading.Thread(
                target=self._watch, args=(threading.get_ident(),), name="event loop watchdog", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._stop.set()
            if self._timer is not None:
                self._timer.cancel()
            self._thread.join()

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        self._timer = self._loop.call_later(self._interval, self._beat)

    def _watch(self, loop_thread_id: int) -> None:
        while True:
            beat_at = self._beat_at
            too_late_at = beat_at + self._interval + self._threshold
            if self._stop.wait(max(too_late_at - time.monotonic(), self._interval)):
                return
            if self._beat_at != beat_at:
                continue
            if time.monotonic() > too_late_at + self._threshold and self._starved(beat_at):
                continue
            self._report(loop_thread_id)
            if self._wait_for_beat(beat_at):
                return

    def _starved(self, beat_at: float) -> bool:
        """Whether the whole process was not running, this thread included: then the loop beats again by itself."""
        self._stop.wait(self._interval)
        return self._beat_at != beat_at

    def _report(self, loop_thread_id: int) -> None:
        self.stalls += 1
        frame = sys._current_frames().get(loop_thread_id)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(its thread has ended)\n"
        del frame
        log.warning("the event loop is held for more than %g s by:\n%s", self._threshold, stack.rstrip())

    def _wait_for_beat(self, beat_at: float) -> bool:
        """Wait for the end of the stall, and note its length; True when the watchdog was stopped meanwhile."""
        stopped = False
        while self._beat_at == beat_at and not stopped:
            stopped = self._stop.wait(self._interval)
        lasted = time.monotonic() - beat_at
        self.longest_stall_seconds = max(self.longest_stall_seconds, lasted)
        log.warning("the event loop was held for about %.3f s", lasted)
        return stopped
