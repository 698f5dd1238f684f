"""The fan-out of 2017: processes and a queue, created for each request and destroyed after it."""

import contextlib
import multiprocessing
import queue
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.managers import SyncManager
from typing import Any

from optimizely_api.legacy.client import BlockingClient
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import CallContext
from optimizely_api.upstream.errors import UpstreamError, UpstreamTimeout

# Each child has its own time limit; this is for the way of its response through the queue.
GRACE_SECONDS = 0.5
_SIGNALS = {signal.SIGTERM, signal.SIGINT}


class PoolFanOut:
    """Sends calls together, each from a process of a pool."""

    def __init__(self, client: BlockingClient) -> None:
        self._client = client

    def fetch_all(
        self, calls: Sequence[Call], context: CallContext, *, at_most: int | None = None
    ) -> list[Any]:
        """Return the calls' values in order, or raise the first failure.

        `at_most` bounds the processes; without it the pool has one per CPU, the default of `Pool()`. When this method
        returns or raises, the manager and every process of the pool have ended.
        """
        if not calls:
            return []
        manager = SyncManager()
        with held_signals():
            manager.start(initializer=reset_signals)
        with manager:
            return self._fetch_all(manager.Queue(), calls, context, at_most)

    def _fetch_all(
        self, outcomes: "queue.Queue[Any]", calls: Sequence[Call], context: CallContext, at_most: int | None
    ) -> list[Any]:
        with held_signals():
            pool = multiprocessing.Pool(at_most, initializer=reset_signals)
        try:
            for index, call in enumerate(calls):
                pool.apply_async(_send, (self._client, index, call, context, outcomes))
            values = self._collect(outcomes, calls, context)
            pool.close()
        except BaseException:
            pool.terminate()
            raise
        finally:
            pool.join()
        return values

    def _collect(
        self, outcomes: "queue.Queue[Any]", calls: Sequence[Call], context: CallContext
    ) -> list[Any]:
        values: list[Any] = [None] * len(calls)
        waiting = set(range(len(calls)))
        while waiting:
            remaining = context.deadline - time.monotonic() + GRACE_SECONDS
            try:
                index, seconds, outcome = outcomes.get(timeout=max(0.0, remaining))
            except queue.Empty:
                raise UpstreamTimeout(calls[min(waiting)].upstream, max(0.0, remaining)) from None
            context.note(calls[index].upstream, seconds)
            values[index] = self._client.value(calls[index], outcome)
            waiting.discard(index)
        return values


def _send(
    client: BlockingClient, index: int, call: Call, context: CallContext, outcomes: "queue.Queue[Any]"
) -> None:
    """Put (index, seconds, (status, body) or UpstreamError) into the queue; runs in a process of the pool."""
    started = time.monotonic()
    try:
        outcome: Any = client.send(call, context)
    except UpstreamError as exc:
        outcome = exc
    except Exception as exc:
        # A defect of ours. Its class may not be picklable, so its text is sent.
        outcome = RuntimeError(f"{call.upstream} call failed: {exc!r}")
    outcomes.put((index, time.monotonic() - started, outcome))


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Fork children that call `reset_signals`: a signal that comes before waits until then.

    A pool of a call that fails at once is terminated while some of its processes have not begun. Gunicorn's handler
    would only note the TERM, and the pool would wait for them for good.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reset_signals() -> None:
    """Remove gunicorn's handlers from a forked child: they only note a TERM, so the pool could not end the child."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
