"""How fast events are stored: `python -m tests.services.results.benchmark_ingest`.

Senders post batches to a results service of one worker, each as soon as its last one is answered; every visitor decides
in one event and converts in the next. Prints events per second and the service's CPU time per event.
`--postgresql` uses the server at TEST_POSTGRESQL_URL, whose own CPU time is not counted.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psutil
from rich.console import Console
from rich.table import Table

from tests.services.conftest import own_postgresql_database
from tests.services.results.sending import batch, conversion, impression
from tests.support.ports import free_port
from tests.support.real_services import AS_GATEWAY, service, wait_until_listening

CASES = ((1, 8), (1, 64), (10, 8), (10, 64), (100, 8), (500, 8))  # events a batch, senders


@contextlib.asynccontextmanager
async def results_service(folder: Path, *, postgresql: bool) -> AsyncIterator[tuple[str, psutil.Process]]:
    """The URL of a running results service, and its worker's process."""
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(own_postgresql_database()) if postgresql else ""
        port = free_port()
        master = stack.enter_context(service("results", port, folder, 1, url))
        await asyncio.to_thread(wait_until_listening, f"http://127.0.0.1:{port}", folder / "results.log")
        (worker,) = psutil.Process(master.pid).children()
        yield f"http://127.0.0.1:{port}/v1/events", worker


def bodies(events: int) -> Iterator[tuple[bytes, int]]:
    """Batches without end, and the number of events in each, of visitors who decide and then convert."""
    entries = (entry for number in itertools.count() for entry in visit(f"visitor-{number}"))
    while True:
        chosen = list(itertools.islice(entries, events))
        yield orjson.dumps(batch(*chosen)), len(chosen)


def visit(visitor: str) -> Iterator[Any]:
    yield impression(visitor)
    yield conversion(visitor)


async def measure(
    url: str, worker: psutil.Process, events: int, senders: int, seconds: float
) -> tuple[float, float]:
    """Events stored per second, and microseconds of the service's CPU for each."""
    made = bodies(events)
    stored = 0
    ends = time.monotonic() + seconds
    connector = aiohttp.TCPConnector(limit=senders)
    async with aiohttp.ClientSession(connector=connector, headers=AS_GATEWAY) as session:

        async def send() -> None:
            nonlocal stored
            while time.monotonic() < ends:
                body, count = next(made)
                async with session.post(url, data=body) as response:
                    assert response.status == 204, await response.text()
                stored += count

        started, before = time.monotonic(), sum(worker.cpu_times()[:2])
        await asyncio.gather(*(send() for _ in range(senders)))
        took, cpu = time.monotonic() - started, sum(worker.cpu_times()[:2]) - before
    return stored / took, 1e6 * cpu / stored


async def run(options: argparse.Namespace) -> None:
    table = Table(title=f"Storing events on {'PostgreSQL' if options.postgresql else 'SQLite'}")
    for name in ("events a batch", "senders", "events/s", "CPU us an event"):
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        async with results_service(Path(folder), postgresql=options.postgresql) as (url, worker):
            await measure(url, worker, 10, 8, 1.0)
            for events, senders in CASES:
                rate, cpu = await measure(url, worker, events, senders, options.seconds)
                table.add_row(str(events), str(senders), f"{rate:,.0f}", f"{cpu:,.0f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each case")
    options = parser.parse_args()
    if options.postgresql and not os.environ.get("TEST_POSTGRESQL_URL"):
        parser.error("set TEST_POSTGRESQL_URL")
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
