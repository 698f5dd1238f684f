"""The response to one request: takes WSGI's start_response, write and app_iter, and sends ASGI messages.

Fast path: the usual body is a list of one chunk. With `Connection.send_whole` it is sent with its head in one call, in
place of two ASGI messages and their dictionaries, after the greenlet has ended. To measure:
`python -m tests.benchmark_stages` (stages "HTTP server" and "environ and greenlet").
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from types import TracebackType
from typing import Any

from optimizely_api.runtime.aiopyramid_compat import await_in_greenlet
from optimizely_api.runtime.connection import Connection, Headers, Send, SendWhole
from optimizely_api.runtime.environ import Environ
from optimizely_api.runtime.refusals import CROSS_ORIGIN, error_body

Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

# RFC 9110 section 7.6.1; PEP 3333 leaves these to the server.
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
CONNECTION_CLOSE = (b"connection", b"close")


class ClientGone(Exception):
    """The server could not send, because the client has closed the connection."""


@lru_cache(maxsize=512)
def _header_name(name: str) -> bytes | None:
    lower = name.lower()
    return None if lower in _HOP_BY_HOP else lower.encode("latin-1")


class WsgiResponse:
    """The application's response. Its head is held back until the first byte of the body must be sent.

    `run` is called in the request's greenlet; the request's task sends the messages. A body that is a list or tuple,
    the usual case, is left in `chunks`, and `send_chunks` sends it after the greenlet has ended. Any other body is an
    iterator that may wait for coroutines: it is streamed from inside the greenlet, with one `send` for each chunk.
    """

    __slots__ = (
        "_bodyless",
        "_close",
        "_connection",
        "_headers",
        "_is_head",
        "_status",
        "chunks",
        "complete",
        "started",
    )

    def __init__(self, connection: Connection, *, is_head: bool, close: bool) -> None:
        self._connection = connection
        self._is_head = is_head
        self._close = close
        self._status: int | None = None
        self._headers: list[tuple[str, str]] = []
        self._bodyless = is_head
        self.chunks: list[bytes] | tuple[bytes, ...] | None = None
        self.started = False
        self.complete = False

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """WSGI's start_response: the head is stored, and sent with the first byte of the body (PEP 3333)."""
        if exc_info is not None:
            try:
                if self.started:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # breaks the reference cycle of frame and traceback
        elif self._status is not None:
            raise AssertionError("start_response() was called a second time without exc_info")
        self._status = int(status[:3])
        self._headers = list(headers)
        self._bodyless = self._is_head or self._status in (204, 304) or self._status < 200
        return self.write

    def write(self, data: bytes) -> None:
        """WSGI's write(): sends at once, and waits until the server accepts more."""
        if data:
            await_in_greenlet(self._send_body, data, True)

    def run(self, application: Application, environ: Environ) -> None:
        """Call the application, and stream its body if that is an iterator, whose `close()` is always called."""
        app_iter: Any = application(environ, self.start_response)
        if app_iter.__class__ is list or app_iter.__class__ is tuple:
            self.chunks = app_iter
            return
        try:
            for chunk in app_iter:
                if chunk:
                    self.write(chunk)
                    if self._bodyless:
                        break
            await_in_greenlet(self._send_body, b"", False)
        finally:
            close = getattr(app_iter, "close", None)
            if close is not None:
                close()

    async def send_chunks(self, chunks: "list[bytes] | tuple[bytes, ...]") -> None:
        """Send a complete body, with its length."""
        send_whole = self._connection.send_whole
        if len(chunks) < 2 and not self.started and send_whole is not None:
            await self._send_whole(send_whole, chunks[0] if chunks else b"")
            return
        if not self.started:
            await self._send_start(sum(map(len, chunks)))
        last = len(chunks) - 1
        for index, chunk in enumerate(chunks):
            await self._send_body(chunk, index < last)
        if last < 0:
            await self._send_body(b"", False)

    async def _send_whole(self, send_whole: SendWhole, body: bytes) -> None:
        status, headers = self._head(len(body))
        self.started = True
        await self._forward(send_whole(status, headers, b"" if self._bodyless else body))
        self.complete = True

    def _head(self, length: int | None) -> tuple[int, Headers]:
        """Return (status, headers); `length` is that of the body, if it is known."""
        status = self._status
        if status is None:
            raise AssertionError("the application did not call start_response()")
        headers = []
        for name, value in self._headers:
            key = _header_name(name)
            if key is None:
                continue
            if key == b"content-length":
                length = None
                if status == 204 or status < 200:  # RFC 9110 section 8.6
                    continue
            headers.append((key, value.encode("latin-1")))
        if length is not None and not self._bodyless:
            headers.append((b"content-length", b"%d" % length))
        if self._close:
            headers.append(CONNECTION_CLOSE)
        return status, headers

    async def _send_start(self, length: int | None) -> None:
        status, headers = self._head(length)
        self.started = True
        message = {"type": "http.response.start", "status": status, "headers": headers}
        await self._forward(self._connection.send(message))

    async def _send_body(self, data: bytes, more: bool) -> None:
        if not self.started:
            await self._send_start(None)
        if self._bodyless:
            data = b""
        self.complete = not more
        if data or not more:
            message = {"type": "http.response.body", "body": data, "more_body": more}
            await self._forward(self._connection.send(message))

    async def _forward(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except OSError as exc:  # ASGI 2.4: the client has gone
            raise ClientGone from exc


async def send_error(
    send: Send,
    status: int,
    code: str,
    message: str,
    *,
    close: bool = True,
    retry_after_seconds: int | None = None,
    error_id: str | None = None,
) -> str:
    """Send an error on behalf of the application, in the API's one error shape; returns its `uuid`."""
    error_id, body = error_body(code, message, error_id)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers.append((b"x-request-id", error_id.encode()))
    headers.extend((name.lower().encode(), value.encode()) for name, value in CROSS_ORIGIN)
    if retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % retry_after_seconds))
    if close:
        headers.append(CONNECTION_CLOSE)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
    return error_id
