"""An event loop on virtual time: it never waits, for time jumps to the next timer when nothing else is to be done.

It runs the gateway's coroutines as they are. Its sockets lead to the simulated network (`network.py`), and everything
happens in the same order each time.
"""

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import socket
import time
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol
from unittest import mock

Address = tuple[str, int]

STARTED = 1_800_000_000.0  # of every run: seconds of both clocks


class Network(Protocol):
    """Where the connections of a loop lead to."""

    async def connect(self, address: Address) -> None:
        """Return when the address has taken a connection; raises OSError if it refuses."""

    def open(self, address: Address, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Return the transport of a connection that was taken."""


class Timer:
    """A callback at its time, or in the next turn."""

    __slots__ = ("_args", "_at", "_context", "callback")

    def __init__(
        self, at: float, callback: Callable[..., object], args: Any, context: contextvars.Context | None
    ) -> None:
        self._at, self._args, self._context = at, args, context
        self.callback: Callable[..., object] | None = callback

    def when(self) -> float:
        return self._at

    def cancel(self) -> None:
        self.callback = None

    def cancelled(self) -> bool:
        return self.callback is None

    def run(self) -> None:
        callback = self.callback
        if callback is None:
            return
        if self._context is None:
            callback(*self._args)
        else:
            self._context.run(callback, *self._args)


class VirtualLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as the client of the services needs. An exception that nobody caught ends the run."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._now = STARTED
        self._ready: deque[Timer] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self.failure: BaseException | None = None  # ends the run
        self._addresses: dict[socket.socket, Address] = {}  # of sockets that are connected

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        timer = Timer(self._now, callback, args, context)
        self._ready.append(timer)
        return timer

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        timer = Timer(when, callback, args, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self,
        work: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> "asyncio.Task[Any]":
        return asyncio.Task(work, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failure = context.get("exception") or AssertionError(context["message"])

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        await self._network.connect(address)
        self._addresses[sock] = address

    async def create_connection(self, factory: Callable[[], Any], *args: Any, **options: Any) -> Any:
        """Only the part that aiohttp uses: of a socket that is connected."""
        sock = options["sock"]
        sock.close()
        protocol = factory()
        return self._network.open(self._addresses.pop(sock), protocol), protocol

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run until `main` has ended."""
        task = self.create_task(main)
        ready, timers = self._ready, self._timers
        with self._running():
            while True:
                while ready and self.failure is None:
                    ready.popleft().run()
                if self.failure is not None:
                    raise self.failure
                if task.done():
                    return task.result()
                at, _, timer = heapq.heappop(timers)
                if timer.callback is not None:
                    self._now = max(self._now, at)
                    timer.run()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        now = self.time
        events._set_running_loop(self)
        try:
            with (
                mock.patch.object(time, "monotonic", now),
                mock.patch.object(time, "time", now),
                mock.patch("aiohttp.connector.monotonic", now),
            ):
                yield
        finally:
            events._set_running_loop(None)
