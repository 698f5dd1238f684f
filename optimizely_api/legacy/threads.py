"""The fan-out with threads: concurrent blocking calls in one process."""

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from optimizely_api.legacy.client import BlockingClient
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import CallContext
from optimizely_api.upstream.errors import UpstreamTimeout


class ThreadFanOut:
    """Sends calls together, each from a thread of the worker's executor."""

    threads = 64  # per worker process

    def __init__(self, client: BlockingClient) -> None:
        self._client = client
        self._executor: ThreadPoolExecutor | None = None

    def fetch_all(
        self, calls: Sequence[Call], context: CallContext, *, at_most: int | None = None
    ) -> list[Any]:
        """Return the calls' values in order, or raise the first failure.

        Sends `at_most` calls at a time. A thread cannot be cancelled: after a failure no further call is sent, and the
        calls under way end by their own time limits.
        """
        unsent = list(enumerate(calls))
        values: list[Any] = [None] * len(calls)
        running: dict[Future[Any], int] = {}
        try:
            while unsent or running:
                while unsent and len(running) < (at_most or len(calls)):
                    index, call = unsent.pop(0)
                    running[self._threads().submit(self._client.fetch, call, context)] = index
                for future in self._finished(running, calls, context):
                    values[running.pop(future)] = future.result()
        finally:
            for future in running:
                future.cancel()
        return values

    def _finished(
        self, running: dict["Future[Any]", int], calls: Sequence[Call], context: CallContext
    ) -> set["Future[Any]"]:
        remaining = context.deadline - time.monotonic()
        finished, late = wait(running, timeout=max(0.0, remaining), return_when=FIRST_COMPLETED)
        if not finished:
            raise UpstreamTimeout(
                calls[min(running[future] for future in late)].upstream, max(0.0, remaining)
            )
        return finished

    def _threads(self) -> ThreadPoolExecutor:
        # Created on first use: with --preload, gunicorn forks its workers after the application is built, and threads
        # do not survive a fork.
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="fan-out")
        return self._executor


class GreenletFanOut(ThreadFanOut):
    """Sends calls together, each from a greenlet: gunicorn's gevent worker makes a greenlet of every thread."""

    threads = 1024
