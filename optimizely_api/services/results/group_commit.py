"""Group commit: batches that wait at the same time are stored in one transaction.

A commit costs a write to the disk whatever it holds, and only one transaction can write: so everything that
arrived while the last one was under way goes into the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from optimizely_api.services.database import Database
from optimizely_api.services.results.batches import Batch
from optimizely_api.services.results.ingest import store

MAX_EVENTS_TOGETHER = 5_000  # in one transaction, unless a single batch has more
MAX_EVENTS_WAITING = 200_000  # in memory; beyond, senders are asked to come back

log = logging.getLogger("optimizely_api.services.results")


class TooMuchWaitingError(Exception):
    """More events wait to be stored than memory should hold; nothing of the batch was taken."""


@dataclass
class _Waiting:
    batch: Batch
    stored: asyncio.Future[None]


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

        Raises TooMuchWaitingError at once when too much waits already. A caller that is cancelled leaves its
        batch in: sent again, it finds its events stored and changes nothing.
        """
        if not batch.events:
            return
        if self._closing or self._events_waiting >= MAX_EVENTS_WAITING:
            raise TooMuchWaitingError("too many events wait to be stored; send the batch again")
        waiting = _Waiting(batch, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._events_waiting += len(batch.events)
        self._wake.set()
        await waiting.stored

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
        try:
            await self._commit([item.batch for item in group])
        except Exception as exc:
            if len(group) == 1:
                _finish(group[0], exc)
                return
            # One batch must not fail because of another that happened to wait beside it.
            log.warning("storing %d batches together failed, storing them one by one: %r", len(group), exc)
            for item in group:
                await self._store_group([item])
        else:
            for item in group:
                _finish(item, None)

    async def _commit(self, batches: list[Batch]) -> None:
        async with self._database.transaction() as connection:
            await connection.run_sync(store, batches)
        self.transactions += 1


def _finish(item: _Waiting, error: Exception | None) -> None:
    if item.stored.done():  # its request was cancelled
        return
    if error is None:
        item.stored.set_result(None)
    else:
        item.stored.set_exception(error)
