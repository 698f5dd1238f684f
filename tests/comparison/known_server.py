"""A server whose every answer is known beforehand, on the test's own event loop.

The path says what happens: /status/503, /close (no response), /cut (half an answer), /bad (not HTTP), /never, /chunked,
/until-close (the body ends with the connection), /last (whole, with Connection: close), and /twice, where a
connection's second request meets a closed door. Anything else is a 200. All come after `delay_seconds`, and none
while the server stalls.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from tests.support.ports import free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
ANSWERS = {
    b"/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    b"/bad": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    b"/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\n\r\n",
    b"/until-close": b"HTTP/1.1 200 OK\r\n\r\n{}",
    b"/last": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    b"/close": b"",
}
CLOSING = frozenset({b"/cut", b"/bad", b"/until-close", b"/last", b"/close"})


class KnownServer:
    def __init__(self, delay_seconds: float) -> None:
        self.delay_seconds = delay_seconds
        self.port = 0
        self.seen: Counter[str] = Counter()
        self.connections: set[_Connection] = set()
        self.opened = 0
        self._stalled_until = 0.0
        self._reached: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stall(self, seconds: float) -> None:
        """Answer nothing from now on until that is over; what waited is answered then, at once."""
        self._stalled_until = asyncio.get_running_loop().time() + seconds

    def wait(self) -> float:
        return max(self.delay_seconds, self._stalled_until - asyncio.get_running_loop().time())

    async def reached(self, requests: int) -> None:
        """Wait until this many requests have arrived."""
        future = asyncio.get_running_loop().create_future()
        self._reached.append((requests, future))
        await future

    def note(self, path: str) -> None:
        self.seen[path] += 1
        for requests, future in self._reached:
            if not future.done() and self.seen.total() >= requests:
                future.set_result(None)

    async def all_closed(self) -> None:
        while self.connections:
            await asyncio.sleep(0.005)


class _Connection(asyncio.Protocol):
    def __init__(self, server: KnownServer) -> None:
        self._server = server
        self._asked = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._server.connections.add(self)
        self._server.opened += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        assert data.endswith(b"\r\n\r\n"), "one whole request at a time"
        assert data.count(b"\r\n\r\n") == 1
        path = data.split(b" ", 2)[1]
        self._asked += 1
        self._server.note(path.decode())
        if path != b"/never":
            asyncio.get_running_loop().call_later(self._server.wait(), self._answer, path)

    def _answer(self, path: bytes) -> None:
        if self.transport.is_closing():
            return
        if path == b"/twice" and self._asked == 2:
            self.transport.close()
            return
        if path.startswith(b"/status/"):
            status = path.removeprefix(b"/status/")
            self.transport.write(b"HTTP/1.1 " + status + b" Known\r\nContent-Length: 2\r\n\r\n{}")
        else:
            self.transport.write(ANSWERS.get(path, OK))
        if path in CLOSING:
            self.transport.close()


@contextlib.asynccontextmanager
async def known_server(delay_seconds: float = 0.005) -> AsyncIterator[KnownServer]:
    known = KnownServer(delay_seconds)
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(known), "127.0.0.1", free_port(), backlog=1024
    )
    known.port = server.sockets[0].getsockname()[1]
    try:
        yield known
    finally:
        server.close()
        for connection in list(known.connections):
            connection.transport.abort()
        await known.all_closed()
        await server.wait_closed()
