"""Computations of results that several requests may wait for, and that outlive the requests.

A request waits for as long as its client wants to (`Prefer: wait=N`, RFC 7240), and gets a 202 if that is too short.
Then the computation goes on, and its response is kept for the next poll. Requests with one question share a
computation.

A response covers all events that were stored before the question was asked, with one exception: where a computation
takes so long that somebody got a 202, new events would make each poll begin anew. So whoever asks while it runs, or in
the KEPT_SECONDS after it, gets its response, with `is_stale` true if events have come since.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any

import orjson

from optimizely_api.services.storage.deadlines import DEADLINE

KEPT_SECONDS = 60.0  # from the end of a computation that took too long for a request
MAX_KEPT_BYTES = 64 * 1024 * 1024  # of such responses as JSON; the oldest go
MAX_UNATTENDED = 20  # computations that go on though their requests have got a 202
ABANDONED_SECONDS = 600.0  # such a computation is cancelled when nobody has asked for it for so long
REMEMBERED = 5  # durations of one experiment
MAX_REMEMBERED = 1_000  # experiments
LONGEST_RETRY_SECONDS = 60
MARGIN = 1.1  # of a prediction, so that one poll is enough

Key = tuple[Hashable, Hashable]  # what it is about, and the question

log = logging.getLogger("optimizely_api.services.results")


@dataclass(frozen=True)
class Computed:
    """A response body (None: no data), the version of the data that it was computed from, and its entity tag."""

    body: dict[str, Any] | None
    version: int
    tag: str | None = None


@dataclass(frozen=True)
class Pending:
    """The computation goes on; ask again in so many seconds."""

    retry_after_seconds: int


@dataclass(frozen=True)
class _Kept:
    """A Computed as JSON, which takes a tenth of the memory."""

    finished: float
    content: bytes
    version: int
    tag: str | None

    def computed(self) -> Computed:
        body = orjson.loads(self.content) if self.content else None
        return Computed(body, self.version, self.tag)


class TooManyComputations(Exception):
    """MAX_UNATTENDED computations go on already."""


class _Running:
    def __init__(self, key: Key, state: Hashable, work: Coroutine[Any, Any, Computed]) -> None:
        self.key, self.state, self.started = key, state, time.monotonic()
        # The computation may outlive the request, and so has none of its deadline.
        context = contextvars.copy_context()
        context.run(DEADLINE.set, math.inf)
        self.task = asyncio.get_running_loop().create_task(work, context=context)
        self.waiting = 0
        self.is_unattended = False
        self.last_asked = self.started

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


class Computations:
    """The computations of one worker, by what is asked."""

    def __init__(self) -> None:
        self._running: dict[Key, _Running] = {}
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._durations = Durations()

    async def get(
        self,
        about: Hashable,
        question: Hashable,
        state: Hashable,
        compute: Callable[[], Coroutine[Any, Any, Computed]],
        wait_seconds: float | None,
    ) -> Computed | Pending:
        """Compute the answer to a question, or join a computation of it, for at most `wait_seconds` (None: no limit).

        `state` is the present state of the data, `about` what similar questions take equally long for. Raises
        TooManyComputations, and what `compute` raises.
        """
        key = about, question
        if (kept := self._find_kept(key)) is not None:
            return kept
        running = self._running.get(key)
        if running is None or not (running.is_unattended or running.state == state):
            running = self._start(key, about, state, compute)
        return await self._wait(about, running, wait_seconds)

    async def close(self) -> None:
        """Cancel what runs."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _find_kept(self, key: Key) -> Computed | None:
        while self._kept:
            oldest = next(iter(self._kept.values()))
            if time.monotonic() - oldest.finished < KEPT_SECONDS:
                break
            self._kept.popitem(last=False)
        found = self._kept.get(key)
        return None if found is None else found.computed()

    def _keep(self, key: Key, computed: Computed) -> None:
        content = b"" if computed.body is None else orjson.dumps(computed.body)
        self._kept.pop(key, None)
        self._kept[key] = _Kept(time.monotonic(), content, computed.version, computed.tag)
        while sum(len(kept.content) for kept in self._kept.values()) > MAX_KEPT_BYTES:
            self._kept.popitem(last=False)

    def _start(
        self, key: Key, about: Hashable, state: Hashable, compute: Callable[[], Coroutine[Any, Any, Computed]]
    ) -> _Running:
        running = _Running(key, state, compute())
        self._running[key] = running

        def end(task: asyncio.Task[Computed]) -> None:
            self._forget(running)
            if task.cancelled():
                return
            if (failure := task.exception()) is not None:
                if not running.waiting:
                    log.error("a computation of results failed: %s", key[0], exc_info=failure)
            elif running.is_unattended:
                self._durations.add(about, running.seconds)
                self._keep(key, task.result())

        running.task.add_done_callback(end)
        return running

    async def _wait(
        self, about: Hashable, running: _Running, wait_seconds: float | None
    ) -> Computed | Pending:
        running.waiting += 1
        running.last_asked = time.monotonic()
        try:
            done, _ = await asyncio.wait({running.task}, timeout=wait_seconds)
            if done:
                return running.task.result()
            self._leave_unattended(running)
            return Pending(self._durations.retry_after(about, running.seconds))
        finally:
            running.waiting -= 1
            if not running.waiting and not running.is_unattended:
                self._cancel(running)  # nobody wants it any more

    def _leave_unattended(self, running: _Running) -> None:
        now = time.monotonic()
        unattended = [one for one in self._running.values() if one.is_unattended]
        for one in unattended:
            if not one.waiting and now - one.last_asked > ABANDONED_SECONDS:
                self._cancel(one)
        if not running.is_unattended and len(unattended) >= MAX_UNATTENDED:
            raise TooManyComputations
        running.is_unattended = True

    def _cancel(self, running: _Running) -> None:
        self._forget(running)  # at once: nobody may join it between now and its end
        running.task.cancel()

    def _forget(self, running: _Running) -> None:
        if self._running.get(running.key) is running:
            del self._running[running.key]


class Durations:
    """How long computations took that were too long for a request, to say when to ask again."""

    def __init__(self) -> None:
        self._by_subject: OrderedDict[Hashable, deque[float]] = OrderedDict()
        self._all: deque[float] = deque(maxlen=50)

    def add(self, about: Hashable, seconds: float) -> None:
        """Remember a duration."""
        durations = self._by_subject.pop(about, None) or deque(maxlen=REMEMBERED)
        durations.append(seconds)
        self._by_subject[about] = durations
        self._all.append(seconds)
        if len(self._by_subject) > MAX_REMEMBERED:
            self._by_subject.popitem(last=False)

    def retry_after(self, about: Hashable, elapsed: float) -> int:
        """Whole seconds until a computation that has run for `elapsed` seconds is probably done.

        It is expected to take as long as the longest of those remembered about the same, without any as four in five
        of all others; one that takes longer, and the very first one, twice as long as so far.
        """
        own, others = self._by_subject.get(about), sorted(self._all)
        expected = 0.0
        if own:
            expected = max(own)
        elif others:
            expected = others[min(len(others) - 1, int(len(others) * 0.8))]
        remaining = MARGIN * expected - elapsed
        if remaining <= 0:
            remaining = elapsed
        return min(LONGEST_RETRY_SECONDS, max(1, math.ceil(remaining)))
