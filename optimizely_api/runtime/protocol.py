"""gunicorn's HTTP/1 protocol with what it lacks: deadlines for slow clients, a checked Host, prompt cancellation,
and errors in the API's one shape.
"""

import asyncio
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from gunicorn.asgi.parser import InvalidHeader, InvalidRequestLine, PythonProtocol
from gunicorn.asgi.protocol import ASGIProtocol

from optimizely_api.runtime.answer import CONNECTION_CLOSE
from optimizely_api.runtime.authority import is_authority, is_target
from optimizely_api.runtime.bridge import CANCELS_ON_DISCONNECT, AsgiBridge
from optimizely_api.runtime.environ import Environ, connection_environ, request_environ
from optimizely_api.runtime.parser import HeadParser
from optimizely_api.runtime.problem import CROSS_ORIGIN, log_access, problem, refusal
from optimizely_api.runtime.reply import Reply

if TYPE_CHECKING:
    from optimizely_api.runtime.worker import GatewayWorker

# What gunicorn calls differently from RFC 9110, or Python before 3.13 did.
_REASONS = {414: "URI Too Long"}
_PROTOCOLS = {(1, 1): "HTTP/1.1", (1, 0): "HTTP/1.0"}


class GatewayProtocol(ASGIProtocol):  # type: ignore[misc]
    """One client connection.

    A head that is not complete `header_timeout_seconds` after the connection was made, or after the first byte of a
    later request, closes the connection: with a 408 when it has begun. So does output that the client does not
    take for `write_timeout_seconds`. The time between requests is governed by gunicorn's `keepalive`.

    What the client wants to upgrade to is ignored (RFC 9110 section 7.8): its request is answered like any other.

    The bridge is given each request by `Reply`, without ASGI's messages between. Other applications are served by
    gunicorn's own `_handle_http_request`; so is the bridge where gunicorn itself has something to do for each request:
    its hooks `pre_request` and `post_request`, its access log, and the uWSGI protocol.
    """

    worker: "GatewayWorker"
    # gunicorn's, which are None between two requests or after the last.
    _callback_parser: Any
    _body_receiver: Any
    _response_buffer: bytes | None

    def __init__(self, worker: "GatewayWorker") -> None:
        super().__init__(worker)
        self.was_made = False
        self._head_begun = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._answered: Any = None  # the last request whose answer has begun
        self._extensions: dict[str, dict[str, Any]] = {CANCELS_ON_DISCONNECT: {"is_open": self._is_open}}
        self._environs: dict[str, Environ] = {}  # by scheme: what requests have in common
        self._asks_bridge = isinstance(self.app, AsgiBridge) and not (
            self._pre_request or self._post_request or self.log.access_log_enabled or self._uses_uwsgi
        )

    def _is_open(self) -> bool:
        return not self._closed

    def connection_made(self, transport: Any) -> None:
        self.was_made = True
        self.worker.connections.add(self)
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_head_timer()
        self._stop_write_timer()
        # These lead back here: without them what a connection held goes with it, and not only when the collector comes.
        self._callback_parser = None
        self._extensions = {}
        if self._task is None or self._task.done():
            self._body_receiver = None
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

    def _setup_callback_parser(self) -> None:
        super()._setup_callback_parser()
        if type(self._callback_parser) is PythonProtocol:
            self._callback_parser.__class__ = HeadParser

    def _http1_buffered(self) -> int:
        held: int = super()._http1_buffered()
        parser = self._callback_parser
        if type(parser) is HeadParser and parser.is_complete:
            held += len(parser._buffer)  # gunicorn counts those of its very own parser only
        return held

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
        self._check_target()
        self._check_host()
        return skip_body

    def _is_websocket_upgrade(self, request: Any) -> bool:
        return False

    def _check_target(self) -> None:
        """RFC 9112 section 3.2: 400 when the target is of another form than the method's, or has a wrong authority."""
        request = self._current_request
        if not is_target(request.method, request.raw_path):
            raise InvalidRequestLine("Invalid request target")

    def _check_host(self) -> None:
        """RFC 9112 section 3.2: 400 when HTTP/1.1 has no Host, or when its value is none. It may be empty."""
        request = self._current_request
        for name, value in request.headers_bytes:
            if name == b"host":
                if value and not is_authority(value):
                    raise InvalidHeader("Invalid Host header")
                return
        if request.version >= (1, 1):
            raise InvalidHeader("Missing Host header")

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._closed or self._request_ready is None:  # HTTP/2 has its own framing
            return
        if self._head_begun:
            self._send_error_response(408, "")
        self._close_now()

    # The answer

    def _build_http_scope(self, request: Any, sockname: Any, peername: Any) -> dict[str, Any]:
        scope: dict[str, Any] = super()._build_http_scope(request, sockname, peername)
        scope.setdefault("extensions", {}).update(self._extensions)
        return scope

    def _send_response_start(self, status: int, headers: Any, request: Any, close: bool = False) -> None:
        if headers and CONNECTION_CLOSE in headers:
            # gunicorn sends the header on, but does not act on it.
            request.must_close = True
        elif self.ends_after(request):
            request.must_close = close = True
        self._answered = request
        super()._send_response_start(status, headers, request, close)

    def _send_error_response(
        self, status: int, message: str, extra_headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Refuse the request in the API's one error shape, and log it; the caller closes the connection.

        What goes wrong in the rest of a request whose answer has begun is not told: it would be a second answer.
        """
        request = self._current_request
        if self._closed or (request is not None and request is self._answered):
            return
        identity, body = problem(*refusal(status, message))
        method, path = self._request_line()
        reason = _REASONS.get(status) or HTTPStatus(status).phrase
        lines = [
            f"HTTP/1.1 {status} {reason}",
            f"Date: {formatdate(usegmt=True)}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            f"X-Request-Id: {identity}",
            *(f"{name}: {value}" for name, value in CROSS_ORIGIN),
            *(f"{name}: {value}" for name, value in extra_headers),
            "Connection: close\r\n\r\n",
        ]
        self._safe_write("\r\n".join(lines).encode("latin-1") + (b"" if method == "HEAD" else body))
        client = self._effective_peername(self.transport.get_extra_info("peername"))
        address = client[0] if isinstance(client, tuple) else None
        log_access(status, identity, method=method, path=path, client=address)

    def _request_line(self) -> tuple[str | None, str | None]:
        """(method, decoded path), as far as the parser has come."""
        method: bytes | None = getattr(self._callback_parser, "method", None)
        target: bytes | None = getattr(self._callback_parser, "path", None)
        if not method or not target:
            return None, None
        path = unquote_to_bytes(target.partition(b"?")[0])
        return method.decode("latin-1"), path.decode("utf-8", "replace")

    async def _serve_http_request(self, request: Any, sockname: Any, peername: Any) -> bool:
        # A task, for a context of its own. gunicorn's also reads on when the answer is complete and the application is
        # not; the bridge has nothing to do then that could be left for later.
        serving = self._handle_http_request(request, sockname, peername)
        keepalive: bool = await self.worker.loop.create_task(serving)
        return keepalive and not request.must_close

    async def _handle_http_request(
        self, request: Any, sockname: Any, peername: Any, complete: Any = None
    ) -> bool:
        """Have one request answered; returns whether another may follow on its connection. Raises nothing."""
        if not self._asks_bridge:
            keepalive: bool = await super()._handle_http_request(request, sockname, peername, complete)
            return keepalive
        reply = Reply(self, request)
        try:
            await self.app.serve(self._environ(request, sockname, peername), reply)
        except asyncio.CancelledError:
            self.log.debug("Request cancelled (client disconnected)")
            return False
        except Exception:
            self.log.exception("Error in ASGI application")
        if not reply.started:
            self._send_error_response(500, "")
        elif not reply.complete and not self._closed:
            self.log.error("The answer to a request is not complete; closing the connection")
        return reply.complete and reply.keeps_open

    def _environ(self, request: Any, sockname: Any, peername: Any) -> Environ:
        connection = self._environs.get(request.scheme)
        if connection is None:
            # The addresses are those of the connection: gunicorn finds a proxy's word for the client once.
            server, client = (tuple(address[:2]) if address else None for address in (sockname, peername))
            connection = connection_environ(request.scheme, server, client, self._root_path)
            self._environs[request.scheme] = connection
        return request_environ(
            connection,
            method=request.method,
            path=request.raw_path,
            query=request.query,
            protocol=_PROTOCOLS.get(request.version) or "HTTP/{}.{}".format(*request.version),
            headers=request.headers_bytes,
        )

    def ends_after(self, request: Any) -> bool:
        """Whether the connection ends with this request's answer, whatever the answer says of it."""
        # When others wait for a place, a connection that is only kept would take it from them.
        return self.worker.is_full or bool(self._will_close(request, False))

    def answer_begins(self, request: Any, head: bytes) -> None:
        """Hold the head of an answer until its first byte of body, and let no second answer be written."""
        self._body_receiver.expect_continue = False
        self._answered = request
        self._response_buffer = head

    def answer_ends_empty(self, *, chunked: bool) -> None:
        """End an answer whose last part of the body is empty."""
        ending = (self._response_buffer or b"") + (b"0\r\n\r\n" if chunked else b"")
        self._response_buffer = None
        if ending:
            self._safe_write(ending)

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
