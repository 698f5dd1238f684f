"""A service whose entities have versions: it sends and confirms ETags, accepts writes, and can be held."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from optimizely_api.upstream.caching.cache import Clock
from optimizely_api.upstream.caching.caching_client import CachingClient, CachingOptions, open_caching_client
from optimizely_api.upstream.client import Limits, Upstream
from tests.support.ports import free_port
from tests.support.samples import SERVICES_KEY

NAMES = ("projects", "experiments", "results")
KINDS = (
    "Project",
    "Experiment",
    "Layer",
    "Event",
    "ExperimentList",
    "LayerList",
    "Token",
    "Health",
    "Results",
)
SHAPES = {
    name: lambda value: None if isinstance(value, dict) and "off" not in value else "/" for name in KINDS
}


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class VersionedService:
    """`entities` by path; `held` methods wait for `open`; `instead` is a status in place of every response."""

    entities: dict[str, Any] = field(default_factory=dict)
    gives_tags: bool = True
    instead: int | None = None
    held: tuple[str, ...] = ("GET", "POST", "PATCH", "PUT", "DELETE")
    seen: list[Seen] = field(default_factory=list)
    inside: int = 0
    cancelled: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        self.open.set()

    @property
    def calls(self) -> list[str]:
        return [f"{seen.method} {seen.path}" for seen in self.seen]

    @property
    def confirmed(self) -> list[bool]:
        """For each call, whether it was conditional."""
        return ["If-None-Match" in seen.headers for seen in self.seen]

    async def handle(self, request: web.Request) -> web.Response:
        response = await self._respond(request)
        response.headers["X-Request-Id"] = request.headers["X-Request-Id"]
        return response

    async def _respond(self, request: web.Request) -> web.Response:
        self.seen.append(Seen(request.method, request.path, request.headers.copy()))
        self.inside += 1
        found = self.entities.get(request.path)  # as it is when the request arrives
        try:
            if request.method in self.held:
                await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.inside -= 1
        if self.instead is not None:
            return web.json_response({"message": "no"}, status=self.instead)
        if request.method in ("PATCH", "PUT"):
            found = self.entities[request.path] = await request.json()
        if found is None:
            return web.json_response({}, status=404)
        tag = f'"{hash(str(found)) & 0xFFFFFFFF:x}"'
        if not self.gives_tags:
            return web.json_response(found)
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.json_response(found, headers={"ETag": tag})

    async def stop(self) -> None:
        """Refuse connections from now on, and break those that are open."""
        assert self.runner is not None
        await self.runner.cleanup()

    async def until(self, inside: int) -> None:
        async with asyncio.timeout(5):
            while self.inside != inside:
                await asyncio.sleep(0.001)


class FakeClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0
        self.clock = Clock(monotonic=lambda: self.seconds, wall=lambda: self.seconds)

    def go_on(self, seconds: float) -> None:
        self.seconds += seconds


@contextlib.asynccontextmanager
async def versioned() -> AsyncIterator[VersionedService]:
    service = VersionedService()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", service.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    service.runner = runner
    try:
        await web.TCPSite(runner, "127.0.0.1", free_port(), backlog=1024).start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield service
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def caching_client(
    url: str,
    caching: CachingOptions,
    *,
    connections: int = 100,
    seconds: float = 5.0,
    echo_required: bool = True,
) -> AsyncIterator[CachingClient]:
    upstreams = {name: Upstream(url=url, timeout_seconds=seconds, key=SERVICES_KEY) for name in NAMES}
    limits = Limits(
        connections=connections,
        connect_timeout_seconds=5.0,
        response_bytes=100_000,
        echo_required=echo_required,
    )
    async with open_caching_client(upstreams, limits, SHAPES, caching) as client:
        assert isinstance(client, CachingClient)
        yield client
