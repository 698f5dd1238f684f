"""Signals that reach a gunicorn worker while it starts.

A worker on an event loop hears signals through the loop, so that one that arrives before the loop runs is lost: the
master then waits for the whole of graceful_timeout for a worker that knows of nothing. A starting worker has no request
in flight and may end at once, which is what a signal does by default.
"""

import functools
import os
import signal
from typing import Any

STOPPING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class HearsSignalsWhileStarting:
    """Mix in before a gunicorn worker class that has `loop`, `SIGNALS`, `init_signals` and `run`."""

    loop: Any
    SIGNALS: Any

    def init_signals(self) -> None:
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    def run(self) -> None:
        self.loop.call_soon(super().init_signals)  # type: ignore[misc]
        super().run()  # type: ignore[misc]


@functools.cache
def end_on_signals_after_fork() -> None:
    """Give forked processes the default action for STOPPING signals from their first moment.

    Without it a worker begins with the master's handlers, which only take a note that the worker never reads. For the
    moment of the fork the signals are held back, so that none falls between the two.
    """
    os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_end_by_default)


def _hold_back() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _end_by_default() -> None:
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    _let_through()
