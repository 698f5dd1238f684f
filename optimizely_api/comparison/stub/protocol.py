"""A minimal HTTP/1.1 server for a stub: handles one request of a connection at a time, each response after a delay."""

import asyncio
from collections import deque
from typing import Final

import httptools
import orjson

HEALTH: Final = b"/healthz"
_REQUEST_ID: Final = b"\r\nX-Request-Id: "
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class _Request:
    """A request without its body: no response of a stub depends on one."""

    __slots__ = ("authorization", "method", "request_id", "target")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.request_id = b""
        self.authorization = b""


class HttpProtocol(asyncio.Protocol):
    """A connection to a server; subclasses say what it responds."""

    def __init__(self, open_connections: "set[HttpProtocol]") -> None:
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._arriving = _Request()
        self._waiting: deque[_Request] = deque()
        self._request_id = b""  # of the current request: the services echo it
        self._transport: asyncio.Transport | None = None
        self._later: asyncio.TimerHandle | None = None
        self._authorization = b""  # the header value that a request must have, if any

    def respond(self, method: bytes, target: bytes) -> tuple[bytes, float]:
        """The bytes to send (none to close the connection instead) and the delay in seconds."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._transport = None
        if self._later is not None:
            self._later.cancel()

    def abort(self) -> None:
        """Close at once, without sending pending responses."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._write(b"")
            return
        if self._later is None:
            self._next()

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._arriving = _Request()

    def on_url(self, url: bytes) -> None:
        self._arriving.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # The lengths first: most headers need no comparison then.
        if len(name) == len(b"x-request-id") and name.lower() == b"x-request-id":
            self._arriving.request_id = value
        elif len(name) == len(b"authorization") and name.lower() == b"authorization":
            self._arriving.authorization = value

    def on_message_complete(self) -> None:
        self._arriving.method = self._parser.get_method()
        self._waiting.append(self._arriving)

    def _next(self) -> None:
        """Respond to the waiting requests up to the first with a delay."""
        while self._waiting and self._later is None:
            request = self._waiting.popleft()
            self._request_id = request.request_id
            # The health of the services needs no key.
            is_allowed = request.target == HEALTH or request.authorization == self._authorization
            if is_allowed or not self._authorization:
                response, delay = self.respond(request.method, request.target)
            else:
                response, delay = http_error(401, "unauthorized"), 0.0
            if delay > 0:
                self._later = asyncio.get_running_loop().call_later(delay, self._respond_late, response)
            else:
                self._write(response)

    def _respond_late(self, response: bytes) -> None:
        self._later = None
        self._write(response)
        self._next()

    def _write(self, response: bytes) -> None:
        if self._transport is None:
            return
        if response and self._request_id:
            request_id_line = b"%b%b\r\n" % (_REQUEST_ID, self._request_id)
            self._transport.write(response.replace(b"\r\n", request_id_line, 1))
        elif response:
            self._transport.write(response)
        else:
            self._waiting.clear()
            self._transport.close()


def http_response(status: int, value: object) -> bytes:
    body = orjson.dumps(value)
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def http_error(status: int, code: str, message: str = "From the stub of the services.") -> bytes:
    return http_response(status, {"code": code, "message": message})
