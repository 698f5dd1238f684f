"""The worker's connections to its services: aiohttp's client below `ClientSession`.

The session's URLs, header maps, cookies, redirects, traces, body streams and timers cost more than the rest of a call
and serve none of ours. What is relied on: `TCPConnector` resolves names, races addresses, does TLS, limits the
connections to a service and keeps idle ones, of which `_get()` takes one without waiting. It makes its protocols with
`_factory`, and reads of the `ClientRequest` given to `connect()` only where it leads.
"""

import asyncio
import functools
from typing import Any

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection

from .connection import Answer, IdleConnectionClosed, ServiceConnection


class Destination(aiohttp.ClientRequest):
    """Where a service is: all that the connector reads of a request, so that one serves for every call."""

    @functools.cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class ServiceConnector(aiohttp.TCPConnector):
    """aiohttp's connector, making connections of ours and asking through them."""

    def __init__(self, connections: int, connect_timeout_seconds: float, largest_body: int) -> None:
        super().__init__(limit=0, limit_per_host=connections)
        self._factory = functools.partial(ServiceConnection, self._loop, largest_body)  # type: ignore[assignment]
        self._timeouts = aiohttp.ClientTimeout(sock_connect=connect_timeout_seconds)

    async def ask(
        self, destination: Destination, request: bytes, limit_seconds: float, *, may_repeat: bool
    ) -> Answer:
        """Send a request on a free connection, or on a new one, and return its answer.

        Raises TimeoutError, aiohttp.ClientError or HttpProcessingError. A connection whose answer is not whole is
        closed, however that came about.
        """
        ends = self._loop.time() + limit_seconds
        try:
            return await self._ask_once(destination, request, ends)
        except IdleConnectionClosed:
            # A service may close an idle connection at the very moment it is used again. What changes nothing is
            # sent once more; of anything else nobody knows whether it was done (RFC 9110 section 9.2.2).
            if not may_repeat:
                raise
            return await self._ask_once(destination, request, ends)

    async def idle_connection(self, destination: Destination) -> Connection | None:
        """A connection that is free, without waiting; whoever takes it must close or release it."""
        return await self._get(destination.connection_key, [])

    def ask_for_ever(self, destination: Destination, request: bytes) -> "asyncio.Task[Answer]":
        """As `ask`, once and without a limit, in a task of its own."""
        return self._loop.create_task(self._ask_once(destination, request, None))

    async def _ask_once(self, destination: Destination, request: bytes, ends: float | None) -> Answer:
        # connect() begins with the same look for a free connection, which never waits.
        connection = await self._get(destination.connection_key, []) or await self._connect(destination, ends)
        try:
            protocol: Any = connection.protocol
            answer: Answer = await protocol.ask(request, ends)
        except BaseException:
            connection.close()
            raise
        connection.release()
        return answer

    async def _connect(self, destination: Destination, ends: float | None) -> Connection:
        async with asyncio.timeout_at(ends):
            try:
                return await self.connect(destination, [], self._timeouts)
            except TimeoutError as exc:
                raise aiohttp.ConnectionTimeoutError from exc
