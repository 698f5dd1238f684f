"""One connection to a service: a request goes out as bytes, the whole answer comes back.

What is relied on of aiohttp, and why setup.py pins it, here and in connector.py:

- `ResponseHandler` is what the connector expects of a protocol: `is_connected()`, `should_close`, `close()`,
  `abort()`, `closed`. Its `_payload` and `_should_close` decide whether a connection may be used again; its timer,
  `_read_timeout_handle`, goes when the connection does.
- `HttpResponseParser`, in C, checks the syntax and the lengths of heads, refuses what is not HTTP, joins chunks and
  decompresses. It fills a `StreamReader` at once, and tells the protocol when that holds more than twice its limit.
"""

import asyncio
import contextvars
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser

Answer = tuple[int, bytes, Mapping[str, str]]  # status, whole body, headers by name in any case of letters

# The reader also pauses on more small chunks than a sixteenth of its limit. One read of a socket brings at most
# 256 KiB, and a chunk takes 6 bytes: with this much room only an answer that is too large can pause it.
LEAST_READER_LIMIT = 1024 * 1024


class Receiver(Protocol):
    """What takes an answer: a future does. Nothing more comes once it is `done`."""

    def done(self) -> bool: ...
    def set_result(self, answer: Answer, /) -> object: ...
    def set_exception(self, error: BaseException, /) -> object: ...


class AnswerTooLarge(aiohttp.ClientError):
    """The body is longer, as sent or once decompressed, than is taken."""


class IdleConnectionClosed(aiohttp.ServerDisconnectedError):
    """A connection that had answered before ended without one byte of the next answer."""


class ServiceConnection(ResponseHandler):
    """A connection that asks one thing at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, largest_body: int) -> None:
        super().__init__(loop)
        # That in which it is made, which is no request's: cancelled timers may stay for a while, and keep theirs.
        self._context = contextvars.copy_context()
        self._used = False  # it has answered before
        self._largest_body = largest_body
        self._answer: Receiver | None = None
        self._head: Any = None
        self._parts: list[bytes] = []

    def ask(self, request: bytes, ends: float | None) -> "asyncio.Future[Answer]":
        """Send a whole request and wait for the answer until the loop's time is `ends`; None waits for ever.

        The future brings the answer, or a TimeoutError, aiohttp.ClientError or HttpProcessingError.
        """
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self.send(request, ends, answer)
        return answer

    def send(self, request: bytes, ends: float | None, answer: Receiver) -> None:
        """As `ask`, with the answer, or what came instead, going to `answer` the moment it is there."""
        if self.transport is None:
            raise aiohttp.ClientConnectionResetError("The connection is gone already.")
        self._answer = answer
        # A timer of the connection's own is cheaper than asyncio.timeout, and aiohttp drops it wherever it closes.
        if ends is not None:
            self._read_timeout_handle = self._loop.call_at(ends, self._on_read_timeout, context=self._context)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            # Nobody asked: what comes next could be taken for the answer to another call.
            self.close()
            return
        if self._parser is None:
            # A new parser for each answer, so that none begins with the remains of another.
            self._parser = self._new_parser()
        try:
            messages, upgraded, _ = self._parser.feed_data(data)
        except HttpProcessingError as exc:
            self._fail(exc)
            return
        for message, payload in messages:
            self._begin(message, payload, upgraded)
        if self._payload is not None:
            self._take()

    def eof_received(self) -> None:
        """Let the transport close, but keep the timer: it does not close before all is sent."""

    def close(self) -> None:
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.abort()  # nobody waits any more for what is not sent yet, and the service may never take it
        else:
            super().close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._answer is not None:
            self._end_by_closing(exc)
        super().connection_lost(exc)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by the StreamReader when it is emptied; only an answer that is too large has paused it."""

    def _on_read_timeout(self) -> None:
        if self._answer is not None:
            self._fail(TimeoutError())

    def _new_parser(self) -> Any:
        return HttpResponseParser(
            self,
            self._loop,
            max(self._largest_body, LEAST_READER_LIMIT),
            payload_exception=aiohttp.ClientPayloadError,
            read_until_eof=True,
        )

    def _begin(self, message: Any, payload: Any, upgraded: bool) -> None:
        if message.code < 200 and not upgraded:
            return  # an interim answer (RFC 9110 section 15.2): the final one is still to come
        if self._payload is not None:
            self._should_close = True  # more answers than questions
            return
        self._head, self._payload = message, payload
        if message.should_close or upgraded:
            self._should_close = True

    def _take(self) -> None:
        payload: Any = self._payload
        if payload.exception() is not None:
            self._fail(payload.exception())
        elif payload.total_bytes > self._largest_body:
            self._fail(AnswerTooLarge())
        elif not payload.is_eof():
            self._parts.append(payload.read_nowait())
        elif self._parts:
            self._parts.append(payload.read_nowait())
            self._succeed(b"".join(self._parts))
        else:
            self._succeed(payload.read_nowait())

    def _end_by_closing(self, exc: BaseException | None) -> None:
        """The end of a body without a length (RFC 9112 section 6.3), or a break."""
        if self._payload is None:
            silent = self._parser is None
            self._fail(IdleConnectionClosed() if self._used and silent else aiohttp.ServerDisconnectedError())
            return
        parser: Any = self._parser
        try:
            if exc is None:
                parser.feed_eof()
        except HttpProcessingError as incomplete:
            exc = incomplete
        if exc is None and self._payload.is_eof():
            self._take()
        else:
            self._fail(aiohttp.ClientPayloadError(f"The body is not complete: {exc!r}"))

    def _succeed(self, body: bytes) -> None:
        answer = self._settled()
        if not answer.done():
            answer.set_result((self._head.code, body, self._head.headers))

    def _fail(self, error: BaseException) -> None:
        self._should_close = True
        answer = self._settled()
        if not answer.done():
            answer.set_exception(error)

    def _settled(self) -> Receiver:
        answer, self._answer = self._answer, None
        assert answer is not None  # noqa: S101
        self._used = True
        self._drop_timeout()
        self._payload = self._parser = None
        self._parts = []
        return answer
