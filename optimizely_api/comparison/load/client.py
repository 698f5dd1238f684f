"""A cheap HTTP/1.1 client for load: a request is bytes, a response is its status, and no request waits for another.

Rules: a request takes the connection that has been idle longest, so that all stay in use and a server's processes get
equal shares of the load. If none is idle, it opens a new one, up to a limit. If the server closes a kept-alive
connection before the first byte of the response, that is a race and not a failure: the request is sent once more, on a
new connection. Any other end of the connection before the response is complete is a `reset`.
"""

import asyncio
import errno
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, cast

from optimizely_api.comparison.load.response_reader import BadResponse, ResponseReader
from optimizely_api.comparison.load.result import BAD, NO_CONNECTION, REFUSED, RESET

CLOSE_SECONDS = 5.0
# The generator's machine is out of descriptors, ports or memory; the server is not at fault.
_OWN_LIMITS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})

Outcome = Callable[["Request", int, str], None]
"""Called once per request, with the status of its response, or with 0 and the kind of failure."""


class Request:
    """One request in flight; callers may subclass it to add fields.

    `response` is the reader of its connection, whose response is this request's until `Outcome` has been called.
    """

    __slots__ = ("connection", "done", "payload", "response", "sent_again")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.done = False
        self.sent_again = False
        self.connection: Connection | asyncio.Task[None] | None = None
        self.response: ResponseReader | None = None


class Connection(asyncio.Protocol):
    """One connection: idle, or with one request on it."""

    __slots__ = ("_pool", "_reader", "_request", "_transport", "_used")

    def __init__(self, pool: "ConnectionPool", request: Request) -> None:
        self._pool = pool
        self._request: Request | None = request
        self._reader = pool.new_reader()
        self._transport: asyncio.Transport | None = None
        self._used = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast("asyncio.Transport", transport)  # of uvloop, which is not an instance of it
        request, self._request = self._request, None
        if request is None or request.done:
            # Given up meanwhile. The cancelled task closes the connection without `connection_lost` (uvloop 0.23), so
            # the pool must not have it.
            made.abort()
            return
        self._transport = made
        self._pool.connections.add(self)
        self.send(request)

    def send(self, request: Request) -> None:
        self._request = request
        self._reader.begin()
        request.connection = self
        request.response = self._reader
        if self._transport is not None:
            self._transport.write(request.payload)

    def data_received(self, data: bytes) -> None:
        if self._request is None:  # a response without a request
            self.abort()
            return
        try:
            is_complete = self._reader.feed(data)
        except BadResponse:
            self._fail(BAD)
            return
        if is_complete:
            self._complete()

    def eof_received(self) -> None:
        """Close the connection; `connection_lost` finishes the response, if there is one."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        request, self._request = self._request, None
        self._transport = None
        self._reader.close()
        if request is None or request.done:
            return
        if self._used and not self._reader.begun and not request.sent_again:
            request.sent_again = True
            # Not on an idle connection: the server may be closing these too.
            self._pool.send_on_new(request)
        elif exc is None and self._reader.ends_at_close():
            self._pool.finish(request, self._reader.status, "")
        else:
            self._pool.finish(request, 0, RESET)

    def abort(self) -> None:
        """Close at once, without waiting for a response."""
        self._pool.idle.pop(self, None)
        self._request = None
        if self._transport is not None:
            self._transport.abort()

    def _complete(self) -> None:
        request, self._request = self._request, None
        self._used = True
        if self._reader.keep_alive:
            self._pool.idle[self] = None
        else:
            self.abort()
        if request is not None:
            self._pool.finish(request, self._reader.status, "")

    def _fail(self, kind: str) -> None:
        request = self._request
        self.abort()
        if request is not None:
            self._pool.finish(request, 0, kind)


class ConnectionPool:
    """The connections to one server; `on_outcome` is called at the end of every request that is not given up."""

    def __init__(
        self,
        host: str,
        port: int,
        limit: int,
        on_outcome: Outcome,
        new_reader: Callable[[], ResponseReader] = ResponseReader,
    ) -> None:
        self.connections: set[Connection] = set()
        self.idle: OrderedDict[Connection, None] = OrderedDict()
        self.most = 0
        self._address = (host, port)
        self.new_reader = new_reader
        self._limit = limit
        self._on_outcome = on_outcome
        self._connecting: set[asyncio.Task[None]] = set()
        self._closed: asyncio.Event | None = None

    def send(self, request: Request) -> None:
        if self.idle:
            self.idle.popitem(last=False)[0].send(request)
        else:
            self.send_on_new(request)

    def send_on_new(self, request: Request) -> None:
        count = len(self.connections) + len(self._connecting)
        if count >= self._limit:
            self.finish(request, 0, NO_CONNECTION)
            return
        self.most = max(self.most, count + 1)
        task = asyncio.get_running_loop().create_task(self._connect(request))
        request.connection = task
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def give_up(self, request: Request) -> None:
        """Stop waiting for a request: close its connection without calling `on_outcome`."""
        request.done = True
        connection, request.connection = request.connection, None
        if isinstance(connection, Connection):
            connection.abort()
        elif connection is not None:
            connection.cancel()

    def finish(self, request: Request, status: int, failure: str) -> None:
        if not request.done:
            request.done = True
            request.connection = None
            self._on_outcome(request, status, failure)

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.idle.pop(connection, None)
        if self._closed is not None and not self.connections:
            self._closed.set()

    async def close(self) -> None:
        """Close every connection and wait until all are closed."""
        connecting = list(self._connecting)
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        self._closed = asyncio.Event()
        for connection in list(self.connections):
            connection.abort()
        if self.connections:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._closed.wait()

    async def _connect(self, request: Request) -> None:
        host, port = self._address
        try:
            await asyncio.get_running_loop().create_connection(lambda: Connection(self, request), host, port)
        except OSError as exc:
            self.finish(request, 0, NO_CONNECTION if exc.errno in _OWN_LIMITS else REFUSED)


def resolve(host: str, port: int) -> tuple[str, int]:
    """The numeric address to connect to, looked up once. Raises OSError for an unknown host."""
    address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4]
    return str(address[0]), int(address[1])
