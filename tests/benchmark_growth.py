"""What more requests in flight cost one worker: `python -m tests.benchmark_growth`.

One gunicorn worker, as production.ini has it, before the stub of the services; the load comes from a process of its own
and waits for no answer. The first table holds more and more composites in flight at once, each of another experiment:
what became of them, the worker's memory, and its CPU time. The second offers one and the same rate while the services
take longer and longer: the CPU time of a request should stay what it is.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil
from rich.console import Console
from rich.table import Table

from optimizely_api.comparison.load.command import LoadPlan, LoadResult, run_load_process
from optimizely_api.comparison.rig.processes import Process
from optimizely_api.comparison.stub import entities as stub_entities
from optimizely_api.serving.file_limits import allow_many_files
from tests.support.serving import SOON_SECONDS, serve

STUB = "optimizely_api.comparison.stub.server"
HEADERS = {"Authorization": "Bearer 2:growth"}
CALLS_IN_TURN = 2  # of a composite: the experiment, then the others side by side
PATIENCE_SECONDS = 60.0
SAMPLE_SECONDS = 0.05
MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Seen:
    """One load: what became of it, and what it took the worker. Memory is resident, in bytes."""

    result: LoadResult
    idle: int
    peak: int
    after: int
    cpu_seconds: float

    @property
    def good(self) -> int:
        return self.result.total().succeeded

    @property
    def bad(self) -> dict[str, int]:
        """What was not a good answer, by status or failure."""
        total = self.result.total()
        statuses = {str(status): count for status, count in total.statuses.items() if status != 200}
        return {**statuses, **total.failures, **total.unsent}

    @property
    def most_in_flight(self) -> int:
        return self.result.most_connections

    @property
    def bytes_per_request(self) -> float:
        return (self.peak - self.idle) / self.most_in_flight

    @property
    def us_per_request(self) -> float:
        return 1e6 * self.cpu_seconds / self.good if self.good else 0.0


class Bench:
    """The worker that is looked at, and the services behind it."""

    def __init__(self, url: str, worker: psutil.Process, control: str, folder: Path) -> None:
        self._url = url
        self._worker = worker
        self._control = control
        self._output = folder / "load.json"
        self._number = 0

    async def offer(self, rate: float, seconds: float) -> Seen:
        """Offer composites of experiments that were not asked for before, and wait for every answer."""
        number = round(rate * seconds) + 1
        first = stub_entities.EXPERIMENTS_FROM + self._number
        self._number += number
        plan = LoadPlan(
            url=self._url,
            phases=((rate, seconds),),
            paths=[f"/v2/experiments/{first + index}/results" for index in range(number)],
            headers=HEADERS,
            timeout_seconds=PATIENCE_SECONDS,
            connections=max(10_000, number),
        )
        idle, cpu = self._resident(), self._cpu_seconds()
        async with self._watched() as seen:
            result = await run_load_process(plan, self._output)
        return Seen(result, idle, max(seen), self._resident(), self._cpu_seconds() - cpu)

    def delay(self, milliseconds: float) -> None:
        """Have every service take this long for an answer."""
        self._ask(f"/_set?delay_ms={milliseconds:g}")

    def _ask(self, path: str) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self._control + path, timeout=SOON_SECONDS):
            pass

    def _resident(self) -> int:
        return int(self._worker.memory_info().rss)

    def _cpu_seconds(self) -> float:
        # What the scheduler counted, in nanoseconds: finer than the ticks of /proc/PID/stat.
        threads = Path(f"/proc/{self._worker.pid}/task").glob("*/schedstat")
        return sum(int(file.read_text().split()[0]) for file in threads) / 1e9

    @contextlib.asynccontextmanager
    async def _watched(self) -> AsyncIterator[list[int]]:
        """The worker's resident memory, looked at until the block ends."""
        seen = [self._resident()]

        async def watch() -> None:
            while True:
                await asyncio.sleep(SAMPLE_SECONDS)
                seen.append(self._resident())

        watching = asyncio.create_task(watch())
        try:
            yield seen
        finally:
            watching.cancel()


@contextlib.contextmanager
def bench(
    folder: Path, settings: dict[str, str], *options: str, open_files: int | None = None
) -> Iterator[Bench]:
    """Run the stub and one worker, which may have so many open files, until the block ends."""
    stub = Process(
        "upstreams", [sys.executable, "-m", STUB, "--control-port", "0", "--delay-ms", "0"], folder
    )
    try:
        ports = _ports(stub)
        control = f"http://127.0.0.1:{ports.pop('control')}"
        addresses = {f"{name}_url": f"http://127.0.0.1:{port}" for name, port in ports.items()}
        options = ("--workers", "1", *options)
        with serve("main", addresses | settings, folder / "log", *options, open_files=open_files) as served:
            yield Bench(served.url, _worker(served.process.pid, served.log), control, folder)
    finally:
        stub.stop()


def _ports(stub: Process) -> dict[str, int]:
    deadline = time.monotonic() + SOON_SECONDS
    while stub.running and time.monotonic() < deadline:
        if (text := stub.output.read_text()).endswith("\n"):
            ports: dict[str, int] = orjson.loads(text.splitlines()[0])
            return ports
        time.sleep(SAMPLE_SECONDS)
    raise AssertionError(f"the stub of the services did not start:\n{stub.tail()}")


def _worker(master: int, log: Path) -> psutil.Process:
    deadline = time.monotonic() + SOON_SECONDS
    while time.monotonic() < deadline:
        if b"Gateway worker listening" in log.read_bytes():
            return psutil.Process(master).children()[0]
        time.sleep(SAMPLE_SECONDS)
    raise AssertionError(f"the worker did not start:\n{log.read_text()}")


async def warm_up(bench: Bench) -> None:
    await bench.offer(100, 3)


async def in_flight(bench: Bench, options: argparse.Namespace, console: Console) -> None:
    """Hold more and more requests in flight: they come evenly while the first one is being answered."""
    table = Table(title=f"Services at {options.delay_ms:g} ms, one worker")
    for name in ("sent at once", "in flight", "answered", "not well", "RSS idle, MB", "peak", "after"):
        table.add_column(name, justify="right")
    for name in ("kB per request", "CPU us per request", "last answer, s"):
        table.add_column(name, justify="right")
    bench.delay(options.delay_ms)
    seconds = CALLS_IN_TURN * options.delay_ms / 1000 * options.spread
    for number in options.in_flight:
        console.print(f"{number} requests in {seconds:g} s", highlight=False)
        seen = await bench.offer(number / seconds, seconds)
        table.add_row(*_cells(number, seen))
    console.print(table)


def _cells(number: int, seen: Seen) -> Sequence[str]:
    return (
        str(number),
        str(seen.most_in_flight),
        str(seen.good),
        ", ".join(f"{count} {kind}" for kind, count in seen.bad.items()) or "0",
        *(f"{size / MEGABYTE:.0f}" for size in (seen.idle, seen.peak, seen.after)),
        f"{seen.bytes_per_request / 1000:.1f}",
        f"{seen.us_per_request:.0f}",
        f"{(seen.result.total().latency.max or 0) / 1000:.1f}",
    )


async def delays(bench: Bench, options: argparse.Namespace, console: Console) -> None:
    """One rate, slower and slower services; in turn, so that all of them meet the same machine."""
    found: dict[float, list[float]] = {delay: [] for delay in options.delays_ms}
    for number in range(options.rounds):
        console.print(f"round {number + 1} of {options.rounds}", highlight=False)
        for delay in options.delays_ms:
            bench.delay(delay)
            seen = await bench.offer(options.rate, options.seconds)
            assert not seen.bad, seen.bad
            found[delay].append(seen.us_per_request)
    table = Table(title=f"{options.rate:g} requests/s, median of {options.rounds} rounds")
    for name in ("services' delay, ms", "in flight", "CPU us per request", "of the first"):
        table.add_column(name, justify="right")
    first = found[options.delays_ms[0]]
    for delay, each in found.items():
        ratio = statistics.median(b / a for a, b in zip(first, each, strict=True))
        waiting = options.rate * CALLS_IN_TURN * delay / 1000
        table.add_row(f"{delay:g}", f"{waiting:.0f}", f"{statistics.median(each):.0f}", f"{ratio:.2f}")
    console.print(table)


async def run(options: argparse.Namespace) -> None:
    console = Console(width=130)
    settings = dict(each.split("=", 1) for each in options.set)
    with tempfile.TemporaryDirectory() as folder, bench(Path(folder), settings) as served:
        await warm_up(served)
        if options.in_flight:
            await in_flight(served, options, console)
        if options.rounds:
            await delays(served, options, console)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in-flight", type=int, nargs="*", default=[100, 1000, 2000, 5000, 10_000])
    parser.add_argument("--delay-ms", type=float, default=2000.0, help="of the services, in the first table")
    parser.add_argument(
        "--spread", type=float, default=0.75, help="of a request's time, over which the requests are sent"
    )
    parser.add_argument("--delays-ms", type=float, nargs="+", default=[0, 20, 200, 2000])
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second, in the second table")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one load there")
    parser.add_argument("--rounds", type=int, default=5, help="there; 0 leaves it out")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SETTING=VALUE", help="of the gateway; may be repeated"
    )
    options = parser.parse_args()
    allow_many_files()
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
