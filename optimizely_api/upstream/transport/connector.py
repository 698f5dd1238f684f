"""The worker's connections to its services: aiohttp's connector, without `ClientSession` above it.

Fast path: the session's URLs, header maps, cookies, redirects, traces, body streams and timers cost more than the rest
of a call, and our calls need none of them. To measure: `python -m tests.upstream.benchmark_client`.

`TCPConnector` resolves names, races addresses, does TLS, limits the connections to a service
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

from optimizely_api.upstream.resilience.resting import Addresses
from optimizely_api.upstream.resilience.timing import LoopTiming
from optimizely_api.upstream.transport.connection import (
    ServiceConnection,
    ServiceRequest,
    ServiceResponse,
)
from optimizely_api.upstream.transport.contextvars_await import in_context
from optimizely_api.upstream.transport.patient_timeout import PatientTimeout

IDLE_SECONDS = 15.0  # an idle connection is closed after this
TOO_MANY_FILES = frozenset({errno.EMFILE, errno.ENFILE})
# A name that does not resolve, or a certificate that is not trusted: another attempt would fail too.
NOT_OF_THE_ADDRESS = (
    aiohttp.ClientConnectorDNSError,
    aiohttp.ClientConnectorSSLError,
    aiohttp.ClientConnectorCertificateError,
)
_NO_TIMEOUTS = aiohttp.ClientTimeout()  # none of aiohttp's: see `patient_timeout.py`


class Destination(aiohttp.ClientRequest):
    """The address of a service: the connector reads nothing else of a request, so one object serves every call."""

    @functools.cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class ServiceConnector(aiohttp.TCPConnector):
    """aiohttp's connector, with connections of our own class and requests sent through them.

    `context` is empty. Timers and transports keep the context that they were created in; created in a request's, they
    would keep that request and its response alive.
    """

    def __init__(
        self,
        connections: int,
        connect_timeout_seconds: float,
        most_body_bytes: int,
        *,
        most_connections: int = 0,
        echo_required: bool = True,
        addresses_rest: bool = True,
    ) -> None:
        """`connections` are those to one service, `most_connections` those to all together; 0 is any number.

        With `addresses_rest` few attempts are made at an address that takes no connections (`resting.py`). With
        `echo_required` a response without the number of its call is refused; one with another number always is.
        """
        # aiohttp counts only the connections in use; `_make_room` counts the idle ones too.
        super().__init__(limit=most_connections, limit_per_host=connections, keepalive_timeout=IDLE_SECONDS)
        self._most_connections = most_connections
        self._factory = functools.partial(  # type: ignore[assignment]
            ServiceConnection, self._loop, most_body_bytes, echo_required=echo_required
        )
        self._connect_timeout_seconds = connect_timeout_seconds
        self._addresses = Addresses(LoopTiming()) if addresses_rest else None
        self.context = contextvars.Context()

    async def request(
        self,
        destination: Destination,
        request: ServiceRequest,
        ends: float | None = None,
        *,
        on_new_connection: bool = False,
    ) -> ServiceResponse:
        """Send a request once, on an idle connection or on a new one, and return its response.

        Waits until the loop's time is `ends`; None waits for ever. Raises TimeoutError, aiohttp.ClientError or
        HttpProcessingError. A connection whose response is not complete, for whatever reason, is closed.
        """
        if on_new_connection:
            # The idle ones may be closed too; and if the limit of connections is reached, aiohttp may hand out one.
            self.close_idle(destination)
        connection = await self._take_idle_or_connect(destination, ends)
        # Writes come here, which may not be sent twice: one that meets a closed connection is an error to its caller.
        while connection.is_ended_by_service():
            self.discard(destination, connection)
            connection = await self._take_idle_or_connect(destination, ends)
        try:
            response = await connection.request(request, ends)
        except BaseException:
            self.discard(destination, connection)
            raise
        self.give_back(destination, connection)
        return response

    async def _take_idle_or_connect(self, destination: Destination, ends: float | None) -> ServiceConnection:
        """Return an idle connection or a new one; after a wait at the limit of connections it is one or the other."""
        connection = self.take_idle(destination)
        if connection is None:
            connection = await in_context(self.context, self._connect(destination, ends))
        return connection

    def take_idle(self, destination: Destination) -> ServiceConnection | None:
        """Return an idle connection, if there is one; hand it back with `give_back` or `discard`.

        As aiohttp's `_get()`, but without its wrapper object, and with the connection that was used last in place of
        the one that was idle for longest: connections left over from a peak can then reach their age limit.
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
        """Keep a connection for the next request, if it may be used again."""
        key = destination.connection_key
        if self._cleanup_handle is None:  # `_release` starts the timer that closes idle connections
            self.context.copy().run(self._release, key, connection)
        elif self._waiters or self._closed or connection.should_close:
            self._release(key, connection)
        else:  # what `_release` does when nobody waits for a connection
            self._acquired.discard(connection)
            self._acquired_per_host[key].discard(connection)
            self._conns[key].append((connection, time.monotonic()))

    def discard(self, destination: Destination, connection: ServiceConnection) -> None:
        """Close a connection whose response is not complete."""
        self._release(destination.connection_key, connection, should_close=True)

    def close_idle(self, destination: Destination) -> None:
        """Close all idle connections to a service."""
        for connection, _since in self._conns.pop(destination.connection_key, ()):
            connection.close()

    async def _connect(self, destination: Destination, ends: float | None) -> ServiceConnection:
        async with asyncio.timeout_at(ends):
            try:
                wrapper = await self._connect_twice_at_most(destination)
            except TimeoutError as exc:
                raise aiohttp.ConnectionTimeoutError from exc
        # Take the connection out of aiohttp's wrapper, which would release it when it is garbage-collected.
        connection, wrapper._protocol = wrapper._protocol, None
        return cast(ServiceConnection, connection)

    async def _connect_twice_at_most(self, destination: Destination) -> Any:
        # A full backlog drops a connection attempt, and a moment later accepts the next.
        try:
            return await self.connect(destination, [], _NO_TIMEOUTS)
        except TimeoutError:
            return await self.connect(destination, [], _NO_TIMEOUTS)

    async def _wait_for_available_connection(self, *args: Any) -> None:
        """Wait for a connection; a caller who leaves when the turn has just come passes it on."""
        try:
            await super()._wait_for_available_connection(*args)
        except asyncio.CancelledError:
            self._release_waiter()
            raise

    async def _create_connection(self, *args: Any) -> Any:
        self._make_room()
        return await super()._create_connection(*args)

    async def _resolve_host(self, *args: Any, **kwargs: Any) -> Any:
        """Return the addresses of a host that do not rest."""
        resolved = await super()._resolve_host(*args, **kwargs)
        if self._addresses is None:
            return resolved
        awake = self._addresses.awake([(each["host"], each["port"]) for each in resolved])
        return [each for each in resolved if (each["host"], each["port"]) in awake]

    async def _wrap_create_connection(self, *args: Any, addr_infos: Any, **kwargs: Any) -> Any:
        began = time.monotonic()
        tried = [sockaddr[:2] for *_, sockaddr in addr_infos]
        try:
            async with PatientTimeout(self._loop.time() + self._connect_timeout_seconds):
                made = await super()._wrap_create_connection(*args, addr_infos=addr_infos, **kwargs)
        except (aiohttp.ClientConnectorError, TimeoutError) as exc:
            if not isinstance(exc, NOT_OF_THE_ADDRESS) and getattr(exc, "errno", None) not in TOO_MANY_FILES:
                self._note_connect(began, failed=tried)
            raise
        # The name of the peer is another one at 0.0.0.0 and ::, and none where it has reset the connection since.
        peer = made[0].get_extra_info("peername")
        connected = tried[0] if len(tried) == 1 else peer and peer[:2]
        if connected in tried:
            # Those before it had a head start, and did not use it.
            self._note_connect(began, failed=tried[: tried.index(connected)], connected=connected)
        return made

    def _note_connect(self, began: float, failed: list[Any], connected: Any = None) -> None:
        if self._addresses is not None:
            for address in failed:
                self._addresses.failed(address, began)
            if connected is not None:
                self._addresses.connected(connected)

    def _make_room(self) -> None:
        """Close an idle connection, to whichever service, if a new one would exceed `most_connections`."""
        idle = sum(map(len, self._conns.values()))
        if not (self._most_connections and idle) or len(self._acquired) + idle <= self._most_connections:
            return
        connections = max(self._conns.values(), key=len)
        connection, _since = connections.popleft()
        connection.close()
