"""A proxy between gateway and service that delays, cuts and falsifies responses, while faults are on.

It passes the bytes of requests on as they come, and reads each response to its end before it decides what the gateway
gets of it. A connection of the gateway has one to the service: where one closes, the other does.
"""

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

import httptools
import orjson

from optimizely_api.proof.faults import Fault

_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
_HEAD_END: Final = b"\r\n\r\n"
_ERROR: Final = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nfault\n"
)


class Response:
    """One response of a service: the bytes of its head and body, and the body without chunks."""

    __slots__ = ("body", "head", "rest")

    def __init__(self, data: bytes, body: bytes) -> None:
        self.head, _, self.rest = data.partition(_HEAD_END)
        self.body = body

    @property
    def data(self) -> bytes:
        return self.head + _HEAD_END + self.rest

    def with_body(self, body: bytes) -> bytes:
        """The response's bytes with another body and its length."""
        kept = [
            line
            for line in self.head.split(b"\r\n")
            if not line.lower().startswith((b"content-length:", b"transfer-encoding:"))
        ]
        return b"\r\n".join([*kept, b"Content-Length: %d" % len(body)]) + _HEAD_END + body


class FaultProxy:
    """The proxy before one service; `on` and `off` begin and end a fault, `counts` has the falsified responses."""

    def __init__(self, port: int, service_port: int, chance: random.Random) -> None:
        self.port = port
        self.service_port = service_port
        self.chance = chance
        self.counts: dict[str, int] = {}
        self.last: Response | None = None  # of those that were passed on
        self._faults: list[Fault] = []
        self._server: asyncio.Server | None = None
        self._connections: set[_Downstream] = set()

    async def listen(self) -> None:
        """Accept connections, if it does not yet."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: _Downstream(self, self._connections), "127.0.0.1", self.port, reuse_address=True
            )

    def refuse(self) -> None:
        """Refuse new connections, as where no service listens, and close the present ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.abort()

    def on(self, fault: Fault) -> None:
        self._faults.append(fault)

    def off(self, fault: Fault) -> None:
        self._faults.remove(fault)

    def fault(self) -> Fault | None:
        """The fault of the next response, by chance; None for most."""
        return next((fault for fault in self._faults if self.chance.random() < fault.share), None)


class _Downstream(asyncio.Protocol):
    """A connection of the gateway."""

    def __init__(self, proxy: FaultProxy, connections: "set[_Downstream]") -> None:
        self._proxy = proxy
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._service: _Upstream | None = None
        self._waiting: list[bytes] = []
        self._connecting: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._connections.add(self)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, service = await asyncio.get_running_loop().create_connection(
                lambda: _Upstream(self), "127.0.0.1", self._proxy.service_port
            )
        except OSError:
            self.abort()
            return
        self._service = service
        for data in self._waiting:
            service.write(data)
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._service is None:
            self._waiting.append(data)
        else:
            self._service.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        if self._connecting is not None:
            self._connecting.cancel()
        if self._later is not None:
            self._later.cancel()
        if self._service is not None:
            self._service.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def respond(self, response: Response) -> None:
        """Send what a fault makes of the response, or the response."""
        proxy, fault = self._proxy, self._proxy.fault()
        send = None if fault is None else _SENDERS[fault.kind]
        if fault is not None and send is not None and send(self, response, fault):
            proxy.counts[fault.kind] = proxy.counts.get(fault.kind, 0) + 1
            return
        if response.body:
            proxy.last = response
        self.write(response.data)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def another(self, response: Response) -> Response | None:
        """The last response to another call; None if there was none."""
        last = self._proxy.last
        return last if last is not None and last.body != response.body else None

    def send_late(self, response: Response, fault: Fault) -> bool:
        loop = asyncio.get_running_loop()
        self._later = loop.call_later(fault.delay, self.write, response.data)
        return True

    def send_half(self, data: bytes, *, reset: bool) -> None:
        """Send the first half, then close the connection."""
        if self._transport is None:
            return
        self.write(data[: len(data) // 2])
        if reset:
            connection: socket.socket = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            self._transport.abort()
        else:
            self._transport.close()

    def service_closed(self) -> None:
        """The service has closed its connection: so does this one, but not before a delayed response."""
        if self._later is None and self._transport is not None:
            self._transport.close()


class _Upstream(asyncio.Protocol):
    """The connection to the service that belongs to one of the gateway."""

    def __init__(self, gateway: _Downstream) -> None:
        self._gateway = gateway
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._data = b""
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._data:  # part of a response
            self._gateway.write(self._data)
        self._gateway.service_closed()

    # Called by the parser.

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        response = Response(self._data, b"".join(self._body))
        self._data = b""
        self._body.clear()
        self._gateway.respond(response)


Sender = Callable[[_Downstream, Response, Fault], bool]
"""Sends what a fault makes of a response; false if it can make nothing of it."""


def _send_reset(gateway: _Downstream, response: Response, _: Fault) -> bool:
    gateway.send_half(response.data, reset=True)
    return True


def _send_truncated(gateway: _Downstream, response: Response, _: Fault) -> bool:
    if response.body:
        gateway.send_half(response.data, reset=False)
    return bool(response.body)


def _send_bad_json(gateway: _Downstream, response: Response, _: Fault) -> bool:
    if response.body:
        gateway.write(response.with_body(response.body[: len(response.body) * 2 // 3] + b"\x00}"))
    return bool(response.body)


def _send_off_contract(gateway: _Downstream, response: Response, _: Fault) -> bool:
    value = _json(response.body)
    if isinstance(value, dict):
        gateway.write(
            response.with_body(orjson.dumps({name: _other_type(each) for name, each in value.items()}))
        )
    return isinstance(value, dict)


def _send_swapped(gateway: _Downstream, response: Response, _: Fault) -> bool:
    other = gateway.another(response)
    if other is not None:
        gateway.write(other.data)
    return other is not None


def _send_error(gateway: _Downstream, _response: Response, _: Fault) -> bool:
    gateway.write(_ERROR)
    return True


def _send_forged(gateway: _Downstream, response: Response, _: Fault) -> bool:
    forged = response.body.replace(b'"name":"', b'"name":"Not ')
    if forged != response.body:
        gateway.write(response.with_body(forged))
    return forged != response.body


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _other_type(value: Any) -> Any:
    return "text" if isinstance(value, int | float | bool) else 7


_SENDERS: Final[dict[str, Sender]] = {
    "slow": _Downstream.send_late,
    "reset": _send_reset,
    "truncated": _send_truncated,
    "bad-json": _send_bad_json,
    "off-contract": _send_off_contract,
    "swapped": _send_swapped,
    "error": _send_error,
    "forged": _send_forged,
}
