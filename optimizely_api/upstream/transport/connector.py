"""The worker's connections to its services: aiohttp's client below `ClientSession`.

The session's URLs, header maps, cookies, redirects, traces, body streams and timers cost more than the rest of a call
and serve none of ours. `TCPConnector` resolves names, races addresses, does TLS, limits the connections to a service
and closes idle ones. `relied_on.py` lists its private names that this needs.
"""

import asyncio
import contextvars
import errno
import functools
import time
from typing import Any, cast

import aiohttp
from aiohttp.client_reqrep import ConnectionKey

from optimizely_api.upstream.transport.connection import (
    Answer,
    IdleConnectionClosed,
    Question,
    ServiceConnection,
)
from optimizely_api.upstream.transport.contextvars_await import in_context
from optimizely_api.upstream.transport.patient_timeout import PatientTimeout

IDLE_SECONDS = 15.0  # how long a connection without a call is kept
TOO_MANY_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_NO_TIMEOUTS = aiohttp.ClientTimeout()  # aiohttp's own; ours are more patient
# A name that leads nowhere, and a certificate that is not believed, are the same the next time.
_NO_USE_AGAIN = (
    aiohttp.ClientConnectorDNSError,
    aiohttp.ClientConnectorSSLError,
    aiohttp.ClientConnectorCertificateError,
)


class Destination(aiohttp.ClientRequest):
    """Where a service is: all that the connector reads of a request, so that one serves for every call."""

    @functools.cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class ServiceConnector(aiohttp.TCPConnector):
    """aiohttp's connector, making connections of ours and asking through them.

    `context` is nobody's: an event loop keeps the context in which it was told of a timer or a connection, and with a
    request's context the request, its answer included, for as long as the one or the other is there.
    """

    def __init__(
        self,
        connections: int,
        connect_timeout_seconds: float,
        largest_body: int,
        *,
        most_connections: int = 0,
        echo_required: bool = True,
    ) -> None:
        """`connections` are those to one service, `most_connections` those to all together; 0 is any number.

        With `echo_required` an answer that does not echo its call's number is refused; another's always is.
        """
        # aiohttp counts only connections in use; what it keeps idle counts in `_make_room`.
        super().__init__(limit=most_connections, limit_per_host=connections, keepalive_timeout=IDLE_SECONDS)
        self._most_connections = most_connections
        self._factory = functools.partial(  # type: ignore[assignment]
            ServiceConnection, self._loop, largest_body, echo_required=echo_required
        )
        self._connect_timeout_seconds = connect_timeout_seconds
        self.context = contextvars.Context()

    async def ask(
        self, destination: Destination, question: Question, limit_seconds: float, *, may_repeat: bool
    ) -> Answer:
        """Send a request on a free connection, or on a new one, and return its answer.

        Raises TimeoutError, aiohttp.ClientError or HttpProcessingError. A connection whose answer is not whole is
        closed, however that came about.
        """
        ends = self._loop.time() + limit_seconds
        try:
            return await self._ask_once(destination, question, ends)
        except IdleConnectionClosed:
            # A service may close an idle connection at the very moment it is used again. What changes nothing is
            # sent once more; of anything else nobody knows whether it was done (RFC 9110 section 9.2.2). Not on
            # another idle connection, which may have come to the same end.
            if not may_repeat:
                raise
            return await self._ask_on_a_new_one(destination, question, ends)

    def ask_for_ever(
        self, destination: Destination, question: Question, *, again: bool = False
    ) -> "asyncio.Task[Answer]":
        """As `ask`, once and without a limit, in a task of its own; `again` only on a new connection."""
        ask = self._ask_on_a_new_one if again else self._ask_once
        return self._loop.create_task(ask(destination, question, None))

    async def _ask_on_a_new_one(
        self, destination: Destination, question: Question, ends: float | None
    ) -> Answer:
        # Whoever waits for a place among a service's connections may be given an idle one: close them all.
        self.close_idle(destination)
        return await self._ask_once(destination, question, ends)

    async def _ask_once(self, destination: Destination, question: Question, ends: float | None) -> Answer:
        connection = self.take(destination)
        if connection is None:
            connection = await in_context(self.context, self._connect(destination, ends))
        try:
            answer = await connection.ask(question, ends)
        except BaseException:
            self.let_go(destination, connection)
            raise
        self.give_back(destination, connection)
        return answer

    def take(self, destination: Destination) -> ServiceConnection | None:
        """A connection that is free now; whoever takes it must give it back, or let it go.

        As aiohttp's `_get()`, without the object that it would put around one, and the one used last, in place of the
        one that is idle for longest: what a peak has left over can age and go.
        """
        key = destination.connection_key
        idle = self._conns.get(key)
        if not idle:
            return None
        now = time.monotonic()
        while idle:
            connection, since = idle.pop()
            if connection.is_connected() and now - since <= IDLE_SECONDS:
                self._acquired.add(connection)
                self._acquired_per_host[key].add(connection)
                return cast(ServiceConnection, connection)
            connection.close()
        return None

    def give_back(self, destination: Destination, connection: ServiceConnection) -> None:
        """Keep a connection for the next call, if it may be used again."""
        key = destination.connection_key
        if self._cleanup_handle is None:  # it begins to look for connections that are idle for too long
            self.context.copy().run(self._release, key, connection)
        elif self._waiters or self._closed or connection.should_close:
            self._release(key, connection)
        else:  # as _release() does when nobody waits
            self._acquired.discard(connection)
            self._acquired_per_host[key].discard(connection)
            self._conns[key].append((connection, time.monotonic()))

    def let_go(self, destination: Destination, connection: ServiceConnection) -> None:
        """Close a connection whose answer is not whole."""
        self._release(destination.connection_key, connection, should_close=True)

    def close_idle(self, destination: Destination) -> None:
        """Close all idle connections to a service."""
        for connection, _since in self._conns.pop(destination.connection_key, ()):
            connection.close()

    async def _connect(self, destination: Destination, ends: float | None) -> ServiceConnection:
        async with asyncio.timeout_at(ends):
            try:
                made = await self._connect_twice_at_most(destination)
            except TimeoutError as exc:
                raise aiohttp.ConnectionTimeoutError from exc
        connection, made._protocol = made._protocol, None  # looked after without the object around it
        return cast(ServiceConnection, connection)

    async def _connect_twice_at_most(self, destination: Destination) -> Any:
        # Nothing was sent yet, so that any call may be tried again: a backlog that is full for a moment drops what it
        # cannot hold, and takes the next.
        try:
            return await self.connect(destination, [], _NO_TIMEOUTS)
        except (TimeoutError, aiohttp.ClientConnectorError) as exc:
            if isinstance(exc, _NO_USE_AGAIN) or getattr(exc, "errno", None) in TOO_MANY_FILES:
                raise
        return await self.connect(destination, [], _NO_TIMEOUTS)

    async def _create_connection(self, *args: Any) -> Any:
        self._make_room()
        return await super()._create_connection(*args)

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        async with PatientTimeout(self._loop.time() + self._connect_timeout_seconds):
            return await super()._wrap_create_connection(*args, **kwargs)

    def _make_room(self) -> None:
        """Close an idle connection to any service where a new one would be one too many."""
        idle = sum(map(len, self._conns.values()))
        if not (self._most_connections and idle) or len(self._acquired) + idle <= self._most_connections:
            return
        connections = max(self._conns.values(), key=len)
        connection, _since = connections.popleft()
        connection.close()
