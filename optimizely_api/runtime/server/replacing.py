"""`max_requests` without a gap: a worker that has served enough goes on until a new one listens in its place.

gunicorn starts the new worker when the old one has ended: meanwhile, seconds long, there is one worker less, or none.
Here the old worker leaves a note in the file that it shares with the master, which looks every second: it starts one
worker more, waits until that one listens, and then tells the old one to finish. One is replaced at a time. A new worker
that cannot start is logged in one line, and the old one serves on; the next try is `RETRY_SECONDS` later.

`relied_on.py` lists the names of gunicorn that this needs; its main loop calls `Arbiter.manage_workers` at least every
second.
"""

import os
import signal
import time
from dataclasses import dataclass, field
from typing import Any

from gunicorn.arbiter import Arbiter

from optimizely_api.serving.boot_failures import left_reason

NOTE = b"replace me"
RETRY_SECONDS = 10.0

# relied_on.py refuses to start without it.
_gunicorn_manage_workers: Any = getattr(Arbiter, "manage_workers", None)


@dataclass
class Replacing:
    """What an arbiter knows of it; pids."""

    old: int = 0
    new: int = 0  # 0: nobody is being replaced
    new_worker: Any = None
    born: float = 0.0  # time of change of the new worker's file before it listens
    finishing: set[int] = field(default_factory=set)
    not_before: float = 0.0


def install() -> None:
    """Have every arbiter of this process replace so; may be called again."""
    Arbiter.manage_workers = manage_workers


def ask(worker: Any) -> None:
    """Called in a worker: have it replaced."""
    os.pwrite(worker.tmp.fileno(), NOTE, 0)
    worker.notify()  # writing has changed the time by which the master knows that the worker lives


def manage_workers(arbiter: Any) -> None:
    """In place of `Arbiter.manage_workers`, which does not count those that come and go here."""
    state = _state(arbiter)
    state.finishing &= arbiter.WORKERS.keys()
    if state.new:
        _look_at_new_worker(arbiter, state)
    if not state.new and time.monotonic() >= state.not_before:
        _begin(arbiter, state)
    uncounted = {
        pid: arbiter.WORKERS.pop(pid) for pid in (*state.finishing, state.new) if pid in arbiter.WORKERS
    }
    try:
        _gunicorn_manage_workers(arbiter)
    finally:
        arbiter.WORKERS.update(uncounted)


def _state(arbiter: Any) -> Replacing:
    state: Replacing = arbiter.__dict__.setdefault("replacing", Replacing())
    return state


def _begin(arbiter: Any, state: Replacing) -> None:
    for pid, worker in sorted(arbiter.WORKERS.items()):
        if pid not in state.finishing and os.pread(worker.tmp.fileno(), len(NOTE), 0) == NOTE:
            arbiter.log.info("Worker (pid:%s) has served max_requests, starting another", pid)
            state.old, state.new = pid, arbiter.spawn_worker()
            state.new_worker = arbiter.WORKERS[state.new]
            state.born = state.new_worker.tmp.last_update()
            arbiter.expendable = {state.new}
            return


def _look_at_new_worker(arbiter: Any, state: Replacing) -> None:
    if state.old not in arbiter.WORKERS:
        state.new = 0  # an ordinary worker from now on
    elif state.new not in arbiter.WORKERS:
        why = left_reason(state.new_worker) or "it ended while starting"
        arbiter.log.error("No new worker in place of worker (pid:%s), which serves on: %s", state.old, why)
        state.new, state.not_before = 0, time.monotonic() + RETRY_SECONDS
    elif state.new_worker.tmp.last_update() != state.born and not left_reason(state.new_worker):
        arbiter.kill_worker(state.old, signal.SIGTERM)
        state.finishing.add(state.old)
        state.new = 0
