"""CPU time of a call to a service: aiohttp's ClientSession and our client, in turns in one run.

    python -m tests.upstream.benchmark_client               microseconds of CPU a call, at four loads
    python -m tests.upstream.benchmark_client --in-flight 10,100,1000,5000 --delay-seconds 1

A composite's calls are sent, one and then three together, to a stub in a process of its own, whose CPU does not
count. Read the ratio: the figures follow the machine and its neighbours.
"""

import asyncio
import contextlib
import dataclasses
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping

import aiohttp
import click
import orjson
import uvloop

from optimizely_api.upstream import calls
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import CallContext, Limits, Upstream, open_client
from optimizely_api.upstream.responses import read_response
from tests.support import samples
from tests.support.ports import free_port

SHAPES = {name: lambda _value: None for name in ("Project", "Experiment", "Layer", "Results")}
LIMITS = Limits(
    connections=20_000, connect_timeout_seconds=30, response_bytes=16 * 1024 * 1024, echo_required=False
)
SECONDS = 60.0
FIRST, *TOGETHER = (
    dataclasses.replace(call, about=())  # the stub sends the same response to all
    for call in (
        calls.get_experiment(samples.EXPERIMENT),
        calls.get_layer(samples.LAYER),
        calls.get_project(samples.PROJECT),
        calls.compute_results(samples.EXPERIMENT, {"metrics": samples.experiment()["metrics"] * 3}),
    )
)
CALLS = 1 + len(TOGETHER)


class SessionClient:
    """The same client on ClientSession."""

    def __init__(self, session: aiohttp.ClientSession, upstreams: Mapping[str, Upstream]) -> None:
        self._session = session
        self._upstreams = upstreams

    async def fetch(self, call: Call, context: CallContext) -> object:
        started = time.monotonic()
        try:
            async with asyncio.timeout(min(SECONDS, context.deadline - started)):
                status, body = await self._send(call, context)
        finally:
            context.note(call.upstream, time.monotonic() - started)
        return read_response(call, status, body, SHAPES)

    async def fetch_all(self, together: list[Call], context: CallContext) -> list[object]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.fetch(call, context)) for call in together]
        return [task.result() for task in tasks]

    async def _send(self, call: Call, context: CallContext) -> tuple[int, bytes]:
        headers = {"X-Request-Id": context.request_id}
        data = None
        if call.body is not None:
            headers["Content-Type"] = "application/json"
            data = orjson.dumps(call.body)
        url = self._upstreams[call.upstream].url + call.path
        async with self._session.request(
            call.method, url, data=data, headers=headers, allow_redirects=False
        ) as response:
            return response.status, b"".join([chunk async for chunk in response.content.iter_any()])


@contextlib.asynccontextmanager
async def session_client(upstreams: Mapping[str, Upstream]) -> AsyncIterator[SessionClient]:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=LIMITS.connect_timeout_seconds)
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=LIMITS.connections)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        yield SessionClient(session, upstreams)


class Stub(asyncio.Protocol):
    """Responds to every request with 200 after `delay_seconds`; a POST, the results, with some 6 kB."""

    delay_seconds = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        response = RESULTS if data.startswith(b"POST") else ENTITY
        if self.delay_seconds:
            asyncio.get_running_loop().call_later(self.delay_seconds, self.transport.write, response)
        else:
            self.transport.write(response)


def _response(value: object) -> bytes:
    body = orjson.dumps(value)
    head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
    return f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body


ENTITY = _response(samples.project())
RESULTS = _response([samples.results()] * 6)


async def serve_stub(delay_seconds: float) -> None:
    Stub.delay_seconds = delay_seconds
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", free_port(), backlog=10_000)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


@contextlib.contextmanager
def stub(delay_seconds: float) -> Iterator[dict[str, Upstream]]:
    command = [sys.executable, "-m", "tests.upstream.benchmark_client", "--serve", "--delay-seconds"]
    names = ("projects", "experiments", "results")
    with subprocess.Popen([*command, str(delay_seconds)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            yield {name: Upstream(url=url, timeout_seconds=SECONDS) for name in names}
        finally:
            process.kill()


async def composites(client, at_once: int, each: int) -> float:
    """Return the CPU of a call, in microseconds, with `at_once` composites under way."""

    async def in_turn() -> None:
        for _ in range(each):
            context = CallContext("8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", time.monotonic() + SECONDS)
            await client.fetch(FIRST, context)
            await client.fetch_all(TOGETHER, context)

    started = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(in_turn())
    return (time.process_time() - started) / (at_once * each * CALLS) * 1e6


async def compare(upstreams: Mapping[str, Upstream], in_flight: list[int], rounds: int, each: int) -> None:
    click.echo("composites in flight   ClientSession       ours      ratio   largest RSS so far")
    async with session_client(upstreams) as session, open_client(upstreams, LIMITS, SHAPES) as ours:
        for at_once in in_flight:
            taken: list[tuple[float, float]] = []
            for round_number in range(rounds + 1):
                turns = each or max(1, 300 // at_once)
                pair = await composites(session, at_once, turns), await composites(ours, at_once, turns)
                if round_number:  # the first round opens the connections
                    taken.append(pair)
            before, after = (statistics.median(column) for column in zip(*taken, strict=True))
            megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            click.echo(
                f"{at_once:20}   {before:10.1f} us {after:7.1f} us {before / after:10.2f} {megabytes:17.0f} MB"
            )


@click.command()
@click.option("--in-flight", default="1,8,64,512", help="Composites under way at once, separated by commas.")
@click.option("--rounds", default=9, help="Turns of each client, of which the median is taken.")
@click.option("--delay-seconds", default=0.0, help="How long the stub waits before every response.")
@click.option("--serve", is_flag=True, hidden=True)
def main(in_flight: str, rounds: int, delay_seconds: float, serve: bool) -> None:
    if serve:
        uvloop.run(serve_stub(delay_seconds))
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    loads = [int(number) for number in in_flight.split(",")]
    with stub(delay_seconds) as upstreams:
        uvloop.run(compare(upstreams, loads, rounds, 1 if delay_seconds else 0))


if __name__ == "__main__":
    main()
