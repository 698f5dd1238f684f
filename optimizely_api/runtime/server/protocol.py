"""One client's connection: HTTP/1 requests, one after another, each answered by the application."""

import asyncio
import logging
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from optimizely_api.runtime.body_input import BodyError
from optimizely_api.runtime.bridge import AsgiBridge
from optimizely_api.runtime.environ import Environ, connection_environ, path_info, request_environ
from optimizely_api.runtime.refusals import CROSS_ORIGIN, log_access, problem, refusal
from optimizely_api.runtime.server.http1.asgi import serve_asgi
from optimizely_api.runtime.server.http1.body import RequestBody
from optimizely_api.runtime.server.http1.head import Head, HeadReader, Refusal
from optimizely_api.runtime.server.http1.response import Exchange, date_line, status_line

if TYPE_CHECKING:
    from optimizely_api.runtime.server.worker import GatewayWorker

# How much is read at one go. All connections of a worker read into the same memory: what has come is taken from it
# before another reads. While no body is wanted less is read, for it is held as long as the request is under way.
_MEMORY = memoryview(bytearray(64 * 1024))
_SMALL_READ = _MEMORY[: 16 * 1024]
_CROSS_ORIGIN_LINES = "".join(f"{name}: {value}\r\n" for name, value in CROSS_ORIGIN).encode()

# What may wait, unread, behind a request under way; no more is taken from the kernel until it is less.
HELD_BYTES = 16 * 1024

# How long, and how much, is still read of a client that has been told that the connection ends: closing a socket with
# unread input resets the connection, and the reset may overtake the response (RFC 9112 section 9.6).
LINGER_SECONDS = 1.0
LINGER_BYTES = 16 * 1024 * 1024

_PROTOCOLS = {(1, 1): "HTTP/1.1", (1, 0): "HTTP/1.0"}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)

log = logging.getLogger(__name__)


class GatewayProtocol(asyncio.BufferedProtocol):
    """One client connection.

    A head that is not complete `header_timeout_seconds` after the connection was made, or after the first byte of a
    later request, closes the connection: with a 408 when it has begun. So does output that the client does not
    take for `write_timeout_seconds`. The time between requests is governed by gunicorn's `keepalive`.

    Pipelined requests wait unread until those before them are answered. A body waits unread until the application
    wants it (`body.py`); what of it nobody wanted is skipped where it is little, or else ends the connection.

    What the client wants to upgrade to is ignored (RFC 9110 section 7.8): its request is answered like any other.
    """

    transport: Any

    def __init__(self, worker: "GatewayWorker") -> None:
        self.worker = worker
        self.was_made = False
        self.is_closed = False  # no more is written
        self.drained: asyncio.Future[None] | None = None  # while the client does not take what was written
        self._heads = HeadReader(worker.head_limits)
        self._unread = b""
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_paused = False
        self._lingers = False
        self._lingered_bytes = 0
        self._due_at = 0.0  # 0: nothing is due
        self._due_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._waiting_bytes = 0
        self._taken_at = 0.0
        self._environs: dict[str, Environ] = {}  # by scheme: what requests have in common

    # The transport's calls

    def connection_made(self, transport: Any) -> None:
        self.was_made = True
        self.transport = transport
        self.worker.connections.add(self)
        peer = transport.get_extra_info("peername")
        self._peer = peer[:2] if isinstance(peer, tuple) else None
        self._trusted = self.worker.proxies.trusts(peer)
        self._scheme = "https" if transport.get_extra_info("sslcontext") is not None else "http"
        self._expect_within(self.worker.options.header_timeout_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        for timer in (self._due_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._due_timer = self._write_timer = None
        if self._task is not None:
            self._task.cancel()
        elif self._exchange is not None:
            if self._exchange.body is not None:  # it was being skipped
                self._exchange.body.end()
            self._exchange = None
        self._resume_writers()
        self._unread = b""
        # The parser leads back to its reader: without it what a connection held goes with it, and not only when the
        # garbage collector comes.
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
            # More is there at once: the transport would read on and on before others have their turn.
            self._pause_reading()
            self.worker.loop.call_soon(self._resume_reading)

    def eof_received(self) -> bool:
        return False  # who has gone, or closes its half, gets no more: the transport closes

    def pause_writing(self) -> None:
        if self.drained is None:
            self.drained = self.worker.loop.create_future()
            self._watch_output()

    def resume_writing(self) -> None:
        self._resume_writers()

    def _resume_writers(self) -> None:
        drained, self.drained = self.drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # Reading

    def _advance(self) -> None:
        """Read as far as the requests under way allow."""
        while self._unread and not self.is_closed:
            exchange = self._exchange
            if exchange is None:
                if not self._read_head():
                    break
            elif exchange.body is not None and exchange.body.is_wanted and not exchange.body.complete:
                self._take_body(exchange.body)
            else:
                break
        if len(self._unread) >= HELD_BYTES:
            self._pause_reading()

    def _read_head(self) -> bool:
        """Take a head from what has come and have its request answered; False while there is none."""
        heads = self._heads
        head: Head | None = None
        if not heads.held:
            # From here on the head's own deadline holds, not that of an idle connection.
            self._expect_within(self.worker.options.header_timeout_seconds, no_later=True)
        try:
            head, self._unread = heads.feed(self._unread)
            if head is None:
                return False
            self._due_at = 0.0
            self._begin(head)
        except Refusal as refused:
            self._refuse(refused.status, refused.detail, head)
            return False
        except Exception as exc:  # a parser's: whatever it stumbled over is no request
            log.warning("A request could not be read: %r", exc)
            self._refuse(400, "")
            return False
        return True

    def _take_body(self, body: RequestBody) -> None:
        self._unread = body.feed(self._unread)
        if self._task is None and body.complete:
            # The rest of a body that nobody wanted has come: the next request may.
            body.end()
            self._exchange = None
            self._expect_within(self.worker.cfg.keepalive)

    def _pause_reading(self) -> None:
        if not self._is_paused and not self.is_closed:
            self._is_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_paused and not self.transport.is_closing() and len(self._unread) < HELD_BYTES:
            self._is_paused = False
            self.transport.resume_reading()

    def body_is_wanted(self, body: RequestBody) -> None:
        """The application reads this body: take what has come of it, and what comes."""
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
                self._say_what_the_proxy_says(environ, head)
            if worker.logs_requests:
                exchange.environ, exchange.started_at = environ, time.monotonic()
            serving = app.serve(environ, exchange)
        else:
            serving = serve_asgi(app, self._scope(head, scheme), exchange)
        # A task, for a context of its own.
        self._task = worker.loop.create_task(self._serve(exchange, serving))

    async def _serve(self, exchange: Exchange, serving: Any) -> None:
        """See one request through. Raises nothing."""
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
        """Read what is missing of a body that nobody wanted; the next request follows, or else the deadline comes."""
        body.skip()
        self._expect_within(self.worker.options.header_timeout_seconds)
        self._advance()
        self._resume_reading()

    def _next(self, exchange: Exchange) -> None:
        """Go on with the next request, if there may be one."""
        self._exchange = None
        if self.is_closed:
            return
        if not exchange.keeps_open:
            # Of a client that itself ends the connection nothing more comes.
            self._close(linger=exchange.head.keep_alive or bool(self._unread))
            return
        if self._unread:
            self._advance()
        else:
            self._expect_within(self.worker.cfg.keepalive)
        self._resume_reading()

    def ends_after(self, exchange: Exchange) -> bool:
        """Whether the connection ends with this response, whatever the response says of it."""
        worker = self.worker
        body = exchange.body
        # When others wait for a place, a connection that is only kept would take it from them.
        return (
            not worker.alive
            or worker.is_full
            or not worker.cfg.keepalive
            or (body is not None and not body.can_be_skipped(len(self._unread)))
        )

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

    def _say_what_the_proxy_says(self, environ: Environ, head: Head) -> None:
        """Put a trusted proxy's word for the client, and for the path before ours, in place of the connection's."""
        client = self.worker.proxies.client(head.fields, self._peer)
        if client is not None:
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
        prefix = self.worker.proxies.prefix(head.fields, "")
        if prefix:
            environ["SCRIPT_NAME"] = prefix
            path = environ["PATH_INFO"]
            if path == prefix or path.startswith(prefix + "/"):  # a proxy that took nothing away
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
        """Refuse the request in the API's one error shape, log it, and close the connection.

        What goes wrong in the rest of a request whose response has begun is not told: it would be a second response.
        """
        exchange = self._exchange
        if self.is_closed:
            return
        if exchange is not None and exchange.started:
            self._close(linger=True)
            return
        head = exchange.head if exchange is not None else head
        method, target = self._heads.request_line() if head is None else (head.method, head.target)
        identity, body = problem(*refusal(status, detail))
        lines = (
            b"Content-Type: application/json\r\n"
            b"Content-Length: %d\r\nX-Request-Id: %b\r\n%bConnection: close\r\n\r\n"
            % (len(body), identity.encode(), _CROSS_ORIGIN_LINES)
        )
        top = status_line((1, 1), status) + date_line() + lines
        self.write(top if method == "HEAD" else top + body)
        self._log_refusal(status, identity, method, target)
        self._close(linger=True)

    def _log_refusal(self, status: int, identity: str, method: str | None, target: bytes | None) -> None:
        path = route = None
        if target is not None:
            raw = target.partition(b"?")[0]
            path = unquote_to_bytes(raw).decode("utf-8", "replace")
            if isinstance(self.worker.asgi, AsgiBridge):
                route = self.worker.asgi.route_name(method, path_info(raw, self.worker.root_path))
        client = self._peer[0] if self._peer else None
        log_access(status, identity, method=method, path=path, client=client, route=route)

    def _watch_output(self) -> None:
        """Abort the connection when its client takes nothing of what waits for it for `write_timeout_seconds`."""
        if self._write_timer is None:
            self._taken_at = self.worker.loop.time()
            self._waiting_bytes = self.transport.get_write_buffer_size()
            self._write_timer = self.worker.loop.call_later(self._watch_seconds(), self._look_at_output)

    def _watch_seconds(self) -> float:
        return min(1.0, self.worker.options.write_timeout_seconds / 4)

    def _look_at_output(self) -> None:
        self._write_timer = None
        waiting, now = self.transport.get_write_buffer_size(), self.worker.loop.time()
        if waiting == 0 or (self.drained is None and not self.is_closed):
            return
        if waiting < self._waiting_bytes:
            self._taken_at = now
        self._waiting_bytes = waiting
        if now - self._taken_at >= self.worker.options.write_timeout_seconds:
            self._drop()
            return
        self._write_timer = self.worker.loop.call_later(self._watch_seconds(), self._look_at_output)

    def _drop(self) -> None:
        """Reset the connection, so that the kernel too forgets what waits to be sent."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    # Deadlines: one timer for all, which is set anew only where it would come too late.

    def _expect_within(self, seconds: float, *, no_later: bool = False) -> None:
        due_at = self.worker.loop.time() + seconds
        if no_later and 0.0 < self._due_at < due_at:
            return
        self._due_at = due_at
        timer = self._due_timer
        if timer is None or timer.when() > due_at:
            if timer is not None:
                timer.cancel()
            self._due_timer = self.worker.loop.call_at(due_at, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._due_timer = None
        if not self._due_at:
            return
        if self.worker.loop.time() < self._due_at - 0.001:
            self._due_timer = self.worker.loop.call_at(self._due_at, self._look_at_deadline)
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
        """Close when what was written has been sent. `linger`: more may come, and must not cost the client that."""
        if self.is_closed:
            return
        self.is_closed = True
        self._unread = b""
        if linger and self.transport.can_write_eof():
            self._lingers = True
            self.transport.write_eof()
            self._is_paused = True  # or it is about to be: uvloop and asyncio take both
            self.transport.resume_reading()
            self._expect_within(LINGER_SECONDS)
        else:
            self.transport.close()
        if self.transport.get_write_buffer_size() > 0:
            self._watch_output()

    def _end_lingering(self) -> None:
        if self.transport.get_write_buffer_size() > 0:  # which has a deadline of its own
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
        """No request has begun."""
        return self._exchange is None and not self._heads.held and not self._unread and not self.is_closed

    def close_if_idle(self) -> None:
        """Close a connection on which no request has begun."""
        if self.is_idle:
            self._close(linger=True)

    def cancel(self) -> "asyncio.Task[None] | None":
        """Cancel what the connection is doing; returns the task to wait for."""
        task = self._task
        if task is not None:
            task.cancel()
        else:
            self.transport.abort()
        return task
