"""Group commit: batches that wait at the same time are stored in one transaction.

Every commit costs a disk write, whatever its size, and only one transaction can write at a time. So all batches that
arrive during a transaction go into the next one.

A batch that is not stored in time is given up: its sender gets a 503 and may send it again. If its transaction was
already running, the batch may have been stored after all; its events have identities, so they count once. No batch is
ever stored in part.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial

from optimizely_api.services.results.ingest.batches import Batch
from optimizely_api.services.results.ingest.dropped import log_dropped
from optimizely_api.services.results.ingest.store import Stored, store
from optimizely_api.services.results.statements import SLICE
from optimizely_api.services.storage.database import Database, is_unavailable

MAX_EVENTS_TOGETHER = 5_000  # in one transaction, unless a single batch has more
MAX_EVENTS_WAITING = 200_000  # in memory; beyond this number further batches get a 503
# What a batch may be expected to wait; one that would wait longer is refused at once, before its body is read.
LONGEST_EXPECTED_SECONDS = 3.0
LEARNED_FROM_EVENTS = 1_000  # in a transaction: what small ones take says nothing about large ones
LOG_SECONDS = 1.0
MAX_WAIT_SECONDS = 10.0  # from a batch's arrival to its commit; the SDKs give up after about this time

log = logging.getLogger("optimizely_api.services.results")


class NotStored(Exception):
    """The batch was probably not stored, for a reason outside the batch; the sender should send it again."""

    retry_after_seconds = 1


class TooManyWaiting(NotStored):
    """The batch would wait too long, or MAX_EVENTS_WAITING is reached; nothing of it was stored."""

    def __init__(self, expected_seconds: float) -> None:
        super().__init__("too many events wait to be stored; send the batch again")
        self.retry_after_seconds = max(1, math.ceil(expected_seconds))


@dataclass(eq=False)
class _Waiting:
    batch: Batch
    stored: asyncio.Future[None]
    given_up: bool = False


class GroupCommit:
    """Stores batches for many requests at once; use it inside `running()`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Waiting] = deque()
        self._events_waiting = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._events_per_second = 0.0  # of the last large transaction; 0 before the first
        self._busy_since: float | None = None  # while a transaction runs
        self._refused, self._logged_at = 0, -LOG_SECONDS
        self.transactions = 0  # since the start

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[GroupCommit]:
        """Run the writer; at the end, store the batches that still wait."""
        writer = asyncio.create_task(self._run(), name="results group commit")
        try:
            yield self
        finally:
            self._closing = True
            self._wake.set()
            await writer

    async def store(self, batch: Batch) -> None:
        """Return when the batch is durable; otherwise raise the reason.

        Raises NotStored when the database is unavailable, or after MAX_WAIT_SECONDS, and TooManyWaiting at once when
        too many events wait already. When a caller is cancelled its batch is still stored; sent again, it changes
        nothing.
        """
        if not batch.events:
            return
        self.check_room()
        waiting = _Waiting(batch, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._events_waiting += len(batch.events)
        self._wake.set()
        try:
            await asyncio.wait_for(waiting.stored, MAX_WAIT_SECONDS)
        except TimeoutError as exc:
            self._give_up(waiting)
            raise NotStored("storing takes too long now; send the batch again") from exc

    def check_room(self) -> None:
        """Raise TooManyWaiting if a batch that comes now would wait too long."""
        expected = self._expected_seconds()
        is_full = self._closing or self._events_waiting >= MAX_EVENTS_WAITING
        if not is_full and expected <= LONGEST_EXPECTED_SECONDS:
            return
        self._refused += 1
        now = time.monotonic()
        if now - self._logged_at >= LOG_SECONDS:
            log.warning(
                "refused %d batches since the last such line: %d events wait to be stored, for about %.1f s",
                self._refused,
                self._events_waiting,
                expected,
                extra={"fields": {"refused": self._refused, "events_waiting": self._events_waiting}},
            )
            self._refused, self._logged_at = 0, now
        raise TooManyWaiting(expected)

    def _expected_seconds(self) -> float:
        busy = 0.0 if self._busy_since is None else time.monotonic() - self._busy_since
        if not self._events_per_second:
            return busy
        return max(busy, self._events_waiting / self._events_per_second)

    def _give_up(self, waiting: _Waiting) -> None:
        with contextlib.suppress(ValueError):  # not in the queue: its transaction is running
            self._waiting.remove(waiting)
            self._events_waiting -= len(waiting.batch.events)
        waiting.given_up = True

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            group = self._take()
            try:
                await self._store_group(group)
            finally:
                for item in group:
                    # Only after a bug or when the writer is cancelled: no caller may wait for ever.
                    if not item.stored.done():
                        item.stored.cancel()

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        events = 0
        while self._waiting:
            size = len(self._waiting[0].batch.events)
            if group and events + size > MAX_EVENTS_TOGETHER:
                break
            events += size
            group.append(self._waiting.popleft())
        self._events_waiting -= events
        return group

    async def _store_group(self, group: Sequence[_Waiting]) -> None:
        """Store the group in as many transactions as its size needs, and finish every member."""
        while group := [item for item in group if not item.given_up]:
            try:
                stored = await self._commit([item.batch for item in group])
            except Exception as exc:
                await self._store_parts(group, exc)
                return
            for item in group[: stored.batches]:
                _finish(item, None)
            group = group[stored.batches :]

    async def _store_parts(self, group: Sequence[_Waiting], error: Exception) -> None:
        """Store the halves separately: one bad batch must not fail the others of its group.

        Not when the database is unavailable: every further attempt would take as long, and other batches wait.
        """
        if is_unavailable(error):
            log.error("%d batches were not stored, the database failed: %s", len(group), error)
            for item in group:
                _finish(item, NotStored("the database does not answer; send the batch again"))
        elif len(group) == 1:
            _finish(group[0], error)
        else:
            log.warning("storing %d batches together failed, storing them apart: %r", len(group), error)
            half = len(group) // 2
            await self._store_group(group[:half])
            await self._store_group(group[half:])

    async def _commit(self, batches: list[Batch]) -> Stored:
        events = sum(len(batch.events) for batch in batches)
        self._busy_since = began = time.monotonic()
        try:
            stored = await self._database.write(partial(store, batches=batches), is_short=events <= SLICE)
        finally:
            self._busy_since = None
        if events >= LEARNED_FROM_EVENTS:
            self._events_per_second = events / (time.monotonic() - began)
        self.transactions += 1
        if stored.dropped:
            accounts = sorted({batch.account_id for batch in batches[: stored.batches]})
            log_dropped(f"{stored.batches} batches", stored.dropped, {"account_ids": accounts})
        return stored


def _finish(item: _Waiting, error: Exception | None) -> None:
    if item.stored.done():  # the request was cancelled
        return
    if error is None:
        item.stored.set_result(None)
    else:
        item.stored.set_exception(error)
