"""The fan-out with processes that live as long as their worker: the design of 2017 without its costs per request."""

import copy
import multiprocessing
import multiprocessing.pool
import time
from collections.abc import Sequence
from typing import Any

from optimizely_api.legacy.client import BlockingClient
from optimizely_api.legacy.pool import GRACE_SECONDS, held_signals, reset_signals
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import CallContext
from optimizely_api.upstream.errors import UpstreamError, UpstreamTimeout

Sent = tuple[float, tuple[int, bytes] | UpstreamError]

_client: BlockingClient | None = None  # of a process of the pool: its connections outlast a request


class KeptPoolFanOut:
    """Sends calls together, each from a process of the worker's pool."""

    def __init__(self, client: BlockingClient) -> None:
        self._client = client
        self._pool: multiprocessing.pool.Pool | None = None

    def fetch_all(
        self, calls: Sequence[Call], context: CallContext, *, at_most: int | None = None
    ) -> list[Any]:
        """Return the calls' values in order, or raise the first failure.

        The pool's size bounds the calls, not `at_most`: one process per CPU, the default of `Pool()`. After a failure
        the calls under way end by their own time limits.
        """
        pool = self._processes()
        sent = [pool.apply_async(_send, (call, context)) for call in calls]
        return [self._value(call, each, context) for call, each in zip(calls, sent, strict=True)]

    def _value(self, call: Call, sent: "multiprocessing.pool.AsyncResult[Sent]", context: CallContext) -> Any:
        remaining = max(0.0, context.deadline - time.monotonic() + GRACE_SECONDS)
        try:
            seconds, outcome = sent.get(remaining)
        except multiprocessing.TimeoutError:
            raise UpstreamTimeout(call.upstream, remaining) from None
        context.note(call.upstream, seconds)
        return self._client.value(call, outcome)

    def _processes(self) -> multiprocessing.pool.Pool:
        # Created on first use, in the worker: gunicorn forks its workers after the application is built.
        if self._pool is None:
            with held_signals():
                self._pool = multiprocessing.Pool(initializer=_begin, initargs=(self._client,))
        return self._pool


def _begin(client: BlockingClient) -> None:
    global _client
    reset_signals()
    # A copy has no connections: those of the worker must not be used by two processes.
    _client = copy.copy(client)


def _send(call: Call, context: CallContext) -> Sent:
    """Return seconds, and (status, body) or an UpstreamError; runs in a process of the pool."""
    assert _client is not None  # noqa: S101
    started = time.monotonic()
    try:
        outcome: tuple[int, bytes] | UpstreamError = _client.send(call, context)
    except UpstreamError as exc:
        outcome = exc
    return time.monotonic() - started, outcome
