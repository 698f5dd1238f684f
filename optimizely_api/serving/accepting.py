"""Accept connections from listening sockets, up to a limit of open connections.

asyncio's own servers cannot pause. While we do not accept, the kernel keeps new connections in the backlog, whose
length was set when the socket was created.
"""

import asyncio
import errno
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

# Connections accepted in one turn of the loop, so that the other workers on the same sockets have their turn; twice as
# many in the next turn, while more wait, since the turns of a busy loop are few.
ACCEPT_AT_ONCE = 8
MOST_AT_ONCE = 128
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger(__name__)


class Acceptor:
    """Creates a protocol with `new_protocol` for each connection, up to `at_most` open ones.

    A protocol has `was_made`, which is true from `connection_made` on. From then on the protocol must call
    `connection_ended` at its end. `options` are passed to `loop.connect_accepted_socket`.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        new_protocol: Callable[[], Any],
        at_most: int,
        **options: Any,
    ) -> None:
        self.at_most = at_most
        self.open = 0
        self._sockets = sockets
        self._at_once = ACCEPT_AT_ONCE
        self._new_protocol = new_protocol
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_accepting = False
        self._is_ending = False

    @property
    def is_full(self) -> bool:
        """Whether `at_most` connections are open, so that further ones wait in the backlog."""
        return not self._is_accepting and not self._is_ending

    def start(self) -> None:
        """Accept connections, until `at_most` are open."""
        if self._is_accepting or self._is_ending:
            return
        self._is_accepting = True
        for listener in self._sockets:
            self._loop.add_reader(listener, self._accept_some, listener)

    def end(self) -> None:
        """Accept the backlog now, and more until `stop`, up to `at_most`; ended connections make no room any more."""
        self._is_ending = True
        for listener in self._sockets:
            self._accept(listener, self.at_most)

    def accept_all(self) -> None:
        """Accept all connections in the backlog, even over the limit; call `stop` next, without awaiting anything."""
        self._pause()
        self._is_ending, self.at_most = True, sys.maxsize
        for listener in self._sockets:
            self._accept(listener, sys.maxsize)

    def stop(self) -> None:
        """Stop accepting and close the listening sockets; may be called again."""
        self._pause()
        self._is_ending = True
        for listener in self._sockets:
            listener.close()

    def connection_ended(self) -> None:
        """Called at the end of a connection: makes room for another."""
        self.open -= 1
        self.start()

    def _pause(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            for listener in self._sockets:
                self._loop.remove_reader(listener)

    def _accept_some(self, listener: socket.socket) -> None:
        self._at_once = (
            min(2 * self._at_once, MOST_AT_ONCE) if self._accept(listener, self._at_once) else ACCEPT_AT_ONCE
        )

    def _accept(self, listener: socket.socket, at_most: int) -> bool:
        """Accept connections; returns whether more may wait."""
        for _ in range(at_most):
            if self.open >= self.at_most:
                self._pause()
                return False
            try:
                client, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False
            except OSError as exc:
                self._accept_failed(exc)
                return False
            client.setblocking(False)
            self.open += 1
            task = self._loop.create_task(self._connect(client))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        return True

    def _accept_failed(self, exc: OSError) -> None:
        if exc.errno not in _NO_FILES:
            raise exc
        log.error("Cannot accept connections, trying again in a second: %s", exc)
        self._pause()
        self._loop.call_later(1.0, self.start)

    async def _connect(self, client: socket.socket) -> None:
        protocol = self._new_protocol()
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, client, **self._options)
        except OSError as exc:
            log.debug("A connection failed before its first byte: %s", exc)
        finally:
            if not protocol.was_made:
                client.close()
                self.connection_ended()
