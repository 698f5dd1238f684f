"""The answer to one request of gunicorn's HTTP/1 protocol, put on the wire with as few steps as can be."""

import re
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gunicorn.asgi.protocol import _CACHED_SERVER_HEADER, _get_cached_date_header, _get_cached_status_line
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName
from gunicorn.http.message import TOKEN_RE
from gunicorn.http.wsgi import HEADER_VALUE_RE

from optimizely_api.runtime.answer import CONNECTION_CLOSE
from optimizely_api.runtime.caller import Headers, Message

if TYPE_CHECKING:
    from optimizely_api.runtime.protocol import GatewayProtocol

_NAME = re.compile(TOKEN_RE.pattern.encode("latin-1"))
_VALUES = re.compile(HEADER_VALUE_RE.pattern.encode("latin-1"))
# Every value may hold it: values with it between them are as they should be when all of them together are.
_BETWEEN_VALUES = b"\t"


@lru_cache(maxsize=512)
def _before_value(name: bytes) -> bytes:
    if not _NAME.fullmatch(name):
        raise InvalidResponseHeaderName(repr(name))
    return name + b": "


def _check_values(headers: Headers) -> None:
    """Raise InvalidResponseHeader, which names the header only, for a value with CR, LF or another control."""
    if _VALUES.fullmatch(_BETWEEN_VALUES.join([value for _, value in headers])):
        return
    for name, value in headers:
        if not _VALUES.fullmatch(value):
            raise InvalidResponseHeader(repr(name))


class Reply:
    """The bridge's `Caller` on a connection of gunicorn's, instead of ASGI's scope, `receive` and `send`.

    It does for answers what gunicorn's `_handle_http_request` does in its own `send`, on what the bridge leaves to do:
    the names of headers are in lower case, none is of a hop but `CONNECTION_CLOSE`, and a status that forbids
    Content-Length has none. An answer with an invalid header raises before its first byte is written.

    Relied upon of gunicorn 27: `_send_body`, which writes what waits in `_response_buffer` and one body or chunk;
    `_will_close`, `_closed`, `_flow_control.write_paused` and the header lines that it caches.
    """

    __slots__ = (
        "_chunked",
        "_left",
        "_omits_body",
        "_protocol",
        "_request",
        "closes",
        "complete",
        "receive",
        "started",
    )
    cancels_on_disconnect = True

    def __init__(self, protocol: "GatewayProtocol", request: Any) -> None:
        self._protocol = protocol
        self._request = request
        self.receive = protocol._body_receiver.receive
        self.started = False
        self.complete = False
        self.closes = False
        self._omits_body = False
        self._chunked = False
        self._left: int | None = None  # bytes that Content-Length still promises

    def is_open(self) -> bool:
        return not self._protocol._closed

    async def send(self, message: Message) -> None:
        """ASGI's send of an answer; of nothing, when the client has gone."""
        if self._protocol._closed:
            return
        if message["type"] == "http.response.start":
            self._start(message["status"], message["headers"])
        else:
            await self._write(message["body"], more=message["more_body"])

    async def send_whole(self, status: int, headers: Headers, body: bytes) -> None:
        """An answer in one write."""
        if not self._protocol._closed:
            self._start(status, headers)
            await self._write(body, more=False)

    @property
    def keeps_open(self) -> bool:
        """Whether another request may follow: not where this answer said, or its length shows, that none can."""
        worker = self._protocol.worker
        ends = self.closes or bool(self._left) or worker.nr + 1 >= worker.max_requests
        return bool(worker.alive) and not ends

    def _start(self, status: int, headers: Headers) -> None:
        protocol, request = self._protocol, self._request
        fields = dict(headers)
        lines = [_get_cached_status_line(request.version, status)]
        for name, value in headers:
            lines += (_before_value(name), value, b"\r\n")
        _check_values(headers)
        self._omits_body = protocol._response_omits_body(request.method, status)
        if not self._omits_body:
            self._frame_body(fields.get(b"content-length"), lines)
        if b"server" not in fields:
            lines.append(_CACHED_SERVER_HEADER)
        if b"date" not in fields:
            lines.append(_get_cached_date_header())
        self.closes = CONNECTION_CLOSE in headers or protocol.ends_after(request)
        if self.closes and b"connection" not in fields:
            lines.append(b"Connection: close\r\n")
        lines.append(b"\r\n")
        protocol.answer_begins(request, b"".join(lines))
        self.started = True

    def _frame_body(self, length: bytes | None, lines: list[bytes]) -> None:
        """RFC 9112 section 6.3: a length, chunks, or for HTTP/1.0 the end of the connection."""
        if length is None:
            if self._request.version >= (1, 1):
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
            return
        with suppress(ValueError):
            self._left = max(int(length), 0)

    async def _write(self, body: bytes, *, more: bool) -> None:
        """Write what may be written of the body, and wait while the client does not take it."""
        protocol = self._protocol
        if body.__class__ is not bytes:
            body = bytes(body)  # what may be changed once this has returned is not left with the transport
        if self._omits_body:
            body = b""
        elif self._left is not None:
            # What is over the length would be taken for the next answer (RFC 9112 section 6.3).
            body = body[: self._left]
            self._left -= len(body)
        if body:
            protocol._send_body(body, self._chunked, not more, len(body))
            if protocol._flow_control.write_paused:
                await protocol._flow_control.drain()
        elif not more:
            protocol.answer_ends_empty(chunked=self._chunked)
        if not more:
            self.complete = True
