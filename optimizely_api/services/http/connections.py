"""A connection of a service: aiohttp's, with deadlines for heads and for output, and no patience with tiny chunks.

`relied_on.py` lists the private names of aiohttp's `RequestHandler` that this needs, for which setup.py pins its minor
release: `_messages` and `_waiter`, in which the parsed heads wait, `_ErrInfo`, which stands for a head that is none.
"""

from __future__ import annotations

import asyncio
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web, web_protocol
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

from optimizely_api.http.framing import is_mostly_framing
from optimizely_api.services.http.application import (
    SERVICE_NAME,
    ServiceError,
    access_log,
    bad_request,
    error_response,
)
from optimizely_api.services.http.bodies import BoundedRequest

if TYPE_CHECKING:
    from optimizely_api.services.http.worker import ServiceWorker

# All connections of a worker read into the same memory: aiohttp's parser copies what it keeps. Only content of a known
# length is read in larger parts, so that little is parsed before chunks are found to be tiny, and little is held of a
# request that nobody reads.
_MEMORY = memoryview(bytearray(64 * 1024))
_SMALL_READ = _MEMORY[: 8 * 1024]
CODES = {400: "bad_request", 408: "request_timeout"}


class ConnectionReader(asyncio.BufferedProtocol):
    """The transport's side of a connection: reads in parts as large as the connection wants.

    A transport reads 256 KB at a time for a plain protocol, which aiohttp's are; each connection that waits would hold
    as much.
    """

    def __init__(self, connection: ServiceConnection) -> None:
        self._connection = connection
        self.was_made = False
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign]
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign]
        self.connection_lost = connection.connection_lost  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called first."""
        self.was_made = True
        self._connection.connection_made(transport)

    def get_buffer(self, _size_hint: int) -> memoryview:
        """Called before each read."""
        return self._connection.read_buffer()

    def buffer_updated(self, size: int) -> None:
        """Called after it."""
        self._connection.data_received(bytes(_MEMORY[:size]))


class ServiceConnection(RequestHandler):
    """One connection of a worker; `check` is called every now and then."""

    __slots__ = ("_body", "_head_began", "_is_chunked", "_is_deaf", "_is_silent", "_message", "_received",
                 "_unsent", "_unsent_since", "_wire", "worker")  # fmt: skip

    def __init__(self, worker: ServiceWorker, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.worker = worker
        self._wire: Any = None  # aiohttp forgets its transport while the last output is still under way
        self._head_began: float | None = None  # while a head is expected, or has come in part
        self._is_silent = True  # until the first byte
        self._is_deaf = False  # reads nothing any more
        self._message: Any = None  # the newest head that was parsed,
        self._body: StreamReader | None = None  # and its body, until that is whole
        self._is_chunked = False
        self._received = 0  # bytes that brought the body
        self._unsent = 0
        self._unsent_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The time for the first head begins."""
        self.worker.connections.add(self)
        self._wire = transport
        self._head_began = self._loop.time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another connection."""
        super().connection_lost(exc)
        self._body = self._message = None
        self.worker.connection_ended(self)

    def read_buffer(self) -> memoryview:
        """Where the next part of what the client sends is to be put."""
        return _MEMORY if self._body is not None and not self._is_chunked else _SMALL_READ

    def data_received(self, data: bytes) -> None:
        """Parse what has come; also called, without data, when a reader has made room and the parser may go on."""
        if self._is_deaf:
            return
        self._is_silent = False
        super().data_received(data)
        message, payload = self._messages[-1] if self._messages else (None, None)
        if message is not None and message is not self._message:
            self._next_message(message, payload)
        elif self._body is not None:
            self._received += len(data)
            if self._body.is_eof():
                self._body = None
            elif self._is_chunked and is_mostly_framing(self._received, self._body.total_bytes):
                self._break_body(bad_request("the chunks of the body are too small for their number"))
        elif data and self._head_began is None:
            self._head_began = self._loop.time()

    def _next_message(self, message: Any, payload: StreamReader | None) -> None:
        self._head_began = None
        self._message = message
        if isinstance(message, web_protocol._ErrInfo):
            # aiohttp says so after the response, for which the request may wait for the rest of its body.
            self._break_body(bad_request("the body's chunks are not valid HTTP"))
            return
        self._body = None if payload is None or payload.is_eof() else payload
        self._is_chunked = message.chunked
        self._received = 0

    def _break_body(self, error: ServiceError) -> None:
        """Read nothing any more; whoever reads the body that is under way gets the error."""
        self._is_deaf = True
        if self._body is not None and not self._body.is_eof():
            self._body.set_exception(error)
            self._body.feed_eof()
        self._body = None

    def check(self, now: float) -> None:
        """End the connection when its head, or its client's taking of output, is late."""
        limits = self.worker.limits
        if self._head_began is not None and now - self._head_began >= limits.head_timeout_seconds:
            self._head_is_late()
        if (unsent := self._wire.get_write_buffer_size()) != self._unsent or not unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since >= limits.write_timeout_seconds:
            self.worker.log.warning("Reset a connection whose client takes nothing of its response")
            self._wire.abort()

    def _head_is_late(self) -> None:
        self._head_began = None
        self._is_deaf = True
        if self._is_silent:
            self.force_close()
            return
        late = web_protocol._ErrInfo(408, TimeoutError(), "the head of the request did not arrive in time")
        self._messages.append((late, EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _handle_request(self, request: Any, *args: Any) -> Any:
        try:
            return await super()._handle_request(request, *args)
        finally:
            if isinstance(request, BoundedRequest):
                request.end()

    def handle_error(
        self,
        request: Any,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The services' own shape for what is no HTTP, or late, and a line in the access log."""
        if status not in CODES or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        reason = (message or HTTPStatus(status).phrase).strip().partition("\n")[0].rstrip(":")
        if status == HTTPStatus.BAD_REQUEST:
            reason = f"the request is not valid HTTP: {reason}"
        request_id = uuid.uuid4().hex
        response = error_response(status, CODES[status], reason, {"X-Request-Id": request_id})
        response.force_close()
        service = self.worker.application[SERVICE_NAME]
        fields = {"service": service, "request_id": request_id, "status": status, "reason": reason}
        access_log.info("request", extra={"fields": fields})
        return response
