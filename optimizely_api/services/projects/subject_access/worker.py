"""The worker: one background task of the service that does what subject access requests ask for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.addresses import (
    EXPERIMENTS_URL,
    RESULTS_URL,
    experiments_url,
    results_url,
)
from optimizely_api.services.http.application import DATABASE
from optimizely_api.services.projects.delivery.settings import read_settings
from optimizely_api.services.projects.lease import LONG_AGO, RENEWAL, LeaseHolder
from optimizely_api.services.projects.subject_access import store
from optimizely_api.services.projects.subject_access.sources import (
    TIME_LIMIT,
    NotNow,
    Refused,
    Sources,
    visitor_of,
    zipped,
)
from optimizely_api.services.storage.database import Database, is_unavailable
from optimizely_api.services_key import authorization, read_keys

FORGETTING = timedelta(hours=1)

T = TypeVar("T")
log = logging.getLogger("optimizely_api.services.projects.subject_access")


@dataclass(frozen=True)
class Surroundings:
    """What a worker gets from outside itself: the clock, and how often it looks."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    look_seconds: float = 1.0  # between two looks for requests
    pause_seconds: float = 5.0  # from an attempt that failed to the next


class _GivenUp(Exception):
    """The worker does not go on with the request."""


class Worker:
    """Works on requests while it has the lease; use it inside `running()`."""

    def __init__(
        self, database: Database, sources: Sources, public_url: str, surroundings: Surroundings | None = None
    ) -> None:
        """Make a worker; `sources` has the data, `public_url` is the gateway's address, as callers reach it."""
        self._database, self._sources, self._public_url = database, sources, public_url
        self._given = surroundings or Surroundings()
        self._lease = LeaseHolder(database, store.LEASE, self._given.now)
        self._closing = asyncio.Event()
        self._forgot = LONG_AGO
        self._postponed: dict[int, datetime] = {}  # requests that cannot be done now, and until when

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Worker]:
        """Run the worker; at the end, give up the request under way, and let another worker begin."""
        task = asyncio.create_task(self._run(), name="subject access requests")
        try:
            yield self
        finally:
            self._closing.set()
            await task

    async def _run(self) -> None:
        while not self._closing.is_set():
            pause = self._given.look_seconds
            try:
                while await self._work_on_next():
                    pass
            except Exception as exc:
                _log_failure("subject access requests wait", exc)
                pause = self._given.pause_seconds
            await self._closes_within(pause)
        await self._lease.let_go()

    async def _closes_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    async def _work_on_next(self) -> bool:
        """Work on the next request; whether there may be more to do now."""
        now = self._given.now()
        if now - self._forgot >= FORGETTING:
            await self._write(lambda each: store.forget_expired(each, now))
            self._forgot = now
        self._postponed = {number: until for number, until in self._postponed.items() if until > now}
        async with self._database.snapshot() as connection:
            request = await store.next_request(connection, self._postponed)
        if request is None or self._closing.is_set() or not await self._lease.holds():
            return False
        # Read again under the lease: the worker before may have finished it.
        async with self._database.snapshot() as connection:
            request = await store.get_unfinished(connection, request.id)
        if request is not None:
            await self._attempt(request)
        return True

    async def _attempt(self, request: Row[Any]) -> None:
        """Do what a request asks for; a service that is away is asked again until the request's deadline."""
        await self._write(lambda each: store.begin(each, request.id, self._given.now()))
        try:
            export = await self._call(request)
        except _GivenUp:
            return  # another worker goes on
        except Refused as exc:
            log.error("subject access request %d failed: %s", request.id, exc)
            await self._write(lambda each: store.fail(each, request.id, self._given.now()))
        except NotNow as exc:
            now = self._given.now()
            if now < request.sla_deadline_time:
                log.warning("subject access request %d waits: %s", request.id, exc)
                self._postponed[request.id] = now + timedelta(seconds=self._given.pause_seconds)
                return
            log.error("subject access request %d failed, its deadline has passed: %s", request.id, exc)
            await self._write(lambda each: store.fail(each, request.id, now))
        else:
            location = f"{self._public_url}/v2/subject-access-requests/{request.id}/export"
            await self._write(
                lambda each: store.complete(each, request.id, self._given.now(), export, location)
            )

    async def _call(self, request: Row[Any]) -> bytes | None:
        """Have the services do it; raises _GivenUp when the worker closes, or loses the lease, before they have."""
        call = asyncio.create_task(self._do(request))
        closing = asyncio.create_task(self._closing.wait())
        try:
            while not call.done():
                seconds = RENEWAL.total_seconds()
                await asyncio.wait({call, closing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if not call.done() and (closing.done() or not await self._lease.holds()):
                    raise _GivenUp
            return await call
        finally:
            call.cancel()
            closing.cancel()
            await asyncio.gather(call, closing, return_exceptions=True)

    async def _do(self, request: Row[Any]) -> bytes | None:
        """Delete the visitor's data, or return them in a ZIP file."""
        visitor = visitor_of(
            request.account_id, request.data_type, request.identifier_type, request.identifier
        )
        if request.request_type == "delete":
            if visitor is not None:
                await self._sources.erase(visitor)
            return None
        files = {} if visitor is None else await self._sources.export(visitor)
        return await asyncio.to_thread(zipped, files)

    async def _write(self, change: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with self._database.transaction() as connection:
            return await change(connection)


def _log_failure(what: str, exc: Exception) -> None:
    if is_unavailable(exc):
        log.warning("%s: %s", what, exc)
    else:
        log.error("%s", what, exc_info=exc)


async def with_worker(app: web.Application) -> AsyncIterator[None]:
    """Run a worker for the life of the application; of those of all processes, one works."""
    addresses = {EXPERIMENTS_URL: experiments_url(), RESULTS_URL: results_url()}
    if missing := [variable for variable, url in addresses.items() if not url]:
        log.warning("%s not set: subject access requests stay pending", " and ".join(missing))
        yield
        return
    headers, public_url = authorization(read_keys(os.environ)[0]), read_settings().public_url
    async with (
        aiohttp.ClientSession(timeout=TIME_LIMIT, headers=headers) as session,
        Worker(app[DATABASE], Sources(session, *addresses.values()), public_url).running(),
    ):
        yield
