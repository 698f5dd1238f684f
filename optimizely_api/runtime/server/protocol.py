"""A client's connection: HTTP/1 requests, one after another, each served by the application.

Fast path: it replaces gunicorn's own HTTP/1 protocol. Complete heads go to llhttp at once, the bridge gets an environ
without an ASGI scope, and one timer serves all deadlines of a connection. To measure:
`python -m tests.benchmark_stages` (stage "HTTP server").
"""

import asyncio
import logging
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from optimizely_api.runtime.body_input import BodyError
from optimizely_api.runtime.bridge import CAME_AT, AsgiBridge
from optimizely_api.runtime.environ import Environ, connection_environ, path_info, request_environ
from optimizely_api.runtime.refusals import CROSS_ORIGIN, error_body, log_access, refusal
from optimizely_api.runtime.server.forwarded import peer_address
from optimizely_api.runtime.server.gate import OVERLOADED, WAITS, Asked, Look, asked_by, is_forwarded, look_at
from optimizely_api.runtime.server.http1.asgi import serve_asgi
from optimizely_api.runtime.server.http1.body import RequestBody
from optimizely_api.runtime.server.http1.head import Head, HeadReader, Refusal
from optimizely_api.runtime.server.http1.response import Exchange, date_line, status_line

if TYPE_CHECKING:
    from optimizely_api.runtime.server.worker import GatewayWorker

# The largest single read. All connections of a worker read into the same memory, because the bytes are copied out of it
# before another connection reads. Without a body to read we read less, because those bytes are held until the request
# under way has ended.
_MEMORY = memoryview(bytearray(64 * 1024))
_SMALL_READ = _MEMORY[: 16 * 1024]
_CROSS_ORIGIN_LINES = "".join(f"{name}: {value}\r\n" for name, value in CROSS_ORIGIN).encode()

# The most bytes that may wait behind a request under way; with more, we stop reading from the socket.
HELD_BYTES = 16 * 1024

# How long, and how much, we read from a client after a response that ends the connection: closing a socket with unread
# input resets the connection, and the reset may overtake the response (RFC 9112 section 9.6).
LINGER_SECONDS = 1.0
LINGER_BYTES = 16 * 1024 * 1024

_PROTOCOLS = {(1, 1): "HTTP/1.1", (1, 0): "HTTP/1.0"}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)

log = logging.getLogger(__name__)


class GatewayProtocol(asyncio.BufferedProtocol):
    """One client connection.

    A head must be complete `header_timeout_seconds` after the connection was made, or after the first byte of a later
    request; otherwise the connection is closed, with a 408 if the head has begun. It is also closed when the client
    reads no output for `write_timeout_seconds`. gunicorn's `keepalive` is the limit between requests.

    Pipelined requests wait unread until the requests before them have ended. A body waits unread until the application
    reads it (`body.py`). After the response, the rest of a small body is read and discarded; a large one ends the
    connection.

    An upgrade is ignored (RFC 9110 section 7.8): the request is served like any other.
    """

    transport: Any

    def __init__(self, worker: "GatewayWorker") -> None:
        self.worker = worker
        self.was_made = False
        self.is_closed = False  # nothing more is written
        self.drained: asyncio.Future[None] | None = None  # set while the client does not read the output
        self._heads = HeadReader(worker.head_limits)
        self._unread = b""
        self._exchange: Exchange | None = None
        self._waiting: Look | Head | None = None  # the request that waits for the gate
        self._waits_since = 0.0
        self.account = 0  # of the request that waits or is under way, if the gate has found it
        self._task: asyncio.Task[None] | None = None
        self._is_paused = False
        self._is_kept = False  # for requests after the first
        self._rests = False  # until a turn of the gate
        self._lingers = False
        self._lingered_bytes = 0
        self._due_at = 0.0  # 0: there is no deadline
        self._due_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._waiting_bytes = 0
        self._progress_at = 0.0
        self._environs: dict[str, Environ] = {}  # by scheme: the keys that requests share

    # Callbacks of the transport

    def connection_made(self, transport: Any) -> None:
        self.was_made = True
        self.transport = transport
        self.worker.connections.add(self)
        self._peer = peer_address(transport.get_extra_info("peername"))
        self._trusted = self.worker.proxies.trusts(self._peer)
        self._scheme = "https" if transport.get_extra_info("sslcontext") is not None else "http"
        self._expect_within(self.worker.options.header_timeout_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        for timer in (self._due_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._due_timer = self._write_timer = None
        if self._task is not None:
            # One turn later: a task that is cancelled before its first step would end without `_serve` and its `_end`.
            self.worker.loop.call_soon(self._task.cancel)
        elif self._exchange is not None:
            if self._exchange.body is not None:  # the rest of it was being discarded
                self._exchange.body.end()
            self._exchange = None
        if self._waiting is not None:
            self._waiting = None
            self.worker.gate.admission.forget(self)
        self._resume_writers()
        self._unread = b""
        # Break the reference cycle of parser and reader, so that a closed connection is freed at once and not by the
        # garbage collector.
        self._heads.close()
        self.worker.connection_ended(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        exchange = self._exchange
        if exchange is not None and exchange.body is not None and exchange.body.is_wanted:
            return _MEMORY
        return _SMALL_READ

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(_MEMORY[:nbytes])
        if self._lingers:
            self._lingered_bytes += nbytes
            if self._lingered_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        self._unread = self._unread + data if self._unread else data
        self._advance()
        if nbytes >= len(_SMALL_READ) and not self._is_paused:
            # The socket has more bytes: let other connections have their turn before the transport reads on.
            self._pause_reading()
            self.worker.loop.call_soon(self._resume_reading)

    def eof_received(self) -> bool:
        return False  # the transport closes, also if the client has closed only its half

    def pause_writing(self) -> None:
        if self.drained is None:
            self.drained = self.worker.loop.create_future()
            self._watch_output()

    def resume_writing(self) -> None:
        self._resume_writers()
        # Not in this call: a transport may make it inside of a write.
        self.worker.loop.call_soon(self.read_again)

    def _resume_writers(self) -> None:
        drained, self.drained = self.drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # Reading

    def _advance(self) -> None:
        """Read as far as the request under way allows."""
        while self._unread and self._waiting is None and not self.is_closed:
            exchange = self._exchange
            if exchange is None:
                if self.drained is not None:
                    # A client that does not read its output gets no more: refusals do not wait for it by themselves.
                    self._due_at = 0.0  # `_watch_output` has its own deadline
                    break
                # Of a closing transport, `connection_lost` has not been called yet: nobody waits for a response.
                if self.transport.is_closing() or not self._read_head():
                    break
            elif exchange.body is not None and exchange.body.is_wanted and not exchange.body.complete:
                self._take_body(exchange.body)
            else:
                break
        if len(self._unread) >= HELD_BYTES:
            self._pause_reading()

    def _read_head(self) -> bool:
        """Read a head from the received bytes and begin its request; False if no other may follow now."""
        gate = self.worker.gate
        look = look_at(self._unread) if gate.is_on and not self._heads.held else None
        if look is not None and (answer := gate.ask(look.asked, self)):
            return self._begin_not(answer, look, may_rest=not look.is_forwarded)
        return self._begin_next(was_asked=look is not None)

    def _begin_next(self, head: Head | None = None, *, was_asked: bool) -> bool:
        """Begin a request, whose head is read first unless it is given."""
        heads, gate = self._heads, self.worker.gate
        if head is None and not heads.held:
            # From here on the deadline of a head applies, not that of a kept connection.
            self._expect_within(self.worker.options.header_timeout_seconds, no_later=not self._is_kept)
        try:
            if head is None:
                head, self._unread = heads.feed(self._unread)
            if head is None:
                return False
            self._due_at = 0.0
            if gate.is_on and not was_asked and (answer := gate.ask(self._asked_by(head), self)):
                return self._begin_not(answer, head, may_rest=not is_forwarded(head.fields))
            self._begin(head)
        except Refusal as refused:
            self._refuse(refused.status, refused.detail, head)
            return False
        except Exception as exc:  # a defect of the parser: bytes that cause one are treated as a bad request
            log.warning("A request could not be read: %r", exc)
            self._refuse(400, "")
            return False
        return True

    def _begin_not(self, answer: int, request: Look | Head, *, may_rest: bool) -> bool:
        """Refuse a request, or let it wait; returns whether another may follow now."""
        if answer == WAITS:
            self._waiting, self._waits_since = request, time.monotonic()
            self._due_at = 0.0
            return False
        if isinstance(request, Head):
            return self._turn_away_read(answer, request, may_rest=may_rest)
        self._unread = self._unread[request.size :]
        return self._turn_away(answer, request.asked, closes=self._ends_now, may_rest=may_rest)

    def begin(self) -> None:
        """Called by the gate: begin the request that has waited, unless its client has gone."""
        request, self._waiting = self._waiting, None
        if not self.transport.is_closing():
            self._begin_next(request if isinstance(request, Head) else None, was_asked=True)
        self._waits_since = 0.0

    def refuse(self) -> None:
        """Called by the gate: refuse the request that has waited."""
        request, self._waiting, self._waits_since = self._waiting, None, 0.0
        self.account = 0
        if request is None or self.transport.is_closing():
            return
        if self._begin_not(OVERLOADED, request, may_rest=False):
            # Not in this call: the gate may refuse the request of another connection in favour of the next one here.
            self.worker.loop.call_soon(self.read_again)

    def _asked_by(self, head: Head) -> Asked:
        return asked_by(head, self.worker.proxies.prefix(head.fields, "") if self._trusted else "")

    def _turn_away(self, status: int, asked: Asked, *, closes: bool, may_rest: bool) -> bool:
        """Refuse a request for the gate; returns whether another may follow on this connection."""
        gate, (method, target, _) = self.worker.gate, asked
        error_id, response = gate.response(status, is_head=method == b"HEAD", closes=closes)
        self.write(response)
        if gate.takes_a_line():
            self._log_refusal(status, error_id, method.decode("ascii"), target)
        if closes:
            self._close(linger=True)
            return False
        self._expect_another()
        if may_rest and gate.must_rest():
            self._pause_reading()
            self._rests = True
            gate.rest(self)
            return False
        return True

    def _turn_away_read(self, status: int, head: Head, *, may_rest: bool) -> bool:
        """The same for a request whose head was read, and whose body may follow."""
        exchange = Exchange(self, head)
        closes = not head.keep_alive or head.version < (1, 1) or self.ends_after(exchange)
        if closes or exchange.body is None:
            return self._turn_away(status, asked_by(head), closes=closes, may_rest=may_rest)
        self._turn_away(status, asked_by(head), closes=False, may_rest=False)
        exchange.body.skip()
        self._exchange = exchange
        self._expect_within(self.worker.options.header_timeout_seconds)
        return True

    def _take_body(self, body: RequestBody) -> None:
        self._unread = body.feed(self._unread)
        if self._task is None and body.complete:
            # The rest of an unwanted body is discarded: the next request may begin.
            body.end()
            self._exchange = None
            self._expect_another()

    def _pause_reading(self) -> None:
        if not self._is_paused and not self.is_closed:
            self._is_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_paused and not self.transport.is_closing() and len(self._unread) < HELD_BYTES:
            self._is_paused = False
            self.transport.resume_reading()

    def body_is_wanted(self, body: RequestBody) -> None:
        """Called when the application reads this body: pass on the bytes received so far and those that follow."""
        if body.expects_continue and not self._unread:
            self.write(_CONTINUE)
        body.expects_continue = False
        self._advance()
        self._resume_reading()

    # A request

    def _begin(self, head: Head) -> None:
        worker = self.worker
        scheme = worker.proxies.scheme(head.fields, self._scheme) if self._trusted else self._scheme
        exchange = Exchange(self, head)
        self._exchange = exchange
        worker.request_begins()
        app = worker.asgi
        if isinstance(app, AsgiBridge):
            environ = self._environ(head, scheme)
            if self._trusted:
                self._apply_proxy_headers(environ, head)
            if self._waits_since:
                environ[CAME_AT] = self._waits_since
            if worker.logs_requests:
                exchange.environ = environ
                exchange.started_at = self._waits_since or time.monotonic()
            serving = app.serve(environ, exchange)
        else:
            serving = serve_asgi(app, self._scope(head, scheme), exchange)
        worker.gate.admission.begin()
        if self.account:
            worker.gate.count_begin(self.account)
        # Run in a task so that the request has its own context.
        self._task = worker.loop.create_task(self._serve(exchange, serving))

    async def _serve(self, exchange: Exchange, serving: Any) -> None:
        """Await the application's response to one request, and end the request; never raises."""
        try:
            await serving
        except asyncio.CancelledError:
            exchange.closes = True
            if not self.is_closed:
                self._close_now()
        except BodyError as error:
            self._refuse(error.status, error.message)
        except Exception:
            self.worker.log.exception("Error in the application")
        self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        self._task = None
        if self.account:
            self.worker.gate.count_end(self.account)
            self.account = 0
        self.worker.gate.admission.end()
        if exchange.environ is not None and exchange.started:
            self.worker.log_request(exchange)
            exchange.environ = None
        if not self.is_closed and not exchange.complete:
            if exchange.started:
                self.worker.log.error("The response to a request is not complete; closing the connection")
                self._close_now()
            else:
                self._refuse(500, "")
        body = exchange.body
        if body is not None:
            if exchange.keeps_open and not body.complete and not self.is_closed:
                self._skip(body)
                return
            body.end()
        self._next(exchange)

    def _skip(self, body: RequestBody) -> None:
        """Discard the rest of an unwanted body, within the header deadline; then the next request may begin."""
        body.skip()
        self._expect_within(self.worker.options.header_timeout_seconds)
        self._advance()
        self._resume_reading()

    def _next(self, exchange: Exchange) -> None:
        """Read the next request, or close the connection if none may follow."""
        self._exchange = None
        if self.is_closed:
            return
        if not exchange.keeps_open:
            # A client that has sent `Connection: close` sends nothing more, so there is no need to linger.
            self._close(linger=exchange.head.keep_alive or bool(self._unread))
            return
        if self._unread:
            self._advance()
        else:
            self._expect_another()
        self._resume_reading()

    def ends_after(self, exchange: Exchange) -> bool:
        """Whether the connection must end with this response, even if its headers do not demand it."""
        body = exchange.body
        return self._ends_now or (body is not None and not body.can_be_skipped(len(self._unread)))

    @property
    def _ends_now(self) -> bool:
        worker = self.worker
        # While other clients wait in the backlog, an idle connection would occupy a place that they need.
        return not worker.alive or worker.is_full or not worker.keepalive_seconds

    def _environ(self, head: Head, scheme: str) -> Environ:
        connection = self._environs.get(scheme)
        if connection is None:
            connection = connection_environ(
                scheme, self._address("sockname"), self._peer, self.worker.root_path
            )
            self._environs[scheme] = connection
        path, _, query = head.target.partition(b"?")
        return request_environ(
            connection,
            method=head.method,
            path=path,
            query=query.decode("latin-1"),
            protocol=_PROTOCOLS[head.version],
            headers=head.fields,
        )

    def _apply_proxy_headers(self, environ: Environ, head: Head) -> None:
        """Replace client address and path prefix of the connection with those in a trusted proxy's headers."""
        client = self.worker.proxies.client(head.fields, self._peer)
        if client is not None:
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
        prefix = self.worker.proxies.prefix(head.fields, "")
        if prefix:
            environ["SCRIPT_NAME"] = prefix
            path = environ["PATH_INFO"]
            if path == prefix or path.startswith(prefix + "/"):  # the proxy has not removed it
                environ["PATH_INFO"] = path[len(prefix) :]

    def _address(self, which: str) -> Any:
        address = self.transport.get_extra_info(which)
        return tuple(address[:2]) if isinstance(address, tuple | list) else None

    def _scope(self, head: Head, scheme: str) -> dict[str, Any]:
        path, _, query = head.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "{}.{}".format(*head.version),
            "method": head.method,
            "scheme": scheme,
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": self.worker.root_path,
            "headers": head.fields,
            "server": self._address("sockname"),
            "client": self._peer,
        }

    # Writing

    def write(self, data: bytes) -> None:
        if not self.is_closed:
            self.transport.write(data)

    def _refuse(self, status: int, detail: str, head: Head | None = None) -> None:
        """Reject the request with the API's one error shape, log it, and close the connection.

        If the response has begun, the connection is only closed: an error would be a second response.
        """
        exchange = self._exchange
        if self.is_closed:
            return
        if exchange is not None and exchange.started:
            self._close(linger=True)
            return
        head = exchange.head if exchange is not None else head
        method, target = self._heads.request_line() if head is None else (head.method, head.target)
        error_id, body = error_body(*refusal(status, detail))
        lines = (
            b"Content-Type: application/json\r\n"
            b"Content-Length: %d\r\nX-Request-Id: %b\r\n%bConnection: close\r\n\r\n"
            % (len(body), error_id.encode(), _CROSS_ORIGIN_LINES)
        )
        top = status_line((1, 1), status) + date_line() + lines
        self.write(top if method == "HEAD" else top + body)
        self._log_refusal(status, error_id, method, target)
        self._close(linger=True)

    def _log_refusal(self, status: int, error_id: str, method: str | None, target: bytes | None) -> None:
        path = route = None
        if target is not None:
            raw = target.partition(b"?")[0]
            path = unquote_to_bytes(raw).decode("utf-8", "replace")
            if isinstance(self.worker.asgi, AsgiBridge):
                route = self.worker.asgi.route_name(method, path_info(raw, self.worker.root_path))
        client = self._peer[0] if self._peer else None
        log_access(status, error_id, method=method, path=path, client=client, route=route)

    def _watch_output(self) -> None:
        """Reset the connection if its client reads no output for `write_timeout_seconds`."""
        if self._write_timer is None:
            self._progress_at = self.worker.loop.time()
            self._waiting_bytes = self.transport.get_write_buffer_size()
            self._write_timer = self.worker.loop.call_later(self._watch_seconds(), self._check_output)

    def _watch_seconds(self) -> float:
        return min(1.0, self.worker.options.write_timeout_seconds / 4)

    def _check_output(self) -> None:
        self._write_timer = None
        waiting, now = self.transport.get_write_buffer_size(), self.worker.loop.time()
        if waiting == 0 or (self.drained is None and not self.is_closed):
            return
        if waiting < self._waiting_bytes:
            self._progress_at = now
        self._waiting_bytes = waiting
        if now - self._progress_at >= self.worker.options.write_timeout_seconds:
            self._drop()
            return
        self._write_timer = self.worker.loop.call_later(self._watch_seconds(), self._check_output)

    def _drop(self) -> None:
        """Reset the connection, so that the kernel discards its unsent output too."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    # Deadlines: one timer for all; it is only replaced if it would fire too late.

    def _expect_another(self) -> None:
        """Keep the connection for another request."""
        self._is_kept = True
        self._expect_within(self.worker.keepalive_seconds)

    def _expect_within(self, seconds: float, *, no_later: bool = False) -> None:
        due_at = self.worker.loop.time() + seconds
        if no_later and 0.0 < self._due_at < due_at:
            return
        self._due_at = due_at
        timer = self._due_timer
        if timer is None or timer.when() > due_at:
            if timer is not None:
                timer.cancel()
            self._due_timer = self.worker.loop.call_at(due_at, self._check_deadline)

    def _check_deadline(self) -> None:
        self._due_timer = None
        if not self._due_at:
            return
        if self.worker.loop.time() < self._due_at - 0.001:
            self._due_timer = self.worker.loop.call_at(self._due_at, self._check_deadline)
            return
        self._due_at = 0.0
        if self._lingers:
            self._end_lingering()
        elif self._heads.held:
            self._refuse(408, "")
        else:
            self._close(linger=self._exchange is not None)

    # The end

    def _close(self, *, linger: bool) -> None:
        """Close after all output is sent. With `linger`, first read and discard what the client still sends."""
        if self.is_closed:
            return
        self.is_closed = True
        self._unread = b""
        if linger and self.transport.can_write_eof():
            self._lingers = True
            self.transport.write_eof()
            # uvloop and asyncio accept resume_reading() whether reading is paused or not.
            self._is_paused = True
            self.transport.resume_reading()
            self._expect_within(LINGER_SECONDS)
        else:
            self.transport.close()
        if self.transport.get_write_buffer_size() > 0:
            self._watch_output()

    def _end_lingering(self) -> None:
        if self.transport.get_write_buffer_size() > 0:  # `_watch_output` has its own deadline
            self._expect_within(LINGER_SECONDS)
        else:
            self.transport.abort()

    def _close_now(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.transport.close()
            if self.transport.get_write_buffer_size() > 0:
                self._watch_output()

    @property
    def is_idle(self) -> bool:
        """Whether no request has begun."""
        is_between = self._exchange is None and self._waiting is None
        return is_between and not (self._heads.held or self._unread or self.is_closed)

    @property
    def asked_under_way(self) -> Asked | None:
        """What the request that the application serves at this moment is judged by."""
        if self._exchange is None or self._task is None:
            return None
        try:
            return self._asked_by(self._exchange.head)
        except Refusal:  # of its prefix, which only a Pyramid application needs
            return None

    def end_rest(self) -> None:
        """Called by the gate: read again after the refusal of a request."""
        self._rests = False
        self.read_again()

    def read_again(self) -> None:
        """Called at the end of a rest, after the refusal of a request that waited, and when output is read again."""
        if not self._rests:
            self._advance()
            self._resume_reading()

    def close_if_idle(self) -> None:
        """Close a connection on which no request has begun."""
        if self.is_idle:
            self._close(linger=True)

    def cancel(self) -> "asyncio.Task[None] | None":
        """Cancel the request under way, or abort an idle connection; returns the task to wait for."""
        task = self._task
        if task is not None:
            task.cancel()
        else:
            self.transport.abort()
        return task
