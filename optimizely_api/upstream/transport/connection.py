"""One connection to a service: a request goes out as bytes, the whole answer comes back.

An answer ends exactly where its framing says (RFC 9112 section 6); any byte beyond ends the connection, for the next
answer on it could be another call's. Each call has a number (`X-Request-Id`) that its answer must echo, because bytes
cannot show when a hop in between is an answer behind.

aiohttp's `HttpResponseParser`, in C, checks the syntax and the lengths of heads, refuses what is not HTTP, and joins
chunks. It fills a `StreamReader` at once, and tells the protocol when that holds more than twice its limit.
`relied_on.py` lists the private names of aiohttp that this and connector.py need, for which setup.py pins its minor
release.
"""

import asyncio
import contextvars
from collections.abc import Mapping
from typing import Any, Final, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser
from multidict import istr

Question = tuple[bytes, str]  # a whole request, and its number, which the answer must echo
Answer = tuple[int, bytes, Mapping[str, str]]  # status, whole body, headers by name in any case of letters

ECHO: Final = istr("X-Request-Id")
HEAD_BYTES = 16 * 1024  # the longest head, all interim answers before it included
INTERIM_ANSWERS = 10  # before the final one (RFC 9110 section 15.2)
# What frames a chunked body may take so much, and an eighth of the body: chunks of one byte cost a thousand times
# what their bytes do. A read is fed to the parser in pieces, so that little is parsed before this is noticed.
FRAMING_BYTES = 8 * 1024
PIECE_BYTES = 16 * 1024
_HEAD_END: Final = b"\r\n\r\n"
_CHUNKED_END: Final = b"\r\n0\r\n\r\n"

# The reader also pauses on more small chunks than a sixteenth of its limit. One read of a socket brings at most
# 256 KiB, and a chunk takes 6 bytes: with this much room only an answer that is too large can pause it.
LEAST_READER_LIMIT = 1024 * 1024


class Receiver(Protocol):
    """What takes an answer: a future does. Nothing more comes once it is `done`."""

    def done(self) -> bool: ...
    def set_result(self, answer: Answer, /) -> object: ...
    def set_exception(self, error: BaseException, /) -> object: ...


class AnswerTooLarge(aiohttp.ClientError):
    """The body is longer than is taken."""


class AnswerCoded(aiohttp.ClientError):
    """The answer has a content or transfer coding, although none was acceptable; nothing of it is decoded."""


class AnswerToAnother(aiohttp.ClientError):
    """The answer echoes the number of another call, or none where one has to be."""


class IdleConnectionClosed(aiohttp.ServerDisconnectedError):
    """A connection that had answered before ended without one byte of the next answer."""


class ServiceConnection(ResponseHandler):
    """A connection that asks one thing at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, largest_body: int, *, echo_required: bool) -> None:
        super().__init__(loop)
        # That in which it is made, which is no request's: cancelled timers may stay for a while, and keep theirs.
        self._context = contextvars.copy_context()
        self._used = False  # it has answered before
        self._largest_body = largest_body
        self._echo_required = echo_required
        self._answer: Receiver | None = None
        self._number = ""
        self._begin_answer()

    def ask(self, question: Question, ends: float | None) -> "asyncio.Future[Answer]":
        """Send a whole request and wait for the answer until the loop's time is `ends`; None waits for ever.

        The future brings the answer, or a TimeoutError, aiohttp.ClientError or HttpProcessingError.
        """
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self.send(question, ends, answer)
        return answer

    def send(self, question: Question, ends: float | None, answer: Receiver) -> None:
        """As `ask`, with the answer, or what came instead, going to `answer` the moment it is there."""
        if self.transport is None:
            raise aiohttp.ClientConnectionResetError("The connection is gone already.")
        request, self._number = question
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
        try:
            if self._head is None:
                data = self._read_heads(data)
            if self._head is not None:
                self._read_body(data)
        except (HttpProcessingError, aiohttp.ClientError) as exc:
            self._fail(exc)

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

    def _begin_answer(self) -> None:
        self._head: Any = None
        self._head_start = b""  # what has come of a head that is not whole
        self._head_bytes = self._interim = 0
        self._length: int | None = None  # of the body; None where it is chunked, or ends with the connection
        self._parts: list[bytes] = []
        self._size = self._received = 0  # bytes of the body, and of the body as it is framed
        self._last = b""  # the last bytes of a chunked body as it is framed

    def _read_heads(self, data: bytes) -> bytes:
        """Take the final head, with the interim ones before it; return what follows it."""
        if self._head_start:
            data = self._head_start + data
        while (end := data.find(_HEAD_END) + len(_HEAD_END)) >= len(_HEAD_END):
            self._head_bytes += end
            if self._head_bytes > HEAD_BYTES:
                break
            message, rest = self._parse_head(data[:end]), data[end:]
            if message.code >= 200 or message.upgrade:
                self._take_head(message)
                return rest
            self._interim += 1
            if self._interim > INTERIM_ANSWERS:
                raise _not_http("there are too many interim answers")
            data = rest
        self._head_start = data
        if self._head_bytes + len(data) > HEAD_BYTES:
            raise _not_http("its head is too long")
        if not b"HTTP/1".startswith(data[:6]):
            raise _not_http("it does not begin with a version of HTTP")
        return b""

    def _parse_head(self, head: bytes) -> Any:
        # A new parser for each answer, so that none begins with the remains of another.
        self._parser = HttpResponseParser(
            self,
            self._loop,
            max(self._largest_body, LEAST_READER_LIMIT),
            payload_exception=aiohttp.ClientPayloadError,
            read_until_eof=True,
            auto_decompress=False,
        )
        try:
            messages, _upgraded, _ = self._parser.feed_data(head)
        except HttpProcessingError as exc:
            # Not its own words, which quote what came: that may be another answer, with a token's hash in it.
            raise _not_http(f"the parser says {type(exc).__name__}") from None
        # The parser takes a bare line feed for the end of a head too, and would have read beyond it.
        if len(messages) != 1 or messages[0][1].total_bytes:
            raise _not_http("its head is ambiguous")
        ((message, payload),) = messages
        self._payload = payload if message.chunked else None
        return message

    def _take_head(self, message: Any) -> None:
        headers = message.headers
        echo = headers.get(ECHO)
        # What a proxy, or a server in trouble, says for itself knows no number, and is an error all the same.
        if echo != self._number and (echo is not None or (self._echo_required and message.code < 500)):
            raise AnswerToAnother
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise AnswerCoded
        if message.chunked:
            if headers["Transfer-Encoding"].lower() != "chunked":
                raise AnswerCoded
        elif message.code in (101, 204, 304):  # RFC 9112 section 6.3
            self._length = 0
        elif (length := headers.get("Content-Length")) is not None:
            self._length = int(length)
            if self._length > self._largest_body:
                raise AnswerTooLarge
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
            if self._size > self._largest_body:
                raise AnswerTooLarge
        elif self._size < self._length:
            self._parts.append(data)
        else:
            if self._size > self._length:
                self._should_close = True  # more was said than was asked
                data = data[: self._length - self._size]
            self._succeed(b"".join([*self._parts, data]) if self._parts else data)

    def _read_chunks(self, data: bytes) -> None:
        payload: Any = self._payload
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self._feed(piece)
            self._received += len(piece)
            self._last = (self._last + piece)[-len(_CHUNKED_END) :]
            if payload.total_bytes > self._largest_body:
                raise AnswerTooLarge
            if self._received - payload.total_bytes > FRAMING_BYTES + payload.total_bytes // 8:
                raise _not_http("its chunks are too small")
            self._parts.append(payload.read_nowait())
            if payload.is_eof():
                # Whatever else came has been taken for trailers or for the beginning of another head.
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
            self._should_close = True  # more answers than questions

    def _end_by_closing(self, exc: BaseException | None) -> None:
        """The end of a body without a length (RFC 9112 section 6.3), or a break."""
        if self._head is None:
            silent = not (self._head_start or self._interim)
            self._fail(IdleConnectionClosed() if self._used and silent else aiohttp.ServerDisconnectedError())
        elif exc is None and self._length is None and self._payload is None:
            self._succeed(b"".join(self._parts))
        else:
            self._fail(aiohttp.ClientPayloadError(f"The body is not complete: {exc!r}"))

    def _succeed(self, body: bytes) -> None:
        head = self._head
        answer = self._settled()
        if not answer.done():
            answer.set_result((head.code, body, head.headers))

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
        self._begin_answer()
        return answer


def _not_http(why: str) -> HttpProcessingError:
    return HttpProcessingError(message=why)
