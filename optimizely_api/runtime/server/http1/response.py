"""Write one response straight to the HTTP/1 connection, head and body in one write if possible.

Fast path: `Exchange.send_whole` takes a complete response without ASGI messages. The bridge guarantees lower-case names
and no hop-by-hop headers, so the head is checked with one match of an expression and joined once; the Date line is made
once a second. To measure: `python -m tests.benchmark_stages` (stage "HTTP server").
"""

import re
import time
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from optimizely_api.http.reasons import REASONS
from optimizely_api.runtime.connection import Headers, Message
from optimizely_api.runtime.server.http1.body import RequestBody
from optimizely_api.runtime.server.http1.head import Head, Version
from optimizely_api.runtime.wsgi_response import CONNECTION_CLOSE

if TYPE_CHECKING:
    from optimizely_api.runtime.server.protocol import GatewayProtocol

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUES = re.compile(rb"[ \t\x21-\x7e\x80-\xff]*")
# A tab is legal inside any value, so values joined by tabs can be checked with a single match.
_BETWEEN_VALUES = b"\t"
_SERVER = b"Server: gunicorn/asgi\r\n"
_JOINED_BYTES = 64 * 1024  # copying a larger body behind its head would cost more than a second write


class InvalidResponseHeader(Exception):
    """A header of the application would break the response; the message names the header, not its value."""


@lru_cache(maxsize=256)
def status_line(version: Version, status: int) -> bytes:
    """Return the first line of a response, with the reason phrase of RFC 9110."""
    reason = REASONS.get(status)
    if reason is None:
        try:
            reason = HTTPStatus(status).phrase
        except ValueError:
            reason = ""
    return f"HTTP/{version[0]}.{version[1]} {status} {reason}\r\n".encode("ascii")


class _DateLine:
    """Returns the current Date header, made once a second; it follows the clock even if that is set back."""

    def __init__(self) -> None:
        self._second = -1
        self._line = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
        return self._line


date_line = _DateLine()


@lru_cache(maxsize=512)
def _before_value(name: bytes) -> bytes:
    if not _NAME.fullmatch(name):
        raise InvalidResponseHeader(repr(name))
    return name + b": "


def _check_values(headers: Headers) -> None:
    """Raise InvalidResponseHeader for a value with CR, LF or another control."""
    if _VALUES.fullmatch(_BETWEEN_VALUES.join([value for _, value in headers])):
        return
    for name, value in headers:
        if not _VALUES.fullmatch(value):
            raise InvalidResponseHeader(repr(name))


class Exchange:
    """One request and the response to it: the bridge's `Connection`.

    It relies on the bridge: the names of headers are in lower case, the only hop-by-hop header is `CONNECTION_CLOSE`,
    and a status that forbids Content-Length has none. A response with an invalid header raises before its first byte
    is written.
    """

    __slots__ = ("_chunked", "_connection", "_head_bytes", "_missing", "_omits_body", "body", "closes", "complete",
                 "environ", "head", "headers", "sent_bytes", "started", "started_at", "status")  # fmt: skip
    cancels_on_disconnect = True
    reads_no_body = True

    def __init__(self, connection: "GatewayProtocol", head: Head) -> None:
        self._connection = connection
        self.head = head
        self.body = RequestBody(connection, head) if head.has_body else None
        self.environ: dict[str, object] | None = None  # for gunicorn's access log
        self.started = False
        self.complete = False
        self.closes = False
        self.status = 0
        self.headers: Headers = []
        self.sent_bytes = 0
        self.started_at = 0.0
        self._head_bytes = b""
        self._omits_body = False
        self._chunked = False
        self._missing: int | None = None  # bytes of Content-Length that are not written yet

    def is_open(self) -> bool:
        return not self._connection.is_closed

    async def receive(self) -> Message:
        """ASGI's receive; the bridge reads `body` instead."""
        raise RuntimeError("the body is read by `body.read()`")

    async def send(self, message: Message) -> None:
        """ASGI's send for a response; sends nothing if the client has gone."""
        if self._connection.is_closed:
            return
        if message["type"] == "http.response.start":
            self._start(message["status"], message["headers"])
        else:
            await self._write(message.get("body", b""), more=message.get("more_body", False))

    async def send_whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a complete response in one write."""
        if not self._connection.is_closed:
            self._start(status, headers)
            await self._write(body, more=False)

    @property
    def keeps_open(self) -> bool:
        """Whether another request may follow: not after `Connection: close`, nor after a body that is too short."""
        return self.complete and not (self.closes or self._missing)

    def _start(self, status: int, headers: Headers) -> None:
        head = self.head
        fields = dict(headers)
        lines = [status_line(head.version, status)]
        for name, value in headers:
            lines += (_before_value(name), value, b"\r\n")
        _check_values(headers)
        self._omits_body = head.method == "HEAD" or status in (204, 304) or status < 200
        if not self._omits_body:
            self._frame_body(fields.get(b"content-length"), lines)
        if b"server" not in fields:
            lines.append(_SERVER)
        if b"date" not in fields:
            lines.append(date_line())
        self.closes = (
            self.closes
            or CONNECTION_CLOSE in headers
            or not head.keep_alive
            or self._connection.ends_after(self)
        )
        if b"connection" not in fields:
            if self.closes:
                lines.append(b"Connection: close\r\n")
            elif head.version < (1, 1):
                # Otherwise HTTP/1.0 closes it (RFC 9112 section 9.3).
                lines.append(b"Connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self._head_bytes = b"".join(lines)
        self.started = True
        self.status, self.headers = status, headers

    def _frame_body(self, length: bytes | None, lines: list[bytes]) -> None:
        """Frame the body by its length, by chunks, or for HTTP/1.0 by closing (RFC 9112 section 6.3)."""
        if length is None:
            if self.head.version >= (1, 1):
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self.closes = True
            return
        with suppress(ValueError):
            self._missing = max(int(length), 0)

    async def _write(self, body: bytes, *, more: bool) -> None:
        """Write a part of the body, at most up to its declared length, and wait while the client does not read it."""
        if body.__class__ is not bytes:
            body = bytes(body)  # a copy: the transport keeps it, and the application may change a bytearray
        if self._omits_body:
            body = b""
        elif self._missing is not None:
            # The client would read bytes beyond the length as the next response (RFC 9112 section 6.3).
            body = body[: self._missing]
            self._missing -= len(body)
        self.sent_bytes += len(body)
        parts = self._frame(body, more=more)
        if not more:
            self.complete = True
        connection = self._connection
        if parts and len(body) <= _JOINED_BYTES:
            parts = [b"".join(parts)]
        for part in parts:
            connection.write(part)
        if connection.drained is not None:
            await connection.drained

    def _frame(self, body: bytes, *, more: bool) -> list[bytes]:
        """Return the bytes to write for a part of the body: the head before the first, nothing for an empty one."""
        if more and not body:
            return []
        parts = []
        if self._head_bytes:
            parts.append(self._head_bytes)
            self._head_bytes = b""
        if body:
            parts += (b"%x\r\n" % len(body), body, b"\r\n") if self._chunked else (body,)
        if not more and self._chunked:
            parts.append(b"0\r\n\r\n")
        return parts
