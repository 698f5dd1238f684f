"""The worker's connections to its services: aiohttp's client below `ClientSession`.

The session's URLs, header maps, cookies, redirects, traces, body streams and timers cost more than the rest of a call
and serve none of ours. What is relied on: `TCPConnector` resolves names, races addresses, does TLS, limits the
connections to a service and closes idle ones. It makes its protocols with `_factory`, and reads of the `ClientRequest`
given to `connect()` only where it leads. `_conns` holds the idle ones of a service with the time since when they are,
`_acquired` and `_acquired_per_host` the busy ones; `_release()` takes one back, and closes it where it has to.
"""

import asyncio
import contextvars
import functools
import time
from typing import cast

import aiohttp
from aiohttp.client_reqrep import ConnectionKey

from .connection import NOBODYS, Answer, IdleConnectionClosed, ServiceConnection

Asked = tuple[ServiceConnection, asyncio.Future[Answer]]
IDLE_SECONDS = 15.0  # how long a connection without a call is kept


class Destination(aiohttp.ClientRequest):
    """Where a service is: all that the connector reads of a request, so that one serves for every call."""

    @functools.cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class ServiceConnector(aiohttp.TCPConnector):
    """aiohttp's connector, making connections of ours and asking through them."""

    def __init__(self, connections: int, connect_timeout_seconds: float, largest_body: int) -> None:
        super().__init__(limit=0, limit_per_host=connections, keepalive_timeout=IDLE_SECONDS)
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

    def ask_for_ever(self, destination: Destination, request: bytes) -> "asyncio.Task[Answer]":
        """As `ask`, once and without a limit, in a task of its own."""
        return self._loop.create_task(self._ask_once(destination, request, None), context=NOBODYS)

    async def _ask_once(self, destination: Destination, request: bytes, ends: float | None) -> Answer:
        connection = self.take(destination)
        if connection is None:
            connection, answering = await self._ask_a_new_one(destination, request, ends)
        else:
            answering = connection.ask(request, ends)  # raises nothing: the connection is there
        try:
            answer = await answering
        except BaseException:
            self.let_go(destination, connection)
            raise
        self.give_back(destination, connection)
        return answer

    def take(self, destination: Destination) -> ServiceConnection | None:
        """A connection that is free now; whoever takes it must give it back, or let it go.

        As aiohttp's `_get()`, without the object that it would put around one.
        """
        key = destination.connection_key
        idle = self._conns.get(key)
        if not idle:
            return None
        now = time.monotonic()
        while idle:
            connection, since = idle.popleft()
            if connection.is_connected() and now - since <= IDLE_SECONDS:
                self._acquired.add(connection)
                self._acquired_per_host[key].add(connection)
                return cast(ServiceConnection, connection)
            connection.close()
        return None

    def give_back(self, destination: Destination, connection: ServiceConnection) -> None:
        """Keep a connection for the next call, if it may be used again."""
        if self._cleanup_handle is None:  # it begins to look for connections that are idle for too long
            contextvars.Context().run(self._release, destination.connection_key, connection)
        else:
            self._release(destination.connection_key, connection)

    def let_go(self, destination: Destination, connection: ServiceConnection) -> None:
        """Close a connection whose answer is not whole."""
        self._release(destination.connection_key, connection, should_close=True)

    async def _ask_a_new_one(self, destination: Destination, request: bytes, ends: float | None) -> Asked:
        asking = self._loop.create_task(self._connect_and_ask(destination, request, ends), context=NOBODYS)
        try:
            return await asking
        except asyncio.CancelledError:
            if asking.done() and not asking.cancelled() and asking.exception() is None:
                self.let_go(destination, asking.result()[0])
            raise

    async def _connect_and_ask(self, destination: Destination, request: bytes, ends: float | None) -> Asked:
        async with asyncio.timeout_at(ends):
            try:
                made = await self.connect(destination, [], self._timeouts)
            except TimeoutError as exc:
                raise aiohttp.ConnectionTimeoutError from exc
        connection = cast(ServiceConnection, made.protocol)
        try:
            answering = connection.ask(request, ends)
        except BaseException:
            made.close()
            raise
        made._protocol = None  # from here on it is looked after without the object around it
        return connection, answering
