"""The sender: one background task of the service that turns feeds into calls of receivers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.feed_reader import FeedFailed
from optimizely_api.services.projects.delivery import store
from optimizely_api.services.projects.delivery.feeds import Feed
from optimizely_api.services.projects.delivery.schedule import next_attempt
from optimizely_api.services.projects.delivery.signature import signature_headers
from optimizely_api.services.projects.delivery.store import Delivery, LeaseLost
from optimizely_api.services.projects.lease import LONG_AGO, LeaseHolder
from optimizely_api.services.storage.data_version import Version
from optimizely_api.services.storage.database import Database, is_unavailable

LOOK_SECONDS = 0.25  # between two looks for due deliveries; new ones are attempted at once
PAUSE_SECONDS = 1.0  # after a feed or the database has failed
FORGETTING = timedelta(hours=1)
ON_THE_WAY = timedelta(seconds=0.5)  # a response may be; a larger difference is that of two clocks

T = TypeVar("T")
log = logging.getLogger("optimizely_api.services.projects.delivery")


class Posting(Protocol):
    """What calls receivers: `post.Post`."""

    time_limit_seconds: float

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> str | None: ...


@dataclass(frozen=True)
class Surroundings:
    """What a sender gets from outside itself: the clock, chance, and how often it looks."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    random: Callable[[], float] = SystemRandom().random
    look_seconds: float = LOOK_SECONDS
    pause_seconds: float = PAUSE_SECONDS


class Sender:
    """Sends what the feeds give while it has the lease; use it inside `running()`."""

    def __init__(
        self,
        database: Database,
        feeds: Sequence[Feed],
        post: Posting,
        surroundings: Surroundings | None = None,
    ) -> None:
        """Make a sender; `post` calls receivers."""
        self._database, self._feeds, self._post = database, feeds, post
        self._given = surroundings or Surroundings()
        self._lease = LeaseHolder(database, store.LEASE, self._given.now)
        self._forgot = LONG_AGO
        self._without_webhooks: Version = None  # of the database, when it had none at the last look
        self._readers: dict[str, asyncio.Task[None]] = {}  # by feed
        self._calls: dict[int, asyncio.Task[None]] = {}  # by webhook: one call at a time keeps their order
        self._wake = asyncio.Event()
        self._closing = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Sender]:
        """Run the sender; at the end, let the calls under way end, and another sender begin."""
        task = asyncio.create_task(self._run(), name="webhook sender")
        try:
            yield self
        finally:
            self._closing = True
            self._wake.set()
            await task

    async def _run(self) -> None:
        while not self._closing:
            self._wake.clear()
            try:
                pause = await self._look()
            except Exception as exc:
                _log_failure("webhooks wait", exc)
                pause = self._given.pause_seconds
            # Not `wait_for`: in Python 3.11 it may lose a cancellation that comes at the same time as the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
        await self._stop_reading()
        await asyncio.gather(*self._calls.values(), return_exceptions=True)
        await self._lease.let_go()

    async def _look(self) -> float:
        """Begin what can be begun now; the seconds until there may be more."""
        if not await self._has_lease():
            await self._stop_reading()
            return self._given.look_seconds
        for feed in self._feeds:
            if feed.name not in self._readers:
                self._readers[feed.name] = asyncio.create_task(self._read(feed))
        now = self._given.now()
        if now - self._forgot >= FORGETTING:
            await self._write(lambda each: store.forget_old(each, now))
            self._forgot = now
        async with self._database.snapshot() as connection:
            attempts = await store.first_attempts(connection, now)
        attempts = {webhook_id: at for webhook_id, at in attempts.items() if webhook_id not in self._calls}
        for webhook_id, at in attempts.items():
            if at <= now:
                self._calls[webhook_id] = asyncio.create_task(self._call(webhook_id))
        waits = [(at - now).total_seconds() for at in attempts.values() if at > now]
        return min([self._given.look_seconds, *waits])

    # The lease

    async def _has_lease(self) -> bool:
        """Take or prolong the lease; nobody needs it without webhooks."""
        if not self._lease.is_fresh:
            if not self._database.may_have_changed(self._without_webhooks):
                return False
            seen = self._database.version()
            async with self._database.snapshot() as connection:
                if not await store.has_webhooks(connection):
                    self._without_webhooks = seen
                    return False
        had_it = self._lease.seconds_left > 0
        has_it = await self._lease.holds()
        if has_it and not had_it:
            log.info("this worker sends the webhooks from now on")
        return has_it

    def _may_call(self) -> bool:
        """Whether the lease outlasts a call that begins now, so that no other sender makes the same one."""
        return not self._closing and self._lease.seconds_left > self._post.time_limit_seconds

    # From the feeds to deliveries

    async def _read(self, feed: Feed) -> None:
        """Store the deliveries of one feed, until the task is cancelled."""
        has_failed = False
        while True:
            try:
                await self._read_once(feed)
                has_failed = False
            except LeaseLost:
                self._lease.has_lost_it()
                await asyncio.sleep(self._given.pause_seconds)  # the next look decides
            except Exception as exc:
                if not has_failed:  # one line for each time that it is away
                    _log_failure(f"the feed of {feed.name} cannot be read, webhooks wait", exc)
                has_failed = True
                await asyncio.sleep(self._given.pause_seconds)

    async def _read_once(self, feed: Feed) -> None:
        async with self._database.snapshot() as connection:
            before = await store.position(connection, feed.name)
        page = await feed.read(before)
        if page.last == before:
            return
        behind = _behind(page.clock, self._given.now())
        async with self._database.snapshot() as connection:
            messages = await feed.messages(connection, page.items)
        messages = [replace(message, created=message.created + behind) for message in messages]
        now = self._given.now()
        await self._write(
            lambda each: store.store_messages(each, self._lease.name, feed.name, page.last, messages, now)
        )
        self._wake.set()

    async def _stop_reading(self) -> None:
        for reader in self._readers.values():
            reader.cancel()
        await asyncio.gather(*self._readers.values(), return_exceptions=True)
        self._readers.clear()

    # From deliveries to calls

    async def _call(self, webhook_id: int) -> None:
        """Call one webhook's receiver for what is due, one call after the other, until one fails."""
        try:
            while self._may_call():
                async with self._database.snapshot() as connection:
                    delivery = await store.due_delivery(connection, webhook_id, self._given.now())
                if delivery is None or not await self._deliver(delivery):
                    return
        except Exception as exc:
            _log_failure(f"webhook {webhook_id} waits", exc)
            await asyncio.sleep(self._given.pause_seconds)
        finally:
            del self._calls[webhook_id]

    async def _deliver(self, delivery: Delivery) -> bool:
        """Attempt one delivery; whether the next one may follow at once."""
        if not delivery.is_wanted:
            await self._store(lambda each, now: store.finish(each, delivery, "dropped", now))
            return True
        body = delivery.body.encode()
        headers = {
            "X-Webhook-Delivery": delivery.uuid,
            **signature_headers(delivery.webhook["secret"], body),
        }
        # Again: the database may have taken long to say what is due.
        if not self._may_call():
            return False
        error = await self._post(delivery.webhook["url"], headers, body)
        if error is None:
            await self._store(lambda each, now: store.finish(each, delivery, "delivered", now))
            return True
        return await self._failed(delivery, error)

    async def _failed(self, delivery: Delivery, error: str) -> bool:
        failures = delivery.attempts + 1
        until = next_attempt(delivery.created, failures, self._given.now(), self._given.random)
        what = "webhook %d: attempt %d of delivery %s %s; %s"
        if until is None:
            log.error(what, delivery.webhook_id, failures, delivery.uuid, error, "given up")
            await self._store(lambda each, now: store.finish(each, delivery, "given_up", now, error))
            return True
        log.warning(what, delivery.webhook_id, failures, delivery.uuid, error, f"the next is at {until:%X}")
        await self._store(lambda each, now: store.postpone(each, delivery, until, now, error))
        return False

    async def _store(self, change: Callable[[AsyncConnection, datetime], Awaitable[None]]) -> None:
        """Store the end of an attempt, however long the database is away: the receiver knows it already."""
        while True:
            try:
                await self._write(lambda each: change(each, self._given.now()))
                return
            except Exception as exc:
                if not is_unavailable(exc) or self._closing:
                    raise
                _log_failure("the end of a webhook's call is not stored yet", exc)
                await asyncio.sleep(self._given.pause_seconds)

    async def _write(self, change: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with self._database.transaction() as connection:
            return await change(connection)


def _behind(clock: datetime | None, now: datetime) -> timedelta:
    """How far the clock of a feed's service is behind this one."""
    difference = timedelta() if clock is None else now - clock
    return difference if difference > ON_THE_WAY else timedelta()


def _log_failure(what: str, exc: Exception) -> None:
    if isinstance(exc, FeedFailed) or is_unavailable(exc):
        log.warning("%s: %s", what, exc)
    else:
        log.error("%s", what, exc_info=exc)
