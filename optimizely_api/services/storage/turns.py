"""A bounded line for the database: with a few connections, whoever comes late waits longer than a caller does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from optimizely_api.services.storage.deadlines import DeadlinePassed, seconds_left

MOST_WAITING = 200
LONGEST_WAIT_SECONDS = 5.0


class DatabaseBusy(Exception):
    """MOST_WAITING wait already, or the wait took LONGEST_WAIT_SECONDS; nothing was done."""

    def __init__(self) -> None:
        super().__init__("too many requests wait for the database; send the request again")


class Turns:
    """Lets `at_once` in at the same time, the others in the order in which they came."""

    def __init__(
        self,
        at_once: int,
        most_waiting: int = MOST_WAITING,
        longest_wait_seconds: float = LONGEST_WAIT_SECONDS,
    ) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._most_waiting = most_waiting
        self._longest_wait_seconds = longest_wait_seconds

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold a turn while the block runs. Raises DatabaseBusy, and DeadlinePassed when the request's time ends."""
        if self._turns.locked():
            await self._wait()
        else:
            await self._turns.acquire()  # at once
        try:
            yield
        finally:
            self._turns.release()

    async def _wait(self) -> None:
        if self._waiting >= self._most_waiting:
            raise DatabaseBusy
        left, longest = seconds_left(), self._longest_wait_seconds
        self._waiting += 1
        try:
            async with asyncio.timeout(min(left, longest)):
                await self._turns.acquire()
        except TimeoutError:
            raise (DeadlinePassed if left < longest else DatabaseBusy) from None
        finally:
            self._waiting -= 1
