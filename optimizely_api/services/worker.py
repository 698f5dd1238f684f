"""The gunicorn worker of the services: aiohttp's, with limits of its own for connections and bodies.

aiohttp's accepts without end, from a backlog that it sets to 128 whatever gunicorn is told.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from typing import Any

from aiohttp import web
from aiohttp.worker import GunicornUVLoopWebWorker, GunicornWebWorker

from optimizely_api import open_files
from optimizely_api.accepting import Acceptor
from optimizely_api.boot_failures import TellsWhyItCannotStart
from optimizely_api.boot_signals import HearsSignalsWhileStarting
from optimizely_api.services.bodies import Bodies, BoundedRequest
from optimizely_api.services.connections import ConnectionReader, ServiceConnection
from optimizely_api.services.limits import Limits

# What aiohttp buffers of a body until somebody reads it: twice as much.
READ_AHEAD_BYTES = 32 * 1024
# How long what nobody reads of a body is thrown away after the response: closing a socket with unread input resets the
# connection, and the reset may overtake the response (RFC 9112 section 9.6).
DISCARD_SECONDS = 1.0
CHECKS_PER_TIMEOUT = 8  # deadlines are looked at so often, and each second


class ServiceWorker(TellsWhyItCannotStart, HearsSignalsWhileStarting, GunicornWebWorker):
    """Serves one application within `limits`; see `worker_class`."""

    limits: Limits
    application: web.Application
    bodies: Bodies

    async def _run(self) -> None:
        self.application = await self.wsgi()
        self.bodies = Bodies(self.limits.bodies_bytes)
        self.connections: set[ServiceConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._acceptor = Acceptor(
            [each.sock for each in self.sockets], self._connect, self._most_connections()
        )
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
        self._new_connection = functools.partial(ServiceConnection, self, server, loop=self.loop, **options)
        self._acceptor.start()
        self.booted = True
        self._check_connections()
        try:
            await self._until_told_to_stop()
        finally:
            self._acceptor.stop()
            await runner.cleanup()

    def _most_connections(self) -> int:
        allowed, wanted = open_files.allow_many_files(), self.limits.connections
        possible = max(1, allowed - open_files.RESERVED - allowed // open_files.RESERVED_SHARE)
        if wanted > possible:
            self.log.warning(
                "Only %d files may be open: of %d connections %d are possible at a time, and others wait",
                allowed,
                wanted,
                possible,
            )
        return min(wanted, possible)

    async def _until_told_to_stop(self) -> None:
        while self.alive:
            self.notify()
            if self.ppid != os.getppid():
                self.log.info("Parent changed, shutting down: %s", self)
                return
            await self._wait_next_notify()

    @property
    def is_full(self) -> bool:
        """Others wait for the end of one of the connections."""
        return self._acceptor.is_full

    def _connect(self, client: socket.socket) -> None:
        task = self.loop.create_task(self._make(client))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _make(self, client: socket.socket) -> None:
        connection = self._new_connection()
        self.connections.add(connection)
        try:
            await self.loop.connect_accepted_socket(lambda: ConnectionReader(connection), client)
        except OSError as exc:
            self.log.debug("A connection failed before its first byte: %s", exc)
        finally:
            if not connection.was_made:
                client.close()
                self.connection_ended(connection)

    def connection_ended(self, connection: ServiceConnection) -> None:
        """Room for another connection; called by each at its end."""
        self.connections.discard(connection)
        self._acceptor.connection_ended()

    def _check_connections(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            if connection.was_made:
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
