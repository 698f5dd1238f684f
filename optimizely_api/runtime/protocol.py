"""gunicorn's HTTP/1 protocol with what it lacks: deadlines for slow clients, a checked Host, prompt cancellation."""

import asyncio
import re
from typing import TYPE_CHECKING, Any

from gunicorn.asgi.parser import InvalidHeader
from gunicorn.asgi.protocol import ASGIProtocol

from optimizely_api.runtime.answer import CONNECTION_CLOSE
from optimizely_api.runtime.bridge import CANCELS_ON_DISCONNECT

if TYPE_CHECKING:
    from optimizely_api.runtime.worker import GatewayWorker

# host [":" port] of RFC 9110 section 7.2, in the characters of RFC 3986 section 3.2.2; it may be empty.
_HOST = re.compile(rb"(\[[0-9A-Za-z:.%_~-]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")

_EXTENSIONS: dict[str, dict[str, Any]] = {CANCELS_ON_DISCONNECT: {}}


class GatewayProtocol(ASGIProtocol):  # type: ignore[misc]
    """One client connection.

    A head that is not complete `header_timeout_seconds` after the connection was made, or after the first byte of a
    later request, closes the connection: with a 408 when it has begun. So does output that the client does not
    take for `write_timeout_seconds`. The time between requests is governed by gunicorn's `keepalive`.
    """

    worker: "GatewayWorker"

    def __init__(self, worker: "GatewayWorker") -> None:
        super().__init__(worker)
        self.was_made = False
        self._head_begun = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self.was_made = True
        self.worker.connections.add(self)
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_head_timer()
        self._stop_write_timer()
        self.worker.connection_ended(self)

    # The head

    def _start_head_timer(self) -> None:
        self._head_timer = self.worker.loop.call_later(
            self.worker.options.header_timeout_seconds, self._head_is_late
        )

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _feed_callback_parser(self, data: bytes) -> bool:
        go_on: bool = super()._feed_callback_parser(data)
        if go_on and not self._request_ready.is_set():
            self._head_begun = True
            if self._head_timer is None:
                # From here on the head's own deadline holds, not that of an idle connection.
                self._cancel_keepalive_timer()
                self._start_head_timer()
        return go_on

    def _arm_keepalive_timer(self) -> None:
        if not self._head_begun:
            super()._arm_keepalive_timer()

    def _on_headers_complete(self) -> bool:
        skip_body: bool = super()._on_headers_complete()
        self._head_begun = False
        self._stop_head_timer()
        self._check_host()
        return skip_body

    def _check_host(self) -> None:
        """RFC 9112 section 3.2: 400 when HTTP/1.1 has no Host, or when its value is none."""
        request = self._current_request
        for name, value in request.headers_bytes:
            if name == b"host":
                if _HOST.fullmatch(value) is None:
                    raise InvalidHeader("Invalid Host header")
                return
        if request.version >= (1, 1):
            raise InvalidHeader("Missing Host header")

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._closed or self._request_ready is None:  # HTTP/2 has its own framing
            return
        if self._head_begun:
            self._send_error_response(408, "The request's head did not arrive in time")
        self._close_now()

    # The answer

    def _build_http_scope(self, request: Any, sockname: Any, peername: Any) -> dict[str, Any]:
        scope: dict[str, Any] = super()._build_http_scope(request, sockname, peername)
        scope.setdefault("extensions", {}).update(_EXTENSIONS)
        return scope

    def _send_response_start(self, status: int, headers: Any, request: Any, close: bool = False) -> None:
        if headers and CONNECTION_CLOSE in headers:
            # gunicorn sends the header on, but does not act on it.
            request.must_close = True
        super()._send_response_start(status, headers, request, close)

    async def _serve_http_request(self, request: Any, sockname: Any, peername: Any) -> bool:
        keepalive: bool = await super()._serve_http_request(request, sockname, peername)
        return keepalive and not request.must_close

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._closed:
            self._stop_write_timer()

    def _start_write_timer(self) -> None:
        if self._write_timer is None:
            self._write_timer = self.worker.loop.call_later(
                self.worker.options.write_timeout_seconds, self.transport.abort
            )

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    # The end

    def _close_transport(self) -> None:
        super()._close_transport()
        # A closed transport still waits for its client to take what was written.
        if self.transport.get_write_buffer_size() > 0:
            self._start_write_timer()

    def _close_now(self) -> None:
        """Close, and let the task that serves the connection see it."""
        self._close_transport()
        if self._request_ready is not None:
            self._request_ready.set()

    def close_if_idle(self) -> None:
        """Close a connection on which no request has begun."""
        ready = self._request_ready
        if ready is not None and not (ready.is_set() or self._head_begun or self._finishing_calls):
            self._close_now()

    def cancel(self) -> "asyncio.Task[None] | None":
        """Cancel what the connection is doing; returns the task to wait for."""
        if self._task is not None:
            self._task.cancel()
        task: asyncio.Task[None] | None = self._task
        return task
