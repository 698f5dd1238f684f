"""The little of an HTTP/1.1 server that a stub needs: one request after the other, each answered whole and in time."""

import asyncio
from typing import Final

import orjson

LARGEST_HEAD = 64 * 1024  # bytes
HEALTH: Final = b"/healthz"
_HEAD_END: Final = b"\r\n\r\n"
_REQUEST_ID: Final = b"\r\nX-Request-Id: "  # as the gateways write it
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


class HttpProtocol(asyncio.Protocol):
    """A connection of a server that answers one request after the other; subclasses say what."""

    def __init__(self, open_connections: "set[HttpProtocol]") -> None:
        self._open = open_connections
        self._buffer = b""
        self._request_id = b""  # of the request that is being answered: the services echo it
        self._transport: asyncio.Transport | None = None
        self._later: asyncio.TimerHandle | None = None
        self._authorization = b""  # the line that a head must have, if any

    def respond(self, method: bytes, target: bytes) -> tuple[bytes, float]:
        """The bytes to send, empty to close instead, and the seconds until then."""
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
        """Close at once, with whatever is on the way."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if self._later is None:
            self._next()

    def _next(self) -> None:
        """Take one whole request from what has arrived, if there is one."""
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            if len(self._buffer) > LARGEST_HEAD:
                self._write(b"")
            return
        head = self._buffer[:end]
        length = _body_length(head)
        if length is None:
            self._write(b"")
            return
        whole = end + len(_HEAD_END) + length
        if len(self._buffer) < whole:
            return
        self._buffer = self._buffer[whole:]
        self._request_id = head.partition(_REQUEST_ID)[2].partition(b"\r\n")[0]
        method, _, rest = head.partition(b" ")
        target = rest.partition(b" ")[0]
        # The health of the services is open to all. The key may be in the last line.
        if not self._authorization or target == HEALTH or self._authorization in head + b"\r\n":
            answer, delay = self.respond(method, target)
        else:
            answer, delay = http_error(401, "unauthorized"), 0.0
        if delay > 0:
            self._later = asyncio.get_running_loop().call_later(delay, self._answer_late, answer)
        else:
            self._write(answer)
            if self._buffer:
                self._next()

    def _answer_late(self, answer: bytes) -> None:
        self._later = None
        self._write(answer)
        if self._buffer:
            self._next()

    def _write(self, answer: bytes) -> None:
        if self._transport is None:
            return
        if answer and self._request_id:
            self._transport.write(answer.replace(b"\r\n", b"%b%b\r\n" % (_REQUEST_ID, self._request_id), 1))
        elif answer:
            self._transport.write(answer)
        else:
            self._buffer = b""
            self._transport.close()


def http_answer(status: int, value: object) -> bytes:
    body = orjson.dumps(value)
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def http_error(status: int, code: str, message: str = "From the stub of the services.") -> bytes:
    return http_answer(status, {"code": code, "message": message})


def _body_length(head: bytes) -> int | None:
    """The bytes of the body; None where this server cannot tell (a chunked body, or no number)."""
    lowered = head.lower()
    if b"\r\ntransfer-encoding:" in lowered:
        return None
    start = lowered.find(b"\r\ncontent-length:")
    if start < 0:
        return 0
    value = lowered[start + len(b"\r\ncontent-length:") :].partition(b"\r\n")[0].strip()
    return int(value) if value.isdigit() else None
