"""One connection to a service: it sends a request as bytes and returns the complete response.

A response ends exactly where its framing says (RFC 9112 section 6). Any byte beyond that ends the connection, because
the next response on it could belong to another call. Each call has a number (`X-Request-Id`) that its response must
echo: the bytes alone do not show that an intermediary is one response behind.

Fast path: it replaces aiohttp's `ClientSession` with its header maps, body streams, redirects and traces, which cost
more than the rest of a call: on one machine a call took 43 us of CPU time in place of 125. To measure:
`python -m tests.upstream.benchmark_client` (this client and `ClientSession` in turn) and
`python -m tests.benchmark_stages` (stage "upstream calls").

aiohttp's `HttpResponseParser`, in C, checks the syntax and the lengths of heads, refuses what is not HTTP, and joins
chunks. It fills a `StreamReader` at once, and tells the protocol when that holds more than twice its limit.
`relied_on.py` lists the private names of aiohttp that this and connector.py need, for which setup.py pins its minor
release.
"""

import asyncio
import contextvars
import select
from collections.abc import Mapping
from typing import Any, Final, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser
from multidict import istr

ServiceRequest = tuple[bytes, str]  # the complete request, and its number, which the response must echo
ServiceResponse = tuple[int, bytes, Mapping[str, str]]  # status, complete body, headers (case-insensitive)

ECHO: Final = istr("X-Request-Id")
HEAD_BYTES = 16 * 1024  # the longest head, including all interim responses before it
# Their heads end them, though a 304 may have the framing of the 200 that it stands for (RFC 9112 section 6.3).
WITHOUT_BODY = frozenset({101, 204, 304})
INTERIM_RESPONSES = 10  # the most before the final one (RFC 9110 section 15.2)
# The framing of a chunked body may take this much plus an eighth of the body: a body in chunks of one byte costs a
# thousand times the CPU of its bytes. The parser gets each read in pieces, so that it parses little before we notice.
FRAMING_BYTES = 8 * 1024
PIECE_BYTES = 16 * 1024
_HEAD_END: Final = b"\r\n\r\n"
_CHUNKED_END: Final = b"\r\n0\r\n\r\n"

# The reader also pauses when it holds more small chunks than a sixteenth of its limit. One read of a socket brings at
# most 256 KiB, and a chunk takes at least 6 bytes: with this limit only a response that is too large can pause it.
LEAST_READER_LIMIT = 1024 * 1024


class Receiver(Protocol):
    """What a connection hands a response to, such as a future; once it is `done` it gets nothing more."""

    def done(self) -> bool: ...
    def set_result(self, response: ServiceResponse, /) -> object: ...
    def set_exception(self, error: BaseException, /) -> object: ...


class ResponseTooLarge(aiohttp.ClientError):
    """The body is longer than the limit."""


class ResponseEncoded(aiohttp.ClientError):
    """The response has a content or transfer coding although the request accepts none; it is not decoded."""


class ResponseToAnother(aiohttp.ClientError):
    """The response echoes the number of another call, or lacks the required echo."""


class ClosedBeforeResponse(aiohttp.ServerDisconnectedError):
    """The connection closed before the first byte of the response."""


class IdleConnectionClosed(ClosedBeforeResponse):
    """The same of a connection that had been used before."""


class ServiceConnection(ResponseHandler):
    """A connection with at most one request under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most_body_bytes: int, *, echo_required: bool) -> None:
        super().__init__(loop)
        # For timers. The connector creates connections in a context that belongs to no request: a cancelled timer may
        # stay in the loop for a while, and would keep the request of its context alive.
        self._context = contextvars.copy_context()
        self._used = False  # whether it has brought a response before
        self._most_body_bytes = most_body_bytes
        self._echo_required = echo_required
        self._receiver: Receiver | None = None
        self._number = ""
        self._reset_response()

    def request(self, request: ServiceRequest, ends: float | None) -> "asyncio.Future[ServiceResponse]":
        """Send a complete request and wait for the response until the loop's time is `ends`; None waits for ever.

        The future gets the response, or a TimeoutError, aiohttp.ClientError or HttpProcessingError.
        """
        response: asyncio.Future[ServiceResponse] = self._loop.create_future()
        self.send(request, ends, response)
        return response

    def send(self, request: ServiceRequest, ends: float | None, receiver: Receiver) -> None:
        """As `request`, but hand the response or the error to `receiver` as soon as it is there."""
        if self.transport is None:
            raise aiohttp.ClientConnectionResetError("The connection is gone already.")
        content, self._number = request
        self._receiver = receiver
        # A timer of the connection is cheaper than asyncio.timeout, and aiohttp cancels it wherever it closes.
        if ends is not None:
            self._read_timeout_handle = self._loop.call_at(ends, self._on_read_timeout, context=self._context)
        self.transport.write(content)

    def is_ended_by_service(self) -> bool:
        """Whether the service has closed the idle connection, or sent what nobody asked for, as the system knows it.

        The event loop learns of it only when it looks at its sockets next; a request written until then is lost. False
        of a new connection.
        """
        if self.transport is None or not self._used:
            return False
        of_transport = self.transport.get_extra_info("socket")
        if of_transport is None:
            return False  # a transport without a socket has nothing that it did not hand over
        readable = select.poll()
        readable.register(of_transport, select.POLLIN)
        return bool(readable.poll(0))

    def data_received(self, data: bytes) -> None:
        if self._receiver is None:
            # No request is under way: these bytes could be mistaken for the response to the next one.
            self.close()
            return
        try:
            if self._head is None:
                data = self._read_heads(data)
            if self._head is not None:
                self._read_body(data)
        except (HttpProcessingError, aiohttp.ClientError) as exc:
            self._fail(exc)

    def eof_received(self) -> None:
        """Let the transport close, but keep the timer: the transport closes only after all bytes are sent."""

    def close(self) -> None:
        # Nobody waits for a response, and the service may never read the rest of a request, nor end TLS: `close()` of a
        # transport waits for both.
        self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._receiver is not None:
            self._end_by_closing(exc)
        super().connection_lost(exc)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by the StreamReader when it is emptied; only a response that is too large has paused it."""

    def _on_read_timeout(self) -> None:
        if self._receiver is not None:
            self._fail(TimeoutError())

    def _reset_response(self) -> None:
        self._head: Any = None
        self._head_start = b""  # the bytes of a head that is not complete yet
        self._head_bytes = self._interim = 0
        self._length: int | None = None  # of the body; None if it is chunked or ends with the connection
        self._parts: list[bytes] = []
        self._size = self._received = 0  # bytes of the body, without and with its chunked framing
        self._last = b""  # the last bytes of a chunked body, with its framing

    def _read_heads(self, data: bytes) -> bytes:
        """Read the interim heads and the final one; return the bytes after it."""
        if self._head_start:
            data = self._head_start + data
        while (end := data.find(_HEAD_END) + len(_HEAD_END)) >= len(_HEAD_END):
            self._head_bytes += end
            if self._head_bytes > HEAD_BYTES:
                break
            message, rest = self._parse_head(data[:end]), data[end:]
            if message.code >= 200 or message.upgrade:
                self._accept_head(message)
                return rest
            self._interim += 1
            if self._interim > INTERIM_RESPONSES:
                raise _not_http("there are too many interim answers")
            data = rest
        self._head_start = data
        if self._head_bytes + len(data) > HEAD_BYTES:
            raise _not_http("its head is too long")
        if not b"HTTP/1".startswith(data[:6]):
            raise _not_http("it does not begin with a version of HTTP")
        return b""

    def _parse_head(self, head: bytes) -> Any:
        # A new parser for each response, so that no bytes of one are left over for the next.
        self._parser = HttpResponseParser(
            self,
            self._loop,
            max(self._most_body_bytes, LEAST_READER_LIMIT),
            payload_exception=aiohttp.ClientPayloadError,
            read_until_eof=True,
            auto_decompress=False,
        )
        try:
            messages, _upgraded, _ = self._parser.feed_data(head)
        except HttpProcessingError as exc:
            # Without the parser's message, which quotes the bytes: they may contain a token's hash of another call.
            raise _not_http(f"the parser says {type(exc).__name__}") from None
        # The parser accepts a bare line feed as the end of a head too, and would then have read into the body.
        if len(messages) != 1 or messages[0][1].total_bytes:
            raise _not_http("its head is ambiguous")
        ((message, payload),) = messages
        self._payload = payload if message.chunked else None
        return message

    def _accept_head(self, message: Any) -> None:
        headers = message.headers
        echo = headers.get(ECHO)
        # A proxy, or a server in trouble, sends its own error responses without an echo: from 500 up they are accepted.
        if echo != self._number and (echo is not None or (self._echo_required and message.code < 500)):
            raise ResponseToAnother
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ResponseEncoded
        if message.code in WITHOUT_BODY:
            self._length, self._payload = 0, None
            if message.chunked or (message.code == 204 and headers.get("Content-Length", "0") != "0"):
                self._should_close = True  # the announced body may come all the same
        elif message.chunked:
            if headers["Transfer-Encoding"].lower() != "chunked":
                raise ResponseEncoded
        elif (length := headers.get("Content-Length")) is not None:
            self._length = int(length)
            if self._length > self._most_body_bytes:
                raise ResponseTooLarge
        self._head = message
        if message.should_close or message.upgrade:
            self._should_close = True

    def _read_body(self, data: bytes) -> None:
        if self._payload is not None:
            self._read_chunks(data)
            return
        self._size += len(data)
        if self._length is None:
            self._parts.append(data)
            if self._size > self._most_body_bytes:
                raise ResponseTooLarge
        elif self._size < self._length:
            self._parts.append(data)
        else:
            if self._size > self._length:
                self._should_close = True  # there are bytes after the response
                data = data[: self._length - self._size]
            self._succeed(b"".join([*self._parts, data]) if self._parts else data)

    def _read_chunks(self, data: bytes) -> None:
        payload: Any = self._payload
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self._feed(piece)
            self._received += len(piece)
            self._last = (self._last + piece)[-len(_CHUNKED_END) :]
            if payload.total_bytes > self._most_body_bytes:
                raise ResponseTooLarge
            if self._received - payload.total_bytes > FRAMING_BYTES + payload.total_bytes // 8:
                raise _not_http("its chunks are too small")
            self._parts.append(payload.read_nowait())
            if payload.is_eof():
                # The parser has read any further bytes as trailers, or as the start of another head.
                if self._last != _CHUNKED_END or start + PIECE_BYTES < len(data):
                    self._should_close = True
                self._succeed(b"".join(self._parts))
                return

    def _feed(self, piece: bytes) -> None:
        parser: Any = self._parser
        try:
            messages, _upgraded, _ = parser.feed_data(piece)
        except HttpProcessingError as exc:
            raise _not_http(f"the parser says {type(exc).__name__}") from None
        if messages:
            self._should_close = True  # a second response to the one request

    def _end_by_closing(self, exc: BaseException | None) -> None:
        """End a body that has no length (RFC 9112 section 6.3), or fail because the response is incomplete."""
        if self._head is None:
            if self._head_start or self._interim:
                self._fail(aiohttp.ServerDisconnectedError())
            else:
                self._fail(IdleConnectionClosed() if self._used else ClosedBeforeResponse())
        elif exc is None and self._length is None and self._payload is None:
            self._succeed(b"".join(self._parts))
        else:
            self._fail(aiohttp.ClientPayloadError(f"The body is not complete: {exc!r}"))

    def _succeed(self, body: bytes) -> None:
        head = self._head
        receiver = self._end_request()
        if not receiver.done():
            receiver.set_result((head.code, body, head.headers))

    def _fail(self, error: BaseException) -> None:
        self._should_close = True
        receiver = self._end_request()
        if not receiver.done():
            receiver.set_exception(error)

    def _end_request(self) -> Receiver:
        receiver, self._receiver = self._receiver, None
        assert receiver is not None  # noqa: S101
        self._used = True
        self._drop_timeout()
        self._payload = self._parser = None
        self._reset_response()
        return receiver


def _not_http(why: str) -> HttpProcessingError:
    return HttpProcessingError(message=why)
