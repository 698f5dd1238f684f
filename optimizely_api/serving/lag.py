"""How long work waits for the event loop: the one sign of an overload that does not depend on what requests wait for.

A request that waits for a service or a database makes no other wait; one that waits for the loop waits behind all
others. So response times say little, and queueing times all (Zhou et al., "Overload Control for Scaling WeChat
Microservices", SoCC 2018, section 4.1). Of a loop there are two:

- the lateness of a timer: what is ready waits that long for its turn;
- the age of the request of the connection that is accepted next: what has come waits that long in the backlog.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Callable

TICK_SECONDS = 0.01

# struct tcp_info of <linux/tcp.h>: tcpi_last_data_recv, in milliseconds, is the 32-bit number at byte 52.
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
_LAST_DATA = struct.Struct("@52xI")

Clock = Callable[[], float]


def unread_seconds(connection: socket.socket) -> float:
    """How long the last bytes that came on a TCP connection, or else the connection itself, have waited; 0 if unknown.

    Right only for a connection that was accepted this moment. The system knows it where it is Linux.
    """
    if _TCP_INFO is None:
        return 0.0
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LAST_DATA.size)
    except OSError:  # a Unix socket
        return 0.0
    milliseconds: int = _LAST_DATA.unpack(info)[0] if len(info) == _LAST_DATA.size else 0
    return milliseconds / 1000


class LagMeter:
    """Calls `on_sample` at each tick with the longest wait since the one before, in seconds."""

    def __init__(self, on_sample: Callable[[float], None], clock: Clock = time.monotonic) -> None:
        self._on_sample = on_sample
        self._clock = clock
        self._due_at = clock() + TICK_SECONDS
        self._oldest = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tick on the loop until `stop`."""
        self._loop = loop
        self._due_at = self._clock() + TICK_SECONDS
        self._timer = loop.call_later(TICK_SECONDS, self._run)

    def stop(self) -> None:
        """Tick no more; may be called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def note_unread(self, seconds: float) -> None:
        """A connection was accepted whose request has waited so long."""
        self._oldest = max(self._oldest, seconds)

    def tick(self) -> None:
        """Report the wait at this moment, and expect the next tick in TICK_SECONDS."""
        now = self._clock()
        waited = max(0.0, now - self._due_at, self._oldest)
        self._oldest = 0.0
        self._due_at = now + TICK_SECONDS
        self._on_sample(waited)

    def _run(self) -> None:
        self._timer = self._loop.call_later(TICK_SECONDS, self._run)
        self.tick()
