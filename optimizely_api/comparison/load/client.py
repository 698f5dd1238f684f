"""A cheap HTTP/1.1 client for load: requests are bytes, answers are a status, and no call waits for another.

Rules: a request takes the connection that has been idle longest, so that all of them stay in use and a server's
processes get equal shares; where none is idle a new one is opened, up to a limit. A kept-alive connection that the
server closes before the first byte of an answer is a race and not a failure: the request is sent once more, on a new
connection. Any other end before the answer is whole is `reset`.
"""

import asyncio
import errno
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from optimizely_api.comparison.load.response_reader import AnswerReader, BadAnswer
from optimizely_api.comparison.load.result import BAD, NO_CONNECTION, REFUSED, RESET

CLOSE_SECONDS = 5.0
# The machine is out of descriptors, ports or memory, which says nothing about the server.
_OWN_LIMITS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})

Outcome = Callable[["Request", int, str], None]
"""Called once per request: with its answer's status, or with 0 and the kind of its failure."""


class Request:
    """One request on its way; whoever sends it may subclass it to remember more."""

    __slots__ = ("connection", "done", "payload", "sent_again")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.done = False
        self.sent_again = False
        self.connection: Connection | asyncio.Task[None] | None = None


class Connection(asyncio.Protocol):
    """One connection: idle, or with one request on it."""

    __slots__ = ("_answer", "_pool", "_request", "_transport", "_used")

    def __init__(self, pool: "ConnectionPool", request: Request) -> None:
        self._pool = pool
        self._request: Request | None = request
        self._answer = AnswerReader()
        self._transport: asyncio.Transport | None = None
        self._used = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._pool.connections.add(self)
        request, self._request = self._request, None
        if request is None or request.done:
            self._pool.idle[self] = None
        else:
            self.send(request)

    def send(self, request: Request) -> None:
        self._request = request
        self._answer = AnswerReader()
        request.connection = self
        if self._transport is not None:
            self._transport.write(request.payload)

    def data_received(self, data: bytes) -> None:
        if self._request is None:  # nothing was asked for
            self.abort()
            return
        try:
            whole = self._answer.feed(data)
        except BadAnswer:
            self._fail(BAD)
            return
        if whole:
            self._complete()

    def eof_received(self) -> None:
        """Closes: the answer, if there is one, ends in `connection_lost`."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        request, self._request = self._request, None
        self._transport = None
        if request is None or request.done:
            return
        if self._used and not self._answer.begun and not request.sent_again:
            request.sent_again = True
            # Other idle connections may be closing just as well, unnoticed yet.
            self._pool.send_on_new(request)
        elif exc is None and self._answer.ends_at_close():
            self._pool.finish(request, self._answer.status, "")
        else:
            self._pool.finish(request, 0, RESET)

    def abort(self) -> None:
        """Close at once, with whatever is on the way."""
        self._pool.idle.pop(self, None)
        self._request = None
        if self._transport is not None:
            self._transport.abort()

    def _complete(self) -> None:
        request, self._request = self._request, None
        self._used = True
        if self._answer.keep_alive:
            self._pool.idle[self] = None
        else:
            self.abort()
        if request is not None:
            self._pool.finish(request, self._answer.status, "")

    def _fail(self, kind: str) -> None:
        request = self._request
        self.abort()
        if request is not None:
            self._pool.finish(request, 0, kind)


class ConnectionPool:
    """The connections to one server; `on_outcome` hears of every request's end, except of those given up."""

    def __init__(self, host: str, port: int, limit: int, on_outcome: Outcome) -> None:
        self.connections: set[Connection] = set()
        self.idle: OrderedDict[Connection, None] = OrderedDict()
        self.most = 0
        self._address = (host, port)
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
        """Stop waiting for a request: its connection is closed, and `on_outcome` does not hear of it."""
        request.done = True
        waiting, request.connection = request.connection, None
        if isinstance(waiting, Connection):
            waiting.abort()
        elif waiting is not None:
            waiting.cancel()

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
        """Close every connection and wait until all are."""
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
