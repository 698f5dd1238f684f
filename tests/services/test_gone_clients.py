"""Nobody works for a client that has gone, unless the work is a write."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from optimizely_api.services.http.connections import ConnectionReader, ServiceConnection
from optimizely_api.services.http.limits import Limits
from optimizely_api.services.http.questions import only_asks
from tests.support.ports import free_port

SOON_SECONDS = 10


@dataclass
class Handlers:
    """What became of the handlers, by the path that they serve."""

    ends: dict[str, str] = field(default_factory=dict)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    client_gone: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.contextmanager
    def noted(self, path: str) -> Iterator[None]:
        self.ends[path] = "completed"
        try:
            yield
        except asyncio.CancelledError:
            self.ends[path] = "cancelled"
            raise
        finally:
            self.ended.set()

    async def write(self, request: web.Request) -> web.Response:
        with self.noted(request.path):
            self.begun.set()
            await self.released.wait()
            return web.Response()

    async def ask(self, request: web.Request) -> web.Response:
        return await self.write(request)


@pytest_asyncio.fixture
async def served() -> AsyncIterator[tuple[int, Handlers]]:
    """The port and the handlers of an application on the services' own connections."""
    handlers = Handlers()

    @only_asks
    async def ask(request: web.Request) -> web.Response:
        return await handlers.ask(request)

    application = web.Application()
    application.router.add_get("/entity", handlers.write)
    application.router.add_post("/question", ask)
    application.router.add_post("/write", handlers.write)
    runner = web.AppRunner(application)
    await runner.setup()
    loop, port = asyncio.get_running_loop(), free_port()
    worker: Any = SimpleNamespace(
        limits=Limits(),
        connections=set(),
        keeps_connections=True,
        connection_ended=lambda _connection: handlers.client_gone.set(),
    )
    server = await loop.create_server(
        lambda: ConnectionReader(ServiceConnection(worker, runner.server, loop=loop)), "127.0.0.1", port
    )
    async with server:
        yield port, handlers
    await runner.cleanup()


@pytest.mark.parametrize(
    ("request_line", "end"),
    [("GET /entity", "cancelled"), ("POST /question", "cancelled"), ("POST /write", "completed")],
)
async def test_a_client_that_goes_ends_the_work_on_its_question(
    served: tuple[int, Handlers], request_line: str, end: str
) -> None:
    port, handlers = served
    async with asyncio.timeout(SOON_SECONDS):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{request_line} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await handlers.begun.wait()
        writer.close()
        await writer.wait_closed()
        await handlers.client_gone.wait()
        await asyncio.sleep(0)  # a cancelled handler ends now
        handlers.released.set()
        await handlers.ended.wait()
    assert handlers.ends == {request_line.partition(" ")[2]: end}
