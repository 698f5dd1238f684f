"""The gunicorn worker: gunicorn's asyncio worker, with the bridge, limits on connections and a graceful stop."""

import asyncio
import gc
import inspect
import logging
import os
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from gunicorn.asgi.lifespan import LifespanManager
from gunicorn.glogging import Logger
from gunicorn.workers.gasgi import ASGIWorker

from optimizely_api.runtime.bridge import AsgiBridge, Classifier
from optimizely_api.runtime.options import RuntimeOptions
from optimizely_api.runtime.server import relied_on, replacing
from optimizely_api.runtime.server.forwarded import TrustedProxies
from optimizely_api.runtime.server.gate import Gate, any_request
from optimizely_api.runtime.server.http1.body import BodyBudget
from optimizely_api.runtime.server.http1.head import HeadLimits
from optimizely_api.runtime.server.http1.response import Exchange
from optimizely_api.runtime.server.protocol import GatewayProtocol
from optimizely_api.serving import boot_failures, file_limits, reloading
from optimizely_api.serving.accepting import Acceptor
from optimizely_api.serving.boot_failures import ReportsBootFailure
from optimizely_api.serving.boot_signals import DefaultSignalsWhileStarting, end_on_signals_after_fork
from optimizely_api.serving.heartbeat import beat
from optimizely_api.serving.shared_memory import shared_memory
from optimizely_api.start_failures import reason

# After the listening sockets are closed, a connection without a request stays open for at least this long: the request
# may be arriving.
ARRIVAL_SECONDS = 0.5

# During a graceful stop, how long an idle connection may wait for its client's next request before it is closed: this
# many seconds, and at most this share of graceful_timeout. The response to that request ends the connection.
KEPT_SECONDS = 3.0
KEPT_SHARE = 0.25

# The last part of graceful_timeout, reserved for cancelling requests and for the shut-down hooks; then gunicorn kills.
UNWIND_SHARE = 0.1
UNWIND_SECONDS = 1.0


# New container objects before the garbage collector runs. A request creates hundreds, and reference counting frees
# nearly all of them. At Python's default of 700 it ran at every second request, over the objects of all requests in
# flight.
GC_THRESHOLD = 20_000


def spare_unread_access_log(log: Logger) -> None:
    """Do not build gunicorn's access-log fields when no logger would emit them.

    With any logging configuration gunicorn builds them, whatever the level of its access logger.
    """
    if type(log).access is Logger.access and not log.access_log.isEnabledFor(logging.INFO):
        log._access_log_enabled = False


def refuse_unserved_settings(cfg: Any) -> None:
    """Raise RuntimeError for settings of gunicorn's own protocol that ours does not support.

    gunicorn prints the error in one line.
    """
    instead = {
        "pre_request": "write a Pyramid tween",
        "post_request": "write a Pyramid tween",
        "proxy_protocol": "let the proxy send X-Forwarded-Proto",
        "protocol": "only http is spoken",
        "http_protocols": "only HTTP/1 is spoken",
        "limit_request_line": "set max_request_line_bytes of the application",
        "limit_request_fields": "set max_header_fields of the application",
        "limit_request_field_size": "set max_header_section_bytes of the application",
    }
    for name, advice in instead.items():
        setting = cfg.settings.get(name)
        if setting is not None and setting.get() != type(setting)().get():
            raise RuntimeError(f"gunicorn's {name} is not served by this worker; {advice}")


def _texts(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


class GatewayWorker(ReportsBootFailure, DefaultSignalsWhileStarting, ASGIWorker):  # type: ignore[misc]
    """Runs a WSGI application of coroutine views: `gunicorn -k optimizely_api.runtime.server.worker.GatewayWorker`.

    It uses uvloop if that is installed (gunicorn's `asgi_loop`). The lifespan always runs, and a failed start-up stops
    gunicorn. At most `worker_connections` connections are open. Further ones wait, unaccepted, in the listening
    socket's backlog, where a less busy worker may accept them; while they wait, every response ends its connection.
    If the system allows too few open files, there are fewer connections and a warning in the log; the soft limit is
    raised to the hard limit first.

    Of gunicorn it keeps the arbiter, the settings, the sockets and the life of its asyncio worker; the connections are
    `protocol.py`'s. `relied_on.py` lists the names of gunicorn that are no promise of its.

    Proxies in `forwarded_allow_ips` are trusted with the scheme (`secure_scheme_headers`), the client's address
    (Forwarded, X-Forwarded-For) and the path prefix (X-Forwarded-Prefix). Host is taken from the request itself.
    """

    worker_connections: int
    alive: bool
    asgi: Any  # the application, wrapped by load_wsgi()

    @classmethod
    def check_config(cls, cfg: Any, log: Logger) -> None:
        """Called by gunicorn in the master, before it forks."""
        super().check_config(cfg, log)
        refuse_unserved_settings(cfg)

    def init_process(self) -> None:
        self.proxies = TrustedProxies(
            self.cfg.forwarded_allow_ips, self.cfg.forwarded_allow_networks(), self.cfg.secure_scheme_headers
        )
        # Kept, since gunicorn looks a setting up by name each time, and every request needs this one.
        self.keepalive_seconds: float = self.cfg.keepalive
        self.root_path: str = self.cfg.root_path or ""
        self.logs_requests = False
        self._use(RuntimeOptions(), any_request)
        self.connections: set[GatewayProtocol] = set()
        self._stop_requested = asyncio.Event()
        self.worker_connections = file_limits.possible_connections(
            self.worker_connections, "worker_connections", self.log, file_limits.SHARE_OF_CLIENTS
        )
        super().init_process()

    def _use(self, options: RuntimeOptions, classify: Classifier) -> None:
        self.options = options
        self.gate = Gate(self, classify)
        self.bodies = BodyBudget(options.request_bodies_bytes)
        self.head_limits = HeadLimits(
            options.max_request_line_bytes, options.max_header_section_bytes, options.max_header_fields
        )

    @classmethod
    def setup(cls) -> None:
        """Called by gunicorn in the master after it has looked up the class, and again on each HUP."""
        relied_on.check()
        end_on_signals_after_fork()
        shared_memory()
        boot_failures.install()
        reloading.install()
        replacing.install()

    def load_wsgi(self) -> None:
        try:
            application = self.app.wsgi()
        except Exception as exc:
            if not self.cfg.reload:
                raise
            self._show_instead(exc)
            return
        self.asgi = application
        # A coroutine function is an ASGI application already.
        if not inspect.iscoroutinefunction(application):
            bridge = AsgiBridge(application)
            self.asgi = bridge
            self._use(bridge.options, bridge.classifier or any_request)

    def _show_instead(self, exc: Exception) -> None:
        """Respond to every request with the error, until one of the files in its traceback is edited."""
        self.log.error("The application cannot be loaded; waiting for an edit", exc_info=exc)
        self.asgi = self._make_error_app(reason(exc))
        files = [frame.filename for frame in traceback.extract_tb(exc.__traceback__)]
        if isinstance(exc, SyntaxError) and exc.filename:
            files.append(exc.filename)
        for file in files:
            if os.path.exists(file):
                self.reloader.add_extra_file(file)

    def handle_exit_signal(self) -> None:
        super().handle_exit_signal()
        self._stop_requested.set()

    def handle_quit_signal(self) -> None:
        super().handle_quit_signal()
        self._stop_requested.set()

    async def _serve(self) -> None:
        spare_unread_access_log(self.log)
        self.logs_requests = self.log.access_log_enabled
        # Objects of the start-up live as long as the worker, so the garbage collector need not scan them again. Collect
        # before the watchdog starts, which would report the pause.
        gc.collect()
        await self._start_lifespan()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])
        self._ssl_context = self._get_ssl_context()
        if self.cfg.is_ssl and self._ssl_context is None:
            # The reason is logged. Never serve plain text instead.
            self.end_start("TLS cannot be served")
        self.acceptor = Acceptor(
            [listener.sock for listener in self.sockets],
            lambda: GatewayProtocol(self),
            self.worker_connections,
            ssl=self._ssl_context,
            ssl_handshake_timeout=None if self._ssl_context is None else self.options.header_timeout_seconds,
        )
        self.acceptor.start()
        self.gate.meter.start(self.loop)
        for listener in self.sockets:
            self.log.info("Gateway worker listening on %s", listener)
        await beat(self, self._pause)
        await self._shutdown()

    async def _start_lifespan(self) -> None:
        lifespan = LifespanManager(self.asgi, self.log, self.state)
        try:
            await lifespan.startup()
        except RuntimeError as exc:
            self.log.error("Worker cannot start: %s", exc)
            self.end_start(str(exc))
        self.lifespan = lifespan

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._stop_requested.wait()

    @property
    def is_full(self) -> bool:
        """Whether `worker_connections` are open, so that further clients wait in the backlog."""
        return self.acceptor.is_full

    def request_begins(self) -> None:
        """Count a request; at `max_requests` the worker requests its replacement."""
        self.nr += 1
        if self.nr == self.max_requests:
            replacing.request_replacement(self)

    def log_request(self, exchange: Exchange) -> None:
        """Write the line of gunicorn's own access log."""
        head = exchange.head
        environ = {**(exchange.environ or {}), "RAW_URI": head.target.decode("latin-1")}
        request = SimpleNamespace(headers=_texts(head.fields))
        response = SimpleNamespace(
            status=exchange.status, headers=_texts(exchange.headers), sent=exchange.sent_bytes
        )
        duration = timedelta(seconds=time.monotonic() - exchange.started_at)
        self.log.access(response, request, environ, duration)

    def connection_ended(self, protocol: GatewayProtocol) -> None:
        """Called by a connection at its end: makes room for another."""
        self.connections.discard(protocol)
        self.acceptor.connection_ended()

    # Stopping

    async def _shutdown(self) -> None:
        """Let the requests in flight finish, close all connections, then run the shut-down hooks."""
        self.alive = False
        self.log.info("Worker shutting down")
        if not self._quick_shutdown:
            await self._finish_connections()
        self.acceptor.stop()
        self.gate.meter.stop()
        if not self._quick_shutdown and self.lifespan is not None:
            await self.lifespan.shutdown()

    async def _finish_connections(self) -> None:
        """Close all connections, each with a response if possible.

        From now on every response ends its connection. For some seconds, clients may still send a request on an idle
        connection, or connect. Then the idle connections and the listening sockets are closed.
        """
        started = self.loop.time()
        graceful = self.cfg.graceful_timeout
        deadline = started + graceful - min(UNWIND_SECONDS, graceful * UNWIND_SHARE)
        idle_ends = started + min(KEPT_SECONDS, graceful * KEPT_SHARE)
        # For the clients in the backlog the connection exists already: the kernel has completed it. So accept them.
        self.acceptor.end()
        is_listening = True
        while not self._quick_shutdown:
            now = self.loop.time()
            if is_listening and (
                now >= idle_ends or not any(protocol.is_idle for protocol in self.connections)
            ):
                # The other workers keep accepting on the shared sockets, unless all are being stopped: when the last
                # worker closes the sockets, the kernel resets the connections in the backlog.
                self.acceptor.accept_all()
                self.acceptor.stop()
                is_listening = False
                idle_ends = max(idle_ends, now + ARRIVAL_SECONDS)
            if not is_listening and self.acceptor.open == 0:
                return
            if now >= deadline:
                await self._cancel_connections()
                return
            if not is_listening and now >= idle_ends:
                for protocol in list(self.connections):
                    protocol.close_if_idle()
            self.notify()
            await asyncio.sleep(0.02)

    async def _cancel_connections(self) -> None:
        self.log.warning(
            "Cancelling %d connections still open at the end of graceful_timeout", self.acceptor.open
        )
        tasks = [task for protocol in list(self.connections) if (task := protocol.cancel()) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=UNWIND_SECONDS / 2)
