"""Greenlets that are used again: the interpreter maps memory for the frames of a new one and unmaps it at its end.

That takes ten times as long as switching to a greenlet and back. Each thread has its own, for a greenlet cannot leave
the thread that it was made in.
"""

import threading
from collections.abc import Callable
from typing import Any

import greenlet

KEPT = 128  # idle ones, in each thread

Job = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Ended:
    """What a greenlet hands over at the end of a call: the value that it returned, or the error that it raised."""

    __slots__ = ("error", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

    def outcome(self) -> Any:
        """Return the value or raise the error, and forget both: the greenlet's frame may still know this object."""
        value, error = self.value, self.error
        self.value = self.error = None
        if error is None:
            return value
        try:
            raise error
        finally:
            del error


class Worker(greenlet.greenlet):  # type: ignore[misc]
    """Runs one call after another; `dead`, as seen from outside, while it runs none."""

    is_idle = False

    def __init__(self) -> None:
        super().__init__(self._work)
        self.switch()  # to where it waits: what a greenlet begins with, it holds until its end

    @property
    def dead(self) -> bool:
        return self.is_idle or super().dead

    def _work(self) -> None:
        job: Job | None = self.parent.switch()
        while job is not None:
            ended = _call(job)
            job = None  # nothing of the call stays here
            job = self.parent.switch(ended)


class _Threads(threading.local):
    def __init__(self) -> None:
        self.idle: list[Worker] = []


_threads = _Threads()


def begin(job: Job) -> tuple[Worker, Any]:
    """Begin a call in a greenlet; returns that and what it was the first to switch here with, an `Ended` in the end.

    The greenlet runs in the context of the caller (PEP 567): the very same, not a copy.
    """
    idle = _threads.idle
    worker = idle.pop() if idle else Worker()
    worker.is_idle = False
    here = greenlet.getcurrent()
    if worker.parent is not here:
        worker.parent = here
    worker.gr_context = here.gr_context
    return worker, worker.switch(job)


def put_back(worker: Worker) -> None:
    """Take back a greenlet whose call has ended, for the next one."""
    worker.gr_context = None  # it would keep all that the request held
    idle = _threads.idle
    if len(idle) < KEPT:
        worker.is_idle = True
        idle.append(worker)
    else:
        worker.switch(None)


def _call(job: Job) -> Ended:
    ended = Ended()
    try:
        func, args, kwargs = job
        ended.value = func(*args, **kwargs)
    except greenlet.GreenletExit:  # nobody is there any more to hand anything to
        raise
    except BaseException as exc:
        ended.error = exc
    return ended
