"""What callers of the gateway meet while one service is slow: `python -m tests.benchmark_slow_service`.

One gunicorn worker has the last core, as it is shipped but for `--saving`; the services and the load share the first
one. Nothing is overloaded. Two questions, whose measurements take turns, so that all meet the same machine:

- How long does a composite take while one in a hundred of the results service's responses takes a second? Calls that
  take longer than most are sent a second time, which `hedge_share = 0` turns off.
- How long do requests take that do not need the results service, while it takes ten times as long as usual and
  composites wait for it?
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from optimizely_api.comparison.load.command import run_load_process
from optimizely_api.comparison.load.plan import LoadPlan
from optimizely_api.comparison.load.result import LoadResult, Tally
from tests import benchmark_stages
from tests.benchmark_stages import CORES, TARGET, Services
from tests.support import samples
from tests.support.ports import free_port
from tests.support.serving import ROOT

WARM_UP_SECONDS = 3.0  # the gateway learns how long calls take
USUAL_SECONDS, SLOW_SECONDS, SLOW_SHARE, TIMES = 0.01, 1.0, 0.01, 10
OTHER = f"/v2/experiments/{samples.EXPERIMENT}"
HEADERS = {"Authorization": f"Bearer {samples.TOKEN}"}


class DelayedServices(Services):
    """The services, whose responses take as long as `delay_of` says of the request's path."""

    delay_of: Callable[[bytes], float]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Delayed(transport, self))
        self.path = b""

    def data_received(self, data: bytes) -> None:
        self.path = data.split(b" ", 2)[
            1
        ]  # the gateway sends a request in one piece, and the next after the response
        super().data_received(data)


class _Delayed:
    """A transport that writes later."""

    def __init__(self, transport: Any, services: DelayedServices) -> None:
        self._transport, self._services = transport, services

    def write(self, data: bytes) -> None:
        delay = type(self._services).delay_of(self._services.path)
        asyncio.get_running_loop().call_later(delay, self._write, data)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


def usual(_path: bytes) -> float:
    return USUAL_SECONDS


def slow_at_times(path: bytes) -> float:
    is_slow = path.startswith(b"/results") and random.random() < SLOW_SHARE
    return SLOW_SECONDS if is_slow else USUAL_SECONDS


def always_slow(path: bytes) -> float:
    return TIMES * USUAL_SECONDS if path.startswith(b"/results") else USUAL_SECONDS


async def offer(port: int, path: str, work: Path, options: argparse.Namespace) -> LoadResult:
    plan = LoadPlan(
        url=f"http://127.0.0.1:{port}",
        phases=((options.rate, options.seconds),),
        paths=(path,),
        headers=HEADERS,
        warm_up_seconds=WARM_UP_SECONDS,
        arrivals="poisson",
    )
    return await run_load_process(plan, work / f"load-{random.random()}.json")


async def run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: DelayedServices(options.body_bytes), "127.0.0.1", free_port())
    services_port = server.sockets[0].getsockname()[1]
    stages = argparse.Namespace(total_only=True, python_path=[])
    table = Table(
        title=f"Milliseconds, {options.rate:g} requests/s of each kind, medians of {options.rounds} rounds"
    )
    for column in ("requests", "results service", "p50", "p99", "not 2xx", ""):
        table.add_column(column)
    cases = (
        ("composites", "as usual", usual, "0.025"),
        ("composites", "1 in 100 takes 1 s", slow_at_times, "0.025"),
        ("composites", "1 in 100 takes 1 s, no hedges", slow_at_times, "0"),
        ("others", "as usual", usual, "0.025"),
        ("others", f"{TIMES} times as slow", always_slow, "0.025"),
    )
    found: dict[tuple[str, str], list[LoadResult]] = {case[:2]: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for _ in range(options.rounds):
            for requests, state, delay_of, hedge_share in cases:
                os.environ["OPTIMIZELY_API_HEDGE_SHARE"] = hedge_share
                DelayedServices.delay_of = staticmethod(delay_of)
                with benchmark_stages.serve(ROOT, options.saving, services_port, work, stages) as served:
                    loads = [offer(served.port, TARGET, work, options)]
                    if requests == "others":
                        loads.append(offer(served.port, OTHER, work, options))
                    found[requests, state].append((await asyncio.gather(*loads))[-1])
    for (requests, state), results in found.items():
        total = Tally.sum(result.total() for result in results)
        table.add_row(
            requests,
            state,
            _median(results, 50),
            _median(results, 99),
            f"{1 - total.succeeded / total.offered:.2%}",
            "the load fell behind" if any(result.why_fell_behind() for result in results) else "",
        )
    Console(width=110).print(table)


def _median(results: list[LoadResult], percentile: float) -> str:
    return f"{statistics.median(result.total().ok.percentile(percentile) or 0.0 for result in results):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second of each kind")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--saving", choices=benchmark_stages.SAVING, default="off", help="which calls need not be made"
    )
    parser.add_argument("--body-bytes", type=int, default=5500, help="of the results")
    options = parser.parse_args()
    os.sched_setaffinity(0, [CORES[0]])
    uvloop.run(run(options))


if __name__ == "__main__":
    main()
