"""The worker's connections to its services: aiohttp's client below `ClientSession`.

The session's URLs, header maps, cookies, redirects, traces, body streams and timers cost more than the rest of a call
and serve none of ours. What is relied on: `TCPConnector` resolves names, races addresses, does TLS, limits the
connections to a service and keeps idle ones, of which `_get()` takes one without waiting. It makes its protocols with
`_factory`, and reads of the `ClientRequest` given to `connect()` only where it leads.
"""

import asyncio
import contextvars
import functools
from typing import Any

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection

from .connection import Answer, IdleConnectionClosed, ServiceConnection
from .context import in_context
from .patience import PatientTimeout

_NO_TIMEOUTS = aiohttp.ClientTimeout()  # aiohttp's own; ours are more patient


class Destination(aiohttp.ClientRequest):
    """Where a service is: all that the connector reads of a request, so that one serves for every call."""

    @functools.cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class ServiceConnector(aiohttp.TCPConnector):
    """aiohttp's connector, making connections of ours and asking through them."""

    def __init__(
        self,
        connections: int,
        connect_timeout_seconds: float,
        largest_body: int,
        *,
        most_connections: int = 0,
    ) -> None:
        """`connections` are those to one service, `most_connections` those to all together; 0 is any number."""
        # aiohttp counts only connections in use; what it keeps idle counts in `_make_room`.
        super().__init__(limit=most_connections, limit_per_host=connections)
        self._most_connections = most_connections
        self._factory = functools.partial(ServiceConnection, self._loop, largest_body)  # type: ignore[assignment]
        self._connect_timeout_seconds = connect_timeout_seconds
        self._context = contextvars.Context()

    async def ask(self, destination: Destination, request: bytes, limit_seconds: float) -> Answer:
        """Send a request on a free connection, or on a new one, and return its answer.

        Raises TimeoutError, aiohttp.ClientError or HttpProcessingError. A connection whose answer is not whole is
        closed, however that came about.
        """
        ends = self._loop.time() + limit_seconds
        try:
            return await self._ask_once(destination, request, ends)
        except IdleConnectionClosed:
            # A service may close an idle connection at the very moment it is used again. No call changes anything,
            # so it is sent once more.
            return await self._ask_once(destination, request, ends)

    async def _ask_once(self, destination: Destination, request: bytes, ends: float) -> Answer:
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

    async def _create_connection(self, *args: Any) -> Any:
        self._make_room()
        # A transport keeps the context that it was made in; the request's own leads to all that the request held.
        return await in_context(self._context, super()._create_connection(*args))

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        async with PatientTimeout(self._loop.time() + self._connect_timeout_seconds):
            return await super()._wrap_create_connection(*args, **kwargs)

    def _make_room(self) -> None:
        """Close an idle connection to any service where a new one would be one too many."""
        idle = sum(map(len, self._conns.values()))
        if not (self._most_connections and idle) or len(self._acquired) + idle <= self._most_connections:
            return
        key, connections = max(self._conns.items(), key=lambda item: len(item[1]))
        protocol, _since = connections.popleft()
        if not connections:
            del self._conns[key]
        protocol.close()

    async def _get(self, key: ConnectionKey, traces: list[Any]) -> Connection | None:
        # The one used last, in place of the one that is idle for longest: what a peak has left over can age and go.
        if connections := self._conns.get(key):
            connections.rotate(1)
        return await super()._get(key, traces)

    async def _connect(self, destination: Destination, ends: float) -> Connection:
        async with asyncio.timeout_at(ends):
            try:
                return await self.connect(destination, [], _NO_TIMEOUTS)
            except TimeoutError as exc:
                raise aiohttp.ConnectionTimeoutError from exc
