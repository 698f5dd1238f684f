"""A pool of greenlets, one for each thread, because a greenlet cannot leave its thread.

Fast path: for a new greenlet the interpreter maps memory and unmaps it at the end. That costs ten times as much as a
switch to a greenlet and back, and was a sixth of the CPU time of a request served from memory. To measure:
`python -m tests.benchmark_stages --saving all` (stage "environ and greenlet").
"""

import threading
from collections.abc import Callable
from typing import Any

import greenlet

MOST_IDLE = 128  # in each thread

Job = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Ended:
    """The end of a call in a greenlet, with its return value or its error."""

    __slots__ = ("error", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

    def outcome(self) -> Any:
        """Return the value or raise the error, and drop both: the greenlet's frame may still refer to this object."""
        value, error = self.value, self.error
        self.value = self.error = None
        if error is None:
            return value
        try:
            raise error
        finally:
            del error


class Worker(greenlet.greenlet):  # type: ignore[misc]
    """A greenlet that runs one call after another. Between calls `dead` is True, as for a finished greenlet."""

    is_idle = False

    def __init__(self) -> None:
        super().__init__(_work)
        # Run to the first wait now, without a job: a greenlet keeps the arguments of its first switch until its end.
        self.switch()

    @property
    def dead(self) -> bool:
        return self.is_idle or super().dead


def _work() -> None:
    # No variable refers to the greenlet itself: it would outlive its thread, which a greenlet must not.
    job: Job | None = greenlet.getcurrent().parent.switch()
    while job is not None:
        ended = _call(job)
        job = None  # so that this frame does not keep the arguments of the call
        job = greenlet.getcurrent().parent.switch(ended)


class _Threads(threading.local):
    def __init__(self) -> None:
        self.idle: list[Worker] = []


_threads = _Threads()


def start(job: Job) -> tuple[Worker, Any]:
    """Start `job` in a pooled greenlet; return the greenlet and the first value that it switches back with.

    That value is an `Ended` when the call is over. The greenlet runs in the caller's context (PEP 567), not in a copy.
    """
    idle = _threads.idle
    worker = idle.pop() if idle else Worker()
    worker.is_idle = False
    current = greenlet.getcurrent()
    if worker.parent is not current:
        worker.parent = current
    worker.gr_context = current.gr_context
    return worker, worker.switch(job)


def put_back(worker: Worker) -> None:
    """Return a greenlet whose call has ended to the pool."""
    worker.gr_context = None  # the context would keep the request and everything it refers to
    idle = _threads.idle
    if len(idle) < MOST_IDLE:
        worker.is_idle = True
        idle.append(worker)
    else:
        worker.switch(None)  # no further job: the greenlet finishes


def _call(job: Job) -> Ended:
    ended = Ended()
    try:
        func, args, kwargs = job
        ended.value = func(*args, **kwargs)
    except greenlet.GreenletExit:  # the parent is gone, so nothing can receive the result
        raise
    except BaseException as exc:
        ended.error = exc
    return ended
