"""Detects when something blocks the event loop, and logs the stack."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import TracebackType

log = logging.getLogger(__name__)

# Beats per threshold. With 4, every stall that lasts a quarter longer than the threshold is detected.
BEATS = 4


class Watchdog:
    """Logs the stack of the code that blocks the running event loop longer than `stall_warning_seconds`; 0 is off.

    A timer on the loop records the time of every beat. A thread sleeps until the next beat is overdue. Only then it
    reads the frame that the loop's thread is executing, which is the frame of the running greenlet.
    `stalls` counts the stalls, `longest_stall_seconds` is the length of the longest so far.
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
            overdue_at = beat_at + self._interval + self._threshold
            if self._stop.wait(max(overdue_at - time.monotonic(), self._interval)):
                return
            if self._beat_at != beat_at:
                continue
            if time.monotonic() > overdue_at + self._threshold and self._was_suspended(beat_at):
                continue
            self._report(loop_thread_id)
            if self._wait_for_beat(beat_at):
                return

    def _was_suspended(self, beat_at: float) -> bool:
        """Whether the whole process was suspended, this thread included: then the loop beats again by itself."""
        self._stop.wait(self._interval)
        return self._beat_at != beat_at

    def _report(self, loop_thread_id: int) -> None:
        self.stalls += 1
        frame = sys._current_frames().get(loop_thread_id)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(its thread has ended)\n"
        del frame
        log.warning("the event loop is held for more than %g s by:\n%s", self._threshold, stack.rstrip())

    def _wait_for_beat(self, beat_at: float) -> bool:
        """Wait for the end of the stall and log its length; returns True if the watchdog was stopped meanwhile."""
        stopped = False
        while self._beat_at == beat_at and not stopped:
            stopped = self._stop.wait(self._interval)
        stall_seconds = time.monotonic() - beat_at
        self.longest_stall_seconds = max(self.longest_stall_seconds, stall_seconds)
        log.warning("the event loop was held for about %.3f s", stall_seconds)
        return stopped
