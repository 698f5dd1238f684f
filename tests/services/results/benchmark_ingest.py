"""How fast events are stored: `python -m tests.services.results.benchmark_ingest`.

Senders post batches to a results service of one worker, each as soon as its last one is answered; every visitor decides
in one event and converts in the next. Prints events per second and the service's CPU time per event.
`--postgresql` uses the server at TEST_POSTGRESQL_URL, whose own CPU time is not counted.
`--gateway` sends them to a gateway of one worker, which has a CPU with the senders; the service has the next CPU alone.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
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
from tests.support.real_services import AS_GATEWAY, KEY, service, wait_until_listening
from tests.support.serving import serve

CASES = ((1, 8), (1, 64), (10, 8), (10, 64), (100, 8), (500, 8))  # events a batch, senders


@dataclass(frozen=True)
class Receiver:
    """Where events are posted, and the workers on their way: the service's, and the gateway's if there is one."""

    url: str
    workers: dict[str, psutil.Process]

    def cpu_seconds(self) -> dict[str, float]:
        return {name: sum(worker.cpu_times()[:2]) for name, worker in self.workers.items()}


@contextlib.asynccontextmanager
async def receiver(folder: Path, options: argparse.Namespace) -> AsyncIterator[Receiver]:
    """A running results service of one worker, behind a gateway if the options say so."""
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(own_postgresql_database()) if options.postgresql else ""
        port = free_port()
        master = stack.enter_context(service("results", port, folder, 1, url))
        address = f"http://127.0.0.1:{port}"
        await asyncio.to_thread(wait_until_listening, address, folder / "results.log")
        workers = {"service": _worker(master.pid)}
        if options.gateway:
            settings = {"services_key": KEY, "results_url": address}
            gateway = stack.enter_context(serve("main", settings, folder / "gateway.log", "--workers", "1"))
            await asyncio.to_thread(gateway.get, "/healthz")  # its worker has started
            address, workers["gateway"] = gateway.url, _worker(gateway.process.pid)
            first, second = sorted(os.sched_getaffinity(0))[:2]
            os.sched_setaffinity(0, {first})
            workers["gateway"].cpu_affinity([first])
            workers["service"].cpu_affinity([second])
        yield Receiver(f"{address}/v1/events", workers)


def _worker(master: int) -> psutil.Process:
    (worker,) = psutil.Process(master).children()
    return worker


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
    receiver: Receiver, events: int, senders: int, seconds: float
) -> tuple[float, dict[str, float]]:
    """Events stored per second, and microseconds of each worker's CPU for one."""
    made = bodies(events)
    stored = 0
    ends = time.monotonic() + seconds
    connector = aiohttp.TCPConnector(limit=senders)
    async with aiohttp.ClientSession(connector=connector, headers=AS_GATEWAY) as session:

        async def send() -> None:
            nonlocal stored
            while time.monotonic() < ends:
                body, count = next(made)
                async with session.post(receiver.url, data=body) as response:
                    assert response.status == 204, await response.text()
                stored += count

        started, before = time.monotonic(), receiver.cpu_seconds()
        await asyncio.gather(*(send() for _ in range(senders)))
        took, after = time.monotonic() - started, receiver.cpu_seconds()
    return stored / took, {name: 1e6 * (after[name] - before[name]) / stored for name in after}


async def run(options: argparse.Namespace) -> None:
    table = Table(title=f"Storing events on {'PostgreSQL' if options.postgresql else 'SQLite'}")
    workers = ("service", "gateway") if options.gateway else ("service",)
    for name in ("events a batch", "senders", "events/s", *(f"CPU us an event, {name}" for name in workers)):
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        async with receiver(Path(folder), options) as receiving:
            await measure(receiving, 10, 8, 1.0)
            for events, senders in options.case or CASES:
                rate, cpu = await measure(receiving, events, senders, options.seconds)
                costs = (f"{cpu[name]:,.0f}" for name in workers)
                table.add_row(str(events), str(senders), f"{rate:,.0f}", *costs)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--gateway", action="store_true", help="through a gateway, on two CPUs")
    parser.add_argument(
        "--case",
        type=int,
        nargs=2,
        action="append",
        metavar=("EVENTS", "SENDERS"),
        help="in place of the usual",
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each case")
    options = parser.parse_args()
    if options.postgresql and not os.environ.get("TEST_POSTGRESQL_URL"):
        parser.error("set TEST_POSTGRESQL_URL")
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
