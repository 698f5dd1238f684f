"""Accepting connections from listening sockets, no more than there may be at a time.

asyncio's own servers cannot be told to pause. A socket that is not read keeps its connections in the backlog, which is
as long as whoever made the socket has asked for.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence

# Connections taken at one go; between two goes the other workers on the same sockets have their turn.
ACCEPT_AT_ONCE = 8
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger(__name__)


class Acceptor:
    """Hands each connection to `connect`; `connection_ended` makes room for another."""

    def __init__(
        self, sockets: Sequence[socket.socket], connect: Callable[[socket.socket], None], at_most: int
    ) -> None:
        self.at_most = at_most
        self.open = 0
        self._sockets = sockets
        self._connect = connect
        self._is_accepting = False
        self._is_stopped = False

    @property
    def is_full(self) -> bool:
        """All connections that there may be are open, and others wait."""
        return not self._is_accepting and not self._is_stopped

    def start(self) -> None:
        """Accept, until there are as many connections as there may be."""
        if self._is_accepting or self._is_stopped:
            return
        self._is_accepting = True
        for listener in self._sockets:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def stop(self) -> None:
        """Accept nothing any more, and close the listening sockets."""
        self._pause()
        self._is_stopped = True
        for listener in self._sockets:
            listener.close()

    def connection_ended(self) -> None:
        """A connection has ended: there is room for another."""
        self.open -= 1
        self.start()

    def _pause(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            for listener in self._sockets:
                asyncio.get_running_loop().remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            if self.open >= self.at_most:
                self._pause()
                return
            try:
                client, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno not in _NO_FILES:
                    raise
                log.error("Cannot accept connections, trying again in a second: %s", exc)
                self._pause()
                asyncio.get_running_loop().call_later(1.0, self.start)
                return
            client.setblocking(False)
            self.open += 1
            self._connect(client)
