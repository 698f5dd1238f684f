"""The fan-out of 2017: processes and a queue, made for each request and taken down after it."""

import multiprocessing
import queue
import signal
import time
from collections.abc import Sequence
from multiprocessing.managers import SyncManager
from typing import Any

from optimizely_api.legacy.client import BlockingClient
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import CallContext
from optimizely_api.upstream.errors import UpstreamError, UpstreamTimeout

GRACE_SECONDS = 0.5  # each child has its own time limit; this is for its answer's way through the queue


class PoolFanOut:
    """Sends calls together, each from a process of a pool."""

    def __init__(self, client: BlockingClient) -> None:
        self._client = client

    def fetch_all(
        self, calls: Sequence[Call], scope: CallContext, *, at_most: int | None = None
    ) -> list[Any]:
        """Return the calls' values in order, or raise the first failure.

        `at_most` bounds the processes; without it the pool has one per processor, as `Pool()` makes it. The manager
        and every process of the pool have ended when this returns or raises.
        """
        if not calls:
            return []
        manager = SyncManager()
        manager.start(initializer=_forget_the_servers_signals)
        with manager:
            return self._fetch_all(manager.Queue(), calls, scope, at_most)

    def _fetch_all(
        self, answers: "queue.Queue[Any]", calls: Sequence[Call], scope: CallContext, at_most: int | None
    ) -> list[Any]:
        pool = multiprocessing.Pool(at_most, initializer=_forget_the_servers_signals)
        try:
            for index, call in enumerate(calls):
                pool.apply_async(_send, (self._client, index, call, scope, answers))
            values = self._collect(answers, calls, scope)
            pool.close()
        except BaseException:
            pool.terminate()
            raise
        finally:
            pool.join()
        return values

    def _collect(self, answers: "queue.Queue[Any]", calls: Sequence[Call], scope: CallContext) -> list[Any]:
        values: list[Any] = [None] * len(calls)
        waiting = set(range(len(calls)))
        while waiting:
            left = scope.deadline - time.monotonic() + GRACE_SECONDS
            try:
                index, seconds, outcome = answers.get(timeout=max(0.0, left))
            except queue.Empty:
                raise UpstreamTimeout(calls[min(waiting)].upstream, max(0.0, left)) from None
            scope.note(calls[index].upstream, seconds)
            if isinstance(outcome, Exception):
                raise outcome
            values[index] = self._client.read(calls[index], *outcome)
            waiting.discard(index)
        return values


def _send(
    client: BlockingClient, index: int, call: Call, scope: CallContext, answers: "queue.Queue[Any]"
) -> None:
    """In a process of the pool: put (index, seconds, (status, body) or UpstreamError) into the queue."""
    started = time.monotonic()
    try:
        outcome: Any = client.send(call, scope)
    except UpstreamError as exc:
        outcome = exc
    except Exception as exc:
        outcome = RuntimeError(
            f"{call.upstream} call failed: {exc!r}"
        )  # a defect; it may not travel as it is
    answers.put((index, time.monotonic() - started, outcome))


def _forget_the_servers_signals() -> None:
    """A forked child has gunicorn's handlers, which take note of TERM and go on: the pool could not end it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
