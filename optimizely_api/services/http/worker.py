"""The gunicorn worker of the services: aiohttp's, with limits of its own for connections and bodies.

aiohttp's accepts without end, from a backlog that it sets to 128 whatever gunicorn is told.
"""

from __future__ import annotations

import functools
from typing import Any

from aiohttp import web
from aiohttp.worker import GunicornUVLoopWebWorker, GunicornWebWorker

from optimizely_api.services.http.bodies import Bodies, BoundedRequest
from optimizely_api.services.http.connections import ConnectionReader, ServiceConnection
from optimizely_api.services.http.limits import Limits
from optimizely_api.serving import file_limits as open_files
from optimizely_api.serving.accepting import Acceptor
from optimizely_api.serving.boot_failures import ReportsBootFailure
from optimizely_api.serving.boot_signals import DefaultSignalsWhileStarting
from optimizely_api.serving.heartbeat import beat

# What aiohttp buffers of a body until somebody reads it: twice as much.
READ_AHEAD_BYTES = 32 * 1024
# How long what nobody reads of a body is thrown away after the response: closing a socket with unread input resets the
# connection, and the reset may overtake the response (RFC 9112 section 9.6).
DISCARD_SECONDS = 1.0
CHECKS_PER_TIMEOUT = 8  # deadlines are looked at so often, and each second


class ServiceWorker(ReportsBootFailure, DefaultSignalsWhileStarting, GunicornWebWorker):
    """Serves one application within `limits`; see `worker_class`."""

    limits: Limits
    application: web.Application
    bodies: Bodies

    async def _run(self) -> None:
        self.application = self.wsgi
        self.bodies = Bodies(self.limits.bodies_bytes)
        self.connections: set[ServiceConnection] = set()
        options: dict[str, Any] = {
            "logger": self.log,
            "access_log": None,
            "keepalive_timeout": self.limits.keepalive_seconds,
            "lingering_time": DISCARD_SECONDS,
            "read_bufsize": READ_AHEAD_BYTES,
            "auto_decompress": False,  # BoundedRequest decodes, within its limits
        }
        runner = web.AppRunner(self.application, shutdown_timeout=self.cfg.graceful_timeout * 0.95, **options)
        await runner.setup()
        server = runner.server
        assert server is not None  # noqa: S101  # there is one after setup()
        server.request_factory = functools.partial(self.application._make_request, _cls=BoundedRequest)
        new_connection = functools.partial(ServiceConnection, self, server, loop=self.loop, **options)
        self._acceptor = Acceptor(
            [each.sock for each in self.sockets],
            lambda: ConnectionReader(new_connection()),
            open_files.possible_connections(self.limits.connections, "MAX_CONNECTIONS", self.log),
        )
        self._acceptor.start()
        self.booted = True
        self._check_connections()
        try:
            await beat(self, self._wait_next_notify)
        finally:
            self._acceptor.stop()
            await runner.cleanup()

    @property
    def is_full(self) -> bool:
        """Others wait for the end of one of the connections."""
        return self._acceptor.is_full

    def connection_ended(self, connection: ServiceConnection) -> None:
        """Room for another connection; called by each at its end."""
        self.connections.discard(connection)
        self._acceptor.connection_ended()

    def _check_connections(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            connection.check(now)
        self.loop.call_later(
            min(1.0, self.limits.shortest_seconds / CHECKS_PER_TIMEOUT), self._check_connections
        )


def worker_class(limits: Limits) -> type[ServiceWorker]:
    """The worker with these limits, on uvloop where that is installed."""
    bases: tuple[type, ...] = (ServiceWorker,)
    try:
        import uvloop  # noqa: F401  # in the master already: workers then start at once, and share it
    except ImportError:
        pass
    else:
        bases = (ServiceWorker, GunicornUVLoopWebWorker)
    return type("ServiceWorker", bases, {"limits": limits})
