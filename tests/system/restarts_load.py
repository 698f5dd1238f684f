"""Steady load on new and kept connections, and what became of each request."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

KEPT = b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
SOON_SECONDS = 20
NEW_PER_SECOND = 200
KEPT_PER_SECOND = 100
KEPT_INTERVAL_SECONDS = 0.2
# What the machine had no time to send is sent later up to so many, and else never: no burst of thousands at once, which
# none of these servers is set up for.
MOST_LATE = 50


@dataclass
class Load:
    """At most 300 requests a second over the ports together; `outcomes` counts statuses and errors, by port.

    A kept connection that ends without a response that said so is an error. Nobody listening is one too, unless
    `may_be_refused`.
    """

    ports: Sequence[int]
    may_be_refused: Sequence[int] = ()
    outcomes: Counter[str] = field(default_factory=Counter)
    longest_seconds: float = 0.0

    async def __aenter__(self) -> "Load":
        self._stopped = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped.set()
        await self._task

    @property
    def failures(self) -> dict[str, int]:
        return {what: number for what, number in self.outcomes.items() if what != "200"}

    async def _run(self) -> None:
        kept = round(KEPT_PER_SECOND * KEPT_INTERVAL_SECONDS / len(self.ports))
        async with asyncio.TaskGroup() as group:
            for port in self.ports:
                for _ in range(kept):
                    group.create_task(self._keep(port))
            began, sent = time.monotonic(), 0
            while not self._stopped.is_set():
                due = int((time.monotonic() - began) * NEW_PER_SECOND)
                sent = max(sent, due - MOST_LATE)
                while sent < due:
                    group.create_task(self._once(self.ports[sent % len(self.ports)]))
                    sent += 1
                await asyncio.sleep(1 / NEW_PER_SECOND)

    async def _once(self, port: int) -> None:
        with self._counted(port), self._timed():
            async with asyncio.timeout(SOON_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                with contextlib.closing(writer):
                    writer.write(LAST)
                    self._count((await reader.read())[9:12])

    async def _keep(self, port: int) -> None:
        while not self._stopped.is_set():
            with self._counted(port):
                async with asyncio.timeout(SOON_SECONDS):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                with contextlib.closing(writer):
                    await self._ask_on(reader, writer, port)
            await asyncio.sleep(KEPT_INTERVAL_SECONDS)

    async def _ask_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        closes = False
        while not closes and not self._stopped.is_set():
            with self._timed():
                writer.write(KEPT)
                async with asyncio.timeout(SOON_SECONDS):
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                    await reader.readexactly(
                        int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                    )
            self._count(head[9:12])
            closes = b"connection: close" in head
            await asyncio.sleep(KEPT_INTERVAL_SECONDS)

    def _count(self, status: bytes) -> None:
        self.outcomes[status.decode() or "closed without a response"] += 1

    @contextlib.contextmanager
    def _counted(self, port: int):
        try:
            yield
        except ConnectionRefusedError as exc:
            if port not in self.may_be_refused:
                self.outcomes[repr(exc)] += 1
        except (OSError, EOFError) as exc:
            self.outcomes[repr(exc)] += 1

    @contextlib.contextmanager
    def _timed(self):
        began = time.monotonic()
        try:
            yield
        finally:
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
