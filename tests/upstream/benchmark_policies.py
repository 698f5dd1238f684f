"""What callers meet while a service fails, with the policies of calls and without them.

    python -m tests.upstream.benchmark_policies

A service of this process is slow in one of a hundred calls, silent, or takes no connections; and one goes away and
comes back. Calls arrive at a rate. The times are of real sockets, on a machine that does other things too: read the two
lines of each failure against each other.
"""

import asyncio
import itertools
import random
import socket
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import click
import uvloop

from optimizely_api.upstream.caching.caching_client import CachingOptions, open_caching_client
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import CallContext, Client, Limits, Upstream
from optimizely_api.upstream.errors import UpstreamError
from optimizely_api.upstream.resilience.policies import PolicyOptions
from tests.support.ports import free_port

SHAPES = {"Thing": lambda _value: None}
LIMITS = Limits(connections=1000, connect_timeout_seconds=1.0, response_bytes=10_000, echo_required=False)
NOTHING_KEPT = CachingOptions(coalesce=False, definition_bytes=0, results_bytes=0)
OFF = PolicyOptions(retry_tokens=0, throttle_seconds=0, fewest_calls=0, hedge_share=0)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CALL_SECONDS = 3.0
SLOW_SECONDS = 1.0


def one_in_a_hundred_slow() -> float:
    return SLOW_SECONDS if random.random() < 0.01 else 0.003


def silent() -> float:
    return 3600.0


@asynccontextmanager
async def served(port: int, delay: Callable[[], float]) -> AsyncIterator[None]:
    """A service that answers each request after a delay."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(delay())
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
    try:
        yield
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await server.wait_closed()


@asynccontextmanager
async def black_hole(port: int) -> AsyncIterator[None]:
    """An address that takes no connections and refuses none: its backlog is full."""
    with socket.create_server(("127.0.0.1", port), backlog=0):
        held = [socket.socket() for _ in range(4)]
        for each in held:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        try:
            yield
        finally:
            for each in held:
                each.close()


async def timed(client: Client, number: int) -> tuple[float, bool]:
    """The seconds of one call, and whether it was good."""
    started = time.monotonic()
    try:
        await client.fetch(
            Call("results", f"/things/{number}", "Thing"), CallContext("id", started + CALL_SECONDS)
        )
    except UpstreamError:
        return time.monotonic() - started, False
    return time.monotonic() - started, True


async def offer(client: Client, seconds: float, rate: float) -> list[tuple[float, bool]]:
    """Make calls at a rate, and return what became of each."""
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(round(seconds * rate)):
            tasks.append(group.create_task(timed(client, number)))
            await asyncio.sleep(1 / rate)
    return [task.result() for task in tasks]


@asynccontextmanager
async def client_of(port: int, policies: PolicyOptions) -> AsyncIterator[Client]:
    upstreams = {"results": Upstream(url=f"http://127.0.0.1:{port}", timeout_seconds=CALL_SECONDS)}
    opened = open_caching_client(upstreams, LIMITS, SHAPES, NOTHING_KEPT, policy_options=policies)
    async with opened as client:
        yield client


async def slow_share(policies: PolicyOptions, seconds: float, rate: float) -> str:
    """Percentiles with one call in a hundred at a second, after a warm-up."""
    port = free_port()
    async with served(port, one_in_a_hundred_slow), client_of(port, policies) as client:
        await offer(client, 2.0, rate)
        took = sorted(each for each, _ in await offer(client, seconds, rate))
    return f"p50 {_ms(took[len(took) // 2])}, p99 {_ms(took[int(len(took) * 0.99)])}"


async def failing(policies: PolicyOptions, seconds: float, rate: float, *, hole: bool) -> str:
    """The mean time of a call that comes once the service has failed for a while."""
    port = free_port()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(black_hole(port) if hole else served(port, silent))
        client = await stack.enter_async_context(client_of(port, policies))
        took = [each for each, _ in await offer(client, seconds, rate)]
    later = took[len(took) // 2 :]
    return f"mean {_ms(statistics.fmean(later))}, median {_ms(statistics.median(later))}"


async def returning(policies: PolicyOptions, seconds: float, rate: float) -> str:
    """From a service's return to its first good answer, and until every call is answered again."""
    port = free_port()
    async with client_of(port, policies) as client:
        await offer(client, seconds, rate)
        async with served(port, lambda: 0.003):
            started = time.monotonic()
            first = last_bad = None
            for _ in itertools.takewhile(lambda _: time.monotonic() - started < 5, itertools.count()):
                _, good = await timed(client, 0)
                now = time.monotonic() - started
                first = now if good and first is None else first
                last_bad = last_bad if good else now
                await asyncio.sleep(1 / rate)
    return f"first good {_ms(first or float('inf'))}, last failed {_ms(last_bad or 0.0)}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms"


async def compare(seconds: float, rate: float) -> None:
    """Print a line for each failure."""
    on = PolicyOptions()
    for what, measure in {
        "one call in a hundred takes a second": slow_share,
        "a service is silent": lambda *args: failing(*args, hole=False),
        "an address takes no connections": lambda *args: failing(*args, hole=True),
        "a service returns": returning,
    }.items():
        click.echo(f"{what}\n  without: {await measure(OFF, seconds, rate)}")
        click.echo(f"  with:    {await measure(on, seconds, rate)}")


@click.command()
@click.option("--seconds", default=10.0, show_default=True, help="Of each measurement.")
@click.option("--rate", default=100.0, show_default=True, help="Calls a second.")
def main(seconds: float, rate: float) -> None:
    """Compare calls with and without the policies while a service fails."""
    uvloop.run(compare(seconds, rate))


if __name__ == "__main__":
    main()
