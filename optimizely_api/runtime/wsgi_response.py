"""One request's answer: WSGI's side of it (start_response, write, app_iter) sent as ASGI messages."""

from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from types import TracebackType
from typing import Any

from optimizely_api.runtime.aiopyramid_compat import await_in_greenlet
from optimizely_api.runtime.connection import Caller, Headers, Send, SendWhole
from optimizely_api.runtime.environ import Environ
from optimizely_api.runtime.refusals import CROSS_ORIGIN, problem

Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

# RFC 9110 section 7.6.1; PEP 3333 leaves these to the server.
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
CONNECTION_CLOSE = (b"connection", b"close")


class ClientGone(Exception):
    """The server refused to send, because nobody is there to receive."""


@lru_cache(maxsize=512)
def _header_name(name: str) -> bytes | None:
    lower = name.lower()
    return None if lower in _HOP_BY_HOP else lower.encode("latin-1")


class Answer:
    """What the application says, held until its first byte must go out.

    `run` is called in the request's greenlet; the messages are sent by the request's task. A list or tuple, the
    usual case, is left in `chunks` for `send_chunks`, after the greenlet has ended; anything else is an iterator
    that may wait for coroutines, and is streamed from inside the greenlet, one `send` for a chunk.
    """

    __slots__ = (
        "_bodyless",
        "_caller",
        "_close",
        "_headers",
        "_is_head",
        "_status",
        "chunks",
        "complete",
        "started",
    )

    def __init__(self, caller: Caller, *, is_head: bool, close: bool) -> None:
        self._caller = caller
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
        """WSGI's start_response: kept, not sent, until the first byte of the body (PEP 3333)."""
        if exc_info is not None:
            try:
                if self.started:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # breaks the cycle of frame and traceback
        elif self._status is not None:
            raise AssertionError("start_response() was called a second time without exc_info")
        self._status = int(status[:3])
        self._headers = list(headers)
        self._bodyless = self._is_head or self._status in (204, 304) or self._status < 200
        return self.write

    def write(self, data: bytes) -> None:
        """WSGI's write(): sends at once and waits until the server takes more."""
        if data:
            await_in_greenlet(self._send_body, data, True)

    def run(self, application: Application, environ: Environ) -> None:
        """Call the application and stream what it returns; its `close()` is called whatever happens."""
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
        """Send a body that is wholly there, with its length."""
        send_whole = self._caller.send_whole
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
        await self._pass_on(send_whole(status, headers, b"" if self._bodyless else body))
        self.complete = True

    def _head(self, length: int | None) -> tuple[int, Headers]:
        """(status, headers); `length` is the body's where it is known."""
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
        await self._pass_on(self._caller.send(message))

    async def _send_body(self, data: bytes, more: bool) -> None:
        if not self.started:
            await self._send_start(None)
        if self._bodyless:
            data = b""
        self.complete = not more
        if data or not more:
            message = {"type": "http.response.body", "body": data, "more_body": more}
            await self._pass_on(self._caller.send(message))

    async def _pass_on(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except OSError as exc:  # ASGI 2.4: the client is gone
            raise ClientGone from exc


async def send_problem(
    send: Send,
    status: int,
    code: str,
    message: str,
    *,
    close: bool = True,
    retry_after_seconds: int | None = None,
    identity: str | None = None,
) -> str:
    """Send an error the application could not make itself, in its one shape; returns the `uuid` in it."""
    identity, body = problem(code, message, identity)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers.append((b"x-request-id", identity.encode()))
    headers.extend((name.lower().encode(), value.encode()) for name, value in CROSS_ORIGIN)
    if retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % retry_after_seconds))
    if close:
        headers.append(CONNECTION_CLOSE)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
    return identity
