"""aiohttp's connection with deadlines for request heads and for output, and a limit on the framing of chunks.

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
from optimizely_api.services.http.bodies import BoundedRequest
from optimizely_api.services.http.errors import ServiceError, bad_request, error_response
from optimizely_api.services.http.log import SERVICE_NAME, access_log
from optimizely_api.services.http.questions import is_question
from optimizely_api.services.http.responses import RESPONSE_HEADERS
from optimizely_api.serving.log import log_request

if TYPE_CHECKING:
    from optimizely_api.services.http.worker import ServiceWorker

# All connections of a worker read into the same memory, because aiohttp's parser copies what it keeps. Only bodies of a
# known length are read in large parts: with small ones, tiny chunks are found before many are parsed, and little of an
# unread request is held.
_MEMORY = memoryview(bytearray(64 * 1024))
_SMALL_READ = _MEMORY[: 8 * 1024]
ERROR_CODES = {400: "bad_request", 408: "request_timeout"}


class ConnectionReader(asyncio.BufferedProtocol):
    """The transport's side of a connection: reads in parts as large as the connection asks for.

    aiohttp's connections are plain protocols, for which a transport reads 256 KB at a time; each waiting connection
    would hold as much.
    """

    def __init__(self, connection: ServiceConnection) -> None:
        self._connection = connection
        self.was_made = False
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign]
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign]
        self.connection_lost = connection.connection_lost  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is connected."""
        self.was_made = True
        self._connection.connection_made(transport)

    def get_buffer(self, _size_hint: int) -> memoryview:
        """Return the memory for the next read."""
        return self._connection.read_buffer()

    def buffer_updated(self, size: int) -> None:
        """Pass the bytes of one read on."""
        self._connection.data_received(bytes(_MEMORY[:size]))


class ServiceConnection(RequestHandler):
    """One connection of a worker, which calls `check` at short intervals."""

    __slots__ = ("_body", "_head_started_at", "_ignores_input", "_is_chunked", "_is_unused", "_message", "_received",
                 "_transport", "_unsent", "_unsent_since", "worker")  # fmt: skip

    def __init__(self, worker: ServiceWorker, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.worker = worker
        # aiohttp drops its own reference while the last output is still being sent.
        self._transport: Any = None
        self._head_started_at: float | None = None  # while a head is expected or incomplete
        self._is_unused = True  # until the first byte
        self._ignores_input = False
        self._message: Any = None  # the newest parsed head,
        self._body: StreamReader | None = None  # and its body, until that is complete
        self._is_chunked = False
        self._received = 0  # bytes of the body on the wire, framing included
        self._unsent = 0
        self._unsent_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the time limit of the first head."""
        self.worker.connections.add(self)
        self._transport = transport
        self._head_started_at = self._loop.time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another connection, and end the work on a question that nobody waits for any more."""
        request, task = self._current_request, self._task_handler
        super().connection_lost(exc)
        if task is not None and request is not None and is_question(request):
            task.cancel()
        self._body = self._message = None
        self.worker.connection_ended(self)

    def cancel(self) -> None:
        """End the connection at once, and the work on its request."""
        if self._task_handler is not None:
            self._task_handler.cancel()
        self._transport.abort()

    def read_buffer(self) -> memoryview:
        """The memory for the next read."""
        return _MEMORY if self._body is not None and not self._is_chunked else _SMALL_READ

    def data_received(self, data: bytes) -> None:
        """Parse input; called without data when a reader has emptied a full buffer and parsing may go on."""
        if self._ignores_input:
            return
        self._is_unused = False
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
        elif data and self._head_started_at is None:
            self._head_started_at = self._loop.time()

    def _next_message(self, message: Any, payload: StreamReader | None) -> None:
        self._head_started_at = None
        self._message = message
        if isinstance(message, web_protocol._ErrInfo):
            # aiohttp would report it after the response, for which the handler may wait for the rest of the body.
            self._break_body(bad_request("the body's chunks are not valid HTTP"))
            return
        self._body = None if payload is None or payload.is_eof() else payload
        self._is_chunked = message.chunked
        self._received = 0

    def _break_body(self, error: ServiceError) -> None:
        """Ignore further input, and raise the error in the handler that reads the body."""
        self._ignores_input = True
        if self._body is not None and not self._body.is_eof():
            self._body.set_exception(error)
            self._body.feed_eof()
        self._body = None

    def check(self, now: float) -> None:
        """End the connection when its head is late, or when its client reads no output."""
        limits = self.worker.limits
        if self._head_started_at is not None and now - self._head_started_at >= limits.head_timeout_seconds:
            self._refuse_late_head()
        if (unsent := self._transport.get_write_buffer_size()) != self._unsent or not unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since >= limits.write_timeout_seconds:
            self.worker.log.warning("Reset a connection whose client does not read its response")
            self._transport.abort()

    def _refuse_late_head(self) -> None:
        self._head_started_at = None
        self._ignores_input = True
        if self._is_unused:
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
        """Answer an invalid or late head in the services' error shape, with a line in the access log."""
        if status not in ERROR_CODES or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        reason = (message or HTTPStatus(status).phrase).strip().partition("\n")[0].rstrip(":")
        if status == HTTPStatus.BAD_REQUEST:
            reason = f"the request is not valid HTTP: {reason}"
        request_id = uuid.uuid4().hex
        application = self.worker.application
        headers = application[RESPONSE_HEADERS] | {"X-Request-Id": request_id}
        response = error_response(status, ERROR_CODES[status], reason, headers)
        response.force_close()
        fields = {
            "service": application[SERVICE_NAME],
            "request_id": request_id,
            "status": status,
            "reason": reason,
        }
        log_request(access_log, fields)
        return response
