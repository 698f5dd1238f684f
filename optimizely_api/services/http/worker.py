"""The gunicorn worker of the services: aiohttp's worker with limits on connections and bodies.

aiohttp's own worker accepts connections without a limit, and sets the backlog to 128 whatever gunicorn's setting.
"""

from __future__ import annotations

import functools
from typing import Any

from aiohttp import web
from aiohttp.worker import GunicornUVLoopWebWorker, GunicornWebWorker

from optimizely_api.services.http.admission import ADMISSION, ServiceAdmission
from optimizely_api.services.http.bodies import BodyMemory, BoundedRequest
from optimizely_api.services.http.connections import ConnectionReader, ServiceConnection
from optimizely_api.services.http.limits import Limits
from optimizely_api.serving import file_limits
from optimizely_api.serving.accepting import Acceptor
from optimizely_api.serving.boot_failures import ReportsBootFailure
from optimizely_api.serving.boot_signals import DefaultSignalsWhileStarting
from optimizely_api.serving.heartbeat import beat

# aiohttp buffers up to twice as much of a body that the application does not read.
READ_AHEAD_BYTES = 32 * 1024
# How long the rest of an unwanted body is read and discarded after the response: closing a socket with unread input
# resets the connection, and the reset may overtake the response (RFC 9112 section 9.6).
DISCARD_SECONDS = 1.0
# The last part of graceful_timeout is for cancelling requests and for closing the application; then gunicorn kills.
UNWIND_SECONDS = 1.5
# Deadlines are checked this often within the shortest timeout, and at least each second.
CHECKS_PER_TIMEOUT = 8


class ServiceWorker(ReportsBootFailure, DefaultSignalsWhileStarting, GunicornWebWorker):
    """Serves one application within `limits`; `worker_class` makes the class for a set of limits."""

    alive: bool
    limits: Limits
    application: web.Application
    body_memory: BodyMemory

    async def _run(self) -> None:
        self.application = self.wsgi
        connections = file_limits.possible_connections(self.limits.connections, "MAX_CONNECTIONS", self.log)
        admission = ServiceAdmission(self.limits.overload_wait_seconds, connections)
        self.application[ADMISSION] = admission
        self.body_memory = BodyMemory(self.limits.bodies_bytes)
        self.connections: set[ServiceConnection] = set()
        options: dict[str, Any] = {
            "logger": self.log,
            "access_log": None,
            "keepalive_timeout": self.limits.keepalive_seconds,
            "lingering_time": DISCARD_SECONDS,
            "read_bufsize": READ_AHEAD_BYTES,
            "auto_decompress": False,  # BoundedRequest decodes, within its limits
        }
        # aiohttp's own end waits for this time once for the response, and again for the task that writes it.
        runner = web.AppRunner(self.application, shutdown_timeout=self.cfg.graceful_timeout, **options)
        await runner.setup()
        server = runner.server
        assert server is not None  # noqa: S101  # there is one after setup()
        server.request_factory = functools.partial(self.application._make_request, _cls=BoundedRequest)
        new_connection = functools.partial(ServiceConnection, self, server, loop=self.loop, **options)
        self._acceptor = Acceptor(
            [each.sock for each in self.sockets],
            lambda: ConnectionReader(new_connection()),
            connections,
        )
        self._acceptor.start()
        admission.meter.start(self.loop)
        self.booted = True
        self._check_connections()
        try:
            await beat(self, self._wait_next_notify)
        finally:
            self._acceptor.stop()
            admission.meter.stop()
            finish_seconds = self.cfg.graceful_timeout - UNWIND_SECONDS
            cancelling = self.loop.call_later(finish_seconds, self._cancel_connections)
            await runner.cleanup()
            cancelling.cancel()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop at once, not at the next heartbeat: the master counts graceful_timeout from the signal."""
        super().handle_exit(sig, frame)
        self._notify_waiter_done()

    @property
    def keeps_connections(self) -> bool:
        """Whether a connection may serve another request: not while clients wait in the backlog, nor during a stop."""
        return self.alive and not self._acceptor.is_full

    def connection_ended(self, connection: ServiceConnection) -> None:
        """Let another connection in; each connection calls this at its end."""
        self.connections.discard(connection)
        self._acceptor.connection_ended()

    def _cancel_connections(self) -> None:
        if self.connections:
            self.log.warning(
                "Cancelling %d connections still open at the end of graceful_timeout", len(self.connections)
            )
        for connection in list(self.connections):
            connection.cancel()

    def _check_connections(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            connection.check(now)
        self.loop.call_later(
            min(1.0, self.limits.shortest_seconds / CHECKS_PER_TIMEOUT), self._check_connections
        )


def worker_class(limits: Limits) -> type[ServiceWorker]:
    """The worker class with these limits, on uvloop where it is installed."""
    bases: tuple[type, ...] = (ServiceWorker,)
    try:
        import uvloop  # noqa: F401  # imported in the master, so that workers start faster and share its memory
    except ImportError:
        pass
    else:
        bases = (ServiceWorker, GunicornUVLoopWebWorker)
    return type("ServiceWorker", bases, {"limits": limits})
