"""Group commit: batches that wait at the same time are stored in one transaction.

A commit costs a write to the disk whatever it holds, and only one transaction can write: so everything that
arrived while the last one was under way goes into the next.

A batch that is not stored in time is given up: its sender is told so and may send it again. One whose
transaction was under way may have been stored all the same; then the events' identities keep the second
sending from counting. No batch is ever stored in part.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from optimizely_api.services.results.ingest.batches import Batch
from optimizely_api.services.results.ingest.store import Stored, store
from optimizely_api.services.storage.database import Database, is_unavailable

MAX_EVENTS_TOGETHER = 5_000  # in one transaction, unless a single batch has more
MAX_EVENTS_WAITING = 200_000  # in memory; beyond, senders are asked to come back
MAX_WAIT_SECONDS = 10.0  # from taking a batch to its commit; the SDKs' own patience ends about there

log = logging.getLogger("optimizely_api.services.results")


class NotStoredError(Exception):
    """The batch is not stored, as far as is known, through no fault of its own; send it again."""


class TooMuchWaitingError(NotStoredError):
    """More events wait to be stored than memory should hold; nothing of the batch was taken."""


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
        self.transactions = 0  # since the start

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[GroupCommit]:
        """Run the writer; at the end, what still waits is stored first."""
        writer = asyncio.create_task(self._run(), name="results group commit")
        try:
            yield self
        finally:
            self._closing = True
            self._wake.set()
            await writer

    async def store(self, batch: Batch) -> None:
        """Return when the batch is durable; raises what kept it from being stored.

        NotStoredError when the database does not answer, or after MAX_WAIT_SECONDS; TooMuchWaitingError at
        once when too much waits already. A caller that is cancelled leaves its batch in: sent again, it finds
        its events stored and changes nothing.
        """
        if not batch.events:
            return
        if self._closing or self._events_waiting >= MAX_EVENTS_WAITING:
            raise TooMuchWaitingError("too many events wait to be stored; send the batch again")
        waiting = _Waiting(batch, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._events_waiting += len(batch.events)
        self._wake.set()
        try:
            await asyncio.wait_for(waiting.stored, MAX_WAIT_SECONDS)
        except TimeoutError as exc:
            self._give_up(waiting)
            raise NotStoredError("storing takes too long now; send the batch again") from exc

    def _give_up(self, waiting: _Waiting) -> None:
        with contextlib.suppress(ValueError):  # not there: its transaction is under way
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
                    if not item.stored.done():  # a bug or a cancelled writer: nobody may wait for ever
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
        """Store the group, in as many transactions as its work needs; every member hears how it went."""
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
        """One batch must not fail because of another that happened to wait beside it: try the halves.

        Not when the database is to blame: every further attempt would take as long, and others wait.
        """
        if is_unavailable(error):
            log.error("%d batches were not stored, the database failed: %s", len(group), error)
            for item in group:
                _finish(item, NotStoredError("the database does not answer; send the batch again"))
        elif len(group) == 1:
            _finish(group[0], error)
        else:
            log.warning("storing %d batches together failed, storing them apart: %r", len(group), error)
            half = len(group) // 2
            await self._store_group(group[:half])
            await self._store_group(group[half:])

    async def _commit(self, batches: list[Batch]) -> Stored:
        async with self._database.transaction() as connection:
            stored = await connection.run_sync(store, batches)
        self.transactions += 1
        if stored.dropped:
            _log_dropped(stored, batches[: stored.batches])
        return stored


def _log_dropped(stored: Stored, batches: Sequence[Batch]) -> None:
    log.warning(
        "left out %d parts of %d batches: %s",
        stored.dropped.total(),
        len(batches),
        ", ".join(f"{reason} ({count})" for reason, count in stored.dropped.items()),
        extra={
            "fields": {
                "account_ids": sorted({batch.account_id for batch in batches}),
                "dropped": stored.dropped.total(),
                "reasons": dict(stored.dropped),
            }
        },
    )


def _finish(item: _Waiting, error: Exception | None) -> None:
    if item.stored.done():  # its request was cancelled
        return
    if error is None:
        item.stored.set_result(None)
    else:
        item.stored.set_exception(error)
