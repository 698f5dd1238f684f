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

from optimizely_api.runtime.bridge import AsgiBridge
from optimizely_api.runtime.options import RuntimeOptions
from optimizely_api.runtime.server import relied_on, replacing
from optimizely_api.runtime.server.forwarded import TrustedProxies
from optimizely_api.runtime.server.http1.body import BodyBudget
from optimizely_api.runtime.server.http1.head import HeadLimits
from optimizely_api.runtime.server.http1.response import Exchange
from optimizely_api.runtime.server.protocol import GatewayProtocol
from optimizely_api.serving import boot_failures, reloading
from optimizely_api.serving import file_limits as open_files
from optimizely_api.serving.accepting import Acceptor
from optimizely_api.serving.boot_failures import TellsWhyItCannotStart
from optimizely_api.serving.boot_signals import HearsSignalsWhileStarting, end_on_signals_after_fork
from optimizely_api.serving.heartbeat import beat
from optimizely_api.serving.shared_memory import shared_memory
from optimizely_api.start_failures import reason

# How long at least a connection may wait for its first request after the listening sockets have been closed: enough for
# one that is just arriving.
ARRIVAL_SECONDS = 0.5

# How long a kept connection may wait for its client's next request, whose response then ends it, before it is closed:
# so many seconds, and at most this share of graceful_timeout.
KEPT_SECONDS = 3.0
KEPT_SHARE = 0.25

# The last part of graceful_timeout, after which gunicorn kills: kept for cancelling and for the shut-down hooks.
UNWIND_SHARE = 0.1
UNWIND_SECONDS = 1.0


# Container objects that may be made before the garbage collector looks at them. A request makes hundreds, nearly all of
# which are gone without it; at Python's 700 it looked at every second request's, with those of all requests in flight.
GC_THRESHOLD = 20_000


def spare_unread_access_log(log: Logger) -> None:
    """Keep gunicorn from gathering what its access log would say of every request when no logger takes it.

    With a logging configuration gunicorn takes its access log for wanted, whatever level that configuration gives it.
    """
    if type(log).access is Logger.access and not log.access_log.isEnabledFor(logging.INFO):
        log._access_log_enabled = False


def refuse_unserved_settings(cfg: Any) -> None:
    """Raise RuntimeError for settings that gunicorn's own protocol obeys and the one here does not.

    gunicorn prints it in one line.
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


class GatewayWorker(TellsWhyItCannotStart, HearsSignalsWhileStarting, ASGIWorker):  # type: ignore[misc]
    """Runs a WSGI application of coroutine views: `gunicorn -k optimizely_api.runtime.server.worker.GatewayWorker`.

    uvloop is used where it is installed (gunicorn's `asgi_loop`). The lifespan always runs, and a failed start-up
    stops gunicorn. At most `worker_connections` connections are open; the next ones wait, unaccepted, in the
    listening socket's backlog, where a less busy worker may take them, and until then each answer ends its connection.
    Connections are fewer where the system allows too few open files, and the log says so; the soft limit is raised to
    the hard one.

    Of gunicorn it keeps the arbiter, the settings, the sockets and the life of its asyncio worker; the connections are
    `protocol.py`'s. `relied_on.py` lists the names of gunicorn that are no promise of its.

    Of what proxies in `forwarded_allow_ips` say, these are believed: the scheme (`secure_scheme_headers`), the caller's
    address (Forwarded, X-Forwarded-For) and the path before ours (X-Forwarded-Prefix). Host is the request's own.
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
        self.root_path: str = self.cfg.root_path or ""
        self.logs_requests = False
        self._use(RuntimeOptions())
        self.connections: set[GatewayProtocol] = set()
        self._told_to_stop = asyncio.Event()
        self.worker_connections = open_files.possible_connections(
            self.worker_connections, "worker_connections", self.log, open_files.SHARE_OF_CALLERS
        )
        super().init_process()

    def _use(self, options: RuntimeOptions) -> None:
        self.options = options
        self.bodies = BodyBudget(options.request_bodies_bytes)
        self.head_limits = HeadLimits(
            options.max_request_line_bytes, options.max_header_section_bytes, options.max_header_fields
        )

    @classmethod
    def setup(cls) -> None:
        """Called by gunicorn in the master, when it has looked the class up, and again on each HUP."""
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
        if not inspect.iscoroutinefunction(application):  # which is an ASGI application by itself
            bridge = AsgiBridge(application)
            self.asgi = bridge
            self._use(bridge.options)

    def _show_instead(self, exc: Exception) -> None:
        """Answer every request with what is wrong, until one of the files that it went through is edited."""
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
        self._told_to_stop.set()

    def handle_quit_signal(self) -> None:
        super().handle_quit_signal()
        self._told_to_stop.set()

    async def _serve(self) -> None:
        spare_unread_access_log(self.log)
        self.logs_requests = self.log.access_log_enabled
        # What start-up makes lives as long as the worker: the garbage collector need not look at it again. Collecting
        # takes a while, and so comes before the watchdog is there.
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
        for listener in self.sockets:
            self.log.info("Gateway worker listening on %s", listener)
        await beat(self, self._second_or_told_to_stop)
        await self._shutdown()

    async def _start_lifespan(self) -> None:
        lifespan = LifespanManager(self.asgi, self.log, self.state)
        try:
            await lifespan.startup()
        except RuntimeError as exc:
            self.log.error("Worker cannot start: %s", exc)
            self.end_start(str(exc))
        self.lifespan = lifespan

    async def _second_or_told_to_stop(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._told_to_stop.wait()

    @property
    def is_full(self) -> bool:
        """All connections that there may be are open, and others wait."""
        return self.acceptor.is_full

    def request_begins(self) -> None:
        """Count a request; with the last of `max_requests` the worker has itself replaced."""
        self.nr += 1
        if self.nr == self.max_requests:
            replacing.ask(self)

    def log_request(self, exchange: Exchange) -> None:
        """Write the line of gunicorn's own access log."""
        head = exchange.head
        environ = {**(exchange.environ or {}), "RAW_URI": head.target.decode("latin-1")}
        request = SimpleNamespace(headers=_texts(head.fields))
        response = SimpleNamespace(
            status=exchange.status, headers=_texts(exchange.headers), sent=exchange.sent_bytes
        )
        took = timedelta(seconds=time.monotonic() - exchange.started_at)
        self.log.access(response, request, environ, took)

    def connection_ended(self, protocol: GatewayProtocol) -> None:
        """A connection has ended: there is room for another."""
        self.connections.discard(protocol)
        self.acceptor.connection_ended()

    # Stopping

    async def _shutdown(self) -> None:
        """End the kept connections with a response, finish the requests in flight, then run the shut-down hooks."""
        self.alive = False
        self.log.info("Worker shutting down")
        if not self._quick_shutdown:
            await self._finish_connections()
        self.acceptor.stop()
        if not self._quick_shutdown and self.lifespan is not None:
            await self.lifespan.shutdown()

    async def _finish_connections(self) -> None:
        """Every response ends its connection now. A client that is about to send on a kept one, or that connects,
        is answered so too, for some seconds; then idle connections are closed, and the listening sockets.
        """
        began = self.loop.time()
        graceful = self.cfg.graceful_timeout
        deadline = began + graceful - min(UNWIND_SECONDS, graceful * UNWIND_SHARE)
        idle_ends = began + min(KEPT_SECONDS, graceful * KEPT_SHARE)
        # What waits in the backlog has been told by the kernel that its connection is made.
        self.acceptor.end()
        listens = True
        while not self._quick_shutdown:
            now = self.loop.time()
            if listens and (now >= idle_ends or not any(protocol.is_idle for protocol in self.connections)):
                # The sockets are shared with the other workers, which go on accepting, unless all are being stopped.
                # When the last worker closes, the kernel resets those that wait.
                self.acceptor.take_all()
                self.acceptor.stop()
                listens = False
                idle_ends = max(idle_ends, now + ARRIVAL_SECONDS)
            if not listens and self.acceptor.open == 0:
                return
            if now >= deadline:
                await self._cancel_connections()
                return
            if not listens and now >= idle_ends:
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
