"""Signals that reach a gunicorn worker while it starts.

A worker on an event loop handles signals in the loop, so a signal that arrives before the loop runs is lost, and the
master waits for the whole graceful_timeout. A starting worker has no request in flight and may end at once, which is
the default action of these signals.
"""

import functools
import os
import signal
from typing import Any

STOPPING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class DefaultSignalsWhileStarting:
    """Mixin, before a gunicorn worker class that has `loop`, `SIGNALS`, `init_signals` and `run`."""

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

    Without it a worker starts with the master's handlers, which only append to a queue that the worker never reads. The
    signals are blocked during the fork, so that none arrives between the two sets of handlers.
    """
    os.register_at_fork(
        before=_block_signals, after_in_parent=_unblock_signals, after_in_child=_restore_defaults
    )


def _block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _restore_defaults() -> None:
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    _unblock_signals()
