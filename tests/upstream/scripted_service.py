"""A service that works in bytes: it responds to each request with the next part of a script, valid or not."""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.caching_client import CachingOptions, open_caching_client
from optimizely_api.upstream.client import Client, Limits, Upstream, open_client
from tests.support.ports import free_port

CLOSE = b""  # as a part of a response: close the connection
CALL = calls.check_health("results")
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'
SHAPES = {
    "Health": lambda value: None if value == {"status": "ok"} else "/",
    "Thing": lambda _value: None,
}

# For the caching client, without sharing and caching: a call that a test makes twice is sent twice.
CACHES_NOTHING = CachingOptions(coalesce=False, definition_seconds=1e-9, results_seconds=0)


@dataclass
class ScriptedService:
    """`script` holds responses, each a list of parts written one turn of the event loop apart; without one it hangs."""

    script: list[Iterable[bytes]] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    requests: Counter[int] = field(default_factory=Counter)  # requests on each connection
    closed: int = 0
    url: str = ""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                self.requests[number] += 1
                for part in self.script.pop(0) if self.script else ():
                    if part == CLOSE:
                        raise ConnectionError
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.002)
        self.closed += 1
        writer.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def scripted(
    host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, port: int | None = None
) -> AsyncIterator[ScriptedService]:
    service = ScriptedService()
    server = await asyncio.start_server(service.serve, host, port or free_port(), ssl=tls)
    name = f"[{host}]" if ":" in host else host
    service.url = f"{'https' if tls else 'http'}://{name}:{server.sockets[0].getsockname()[1]}"
    try:
        yield service
    finally:
        server.close()
        for writer in service.writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in service.writers), return_exceptions=True)
        await server.wait_closed()


@contextlib.asynccontextmanager
async def client_of(
    url: str,
    *,
    connections: int = 5,
    seconds: float = 2.0,
    connect_seconds: float = 1.0,
    caching: CachingOptions | None = None,
    echo_required: bool = False,
) -> AsyncIterator[Client]:
    upstreams = {"results": Upstream(url=url, timeout_seconds=seconds)}
    limits = Limits(
        connections=connections,
        connect_timeout_seconds=connect_seconds,
        response_bytes=50_000,
        echo_required=echo_required,
    )
    opened = (
        open_caching_client(upstreams, limits, SHAPES, caching)
        if caching
        else open_client(upstreams, limits, SHAPES)
    )
    async with opened as client:
        yield client
