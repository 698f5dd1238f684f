"""A receiver of webhooks on a real socket, which answers as a test wants and remembers every call."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.ports import free_port


@dataclass
class Call:
    """One call: what came, when, and what the receiver answered."""

    path: str
    headers: dict[str, str]
    raw: bytes
    status: int
    at: float = field(default_factory=time.monotonic)

    @property
    def body(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.raw)

    @property
    def delivery(self) -> str:
        """By which a receiver knows a call that it has had already."""
        return self.headers["X-Webhook-Delivery"]

    @property
    def summary(self) -> str:
        """What the first change in the body is about."""
        summary: str = self.body["data"][0]["summary"]
        return summary


class Receiver:
    """`url` is its address, `calls` what came. It answers `status` after `seconds`, and nothing while it `hangs`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.status = 204
        self.answer_headers: dict[str, str] = {}
        self.hangs = False
        self.seconds = 0.0
        self.url = ""
        self._changed = asyncio.Event()

    @property
    def acknowledged(self) -> list[Call]:
        """The calls that it answered with a 2xx."""
        return [call for call in self.calls if 200 <= call.status < 300]

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Wait until the condition holds, which is looked at after each call."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one call."""
        raw = await request.read()
        self.calls.append(Call(request.path, dict(request.headers), raw, 0 if self.hangs else self.status))
        self._changed.set()
        await asyncio.sleep(self.seconds)
        while self.hangs:
            await asyncio.sleep(0.01)
        return web.Response(status=self.status, headers=self.answer_headers)


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver, until the block ends."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    port = port or free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    receiver.url = f"http://127.0.0.1:{port}/hook"
    try:
        yield receiver
    finally:
        receiver.hangs = False
        await runner.cleanup()
