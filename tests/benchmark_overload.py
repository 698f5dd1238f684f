"""What an overloaded gateway still serves: `python -m tests.benchmark_overload`.

One gunicorn worker has the last core; the services, the load and HAProxy share the first one. For the load to be ten
times what the worker can serve, the worker gets a part of its core only (`--share`, by a control group of Linux, which
takes root). The part changes what can be served, but no ratio: neither of costs nor of rates.

The load does not wait for responses; each counts that is 2xx within `--timeout`. Beside what was served stands what the
cost of refusals leaves at best: with a capacity of 1, refusals that cost r of a response, and an offered load m,
(1 - m r) / (1 - r).
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from optimizely_api.comparison.load.command import run_load_process
from optimizely_api.comparison.load.plan import LoadPlan
from optimizely_api.comparison.load.result import LoadResult, Tally
from optimizely_api.comparison.rig.balancer import find
from tests import benchmark_stages
from tests.benchmark_stages import CORES, REQUEST, TARGET, Client, Gateway, Services
from tests.support import samples
from tests.support.ports import free_port
from tests.support.serving import ROOT, SOON_SECONDS, is_listening

TIMES = (2, 5, 10)
BULK_TIMES, PEOPLE_SHARE = 12, 0.3
CONNECTIONS = 16  # of callers without a pause, to find what can be served
BEFORE_SECONDS, AFTER_SECONDS, UNLOADED = (
    3.0,
    6.0,
    0.5,
)  # at half of the capacity, before and after an overload
PERIOD_US = 4_000  # of the control group: short, so that the part of a core does not make the loop wait
CGROUPS = Path("/sys/fs/cgroup")
BALANCER = ROOT / "deploy" / "haproxy.cfg"
PERSON = f"/v2/experiments/{samples.EXPERIMENT}"
BULK = "/v2/me"  # an alpha operation
HEADERS = {"Authorization": f"Bearer {samples.TOKEN}"}
AT_ONCE = "0.000000001"  # any wait is an overload


class CountingClient(Client):
    """Counts responses by status."""

    def __init__(self, request: bytes, statuses: Counter[bytes]) -> None:
        super().__init__(request)
        self._statuses = statuses

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        head, separator, body = self._waiting.partition(b"\r\n\r\n")
        if not separator or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            return
        self._waiting = b""
        self._statuses[head[9:12]] += 1
        if time.monotonic() < self._until:
            self._transport.write(self._request)
        else:
            self.stopped.set()


@dataclass
class Served:
    """What became of one load."""

    result: LoadResult
    capacity: float

    @property
    def overload(self) -> Tally:
        return self.result.of_phase(1)

    @property
    def goodput(self) -> float:
        """Good responses by what can be served."""
        return self.overload.succeeded / self.result.plan.phases[1][1] / self.capacity

    @property
    def recovery_seconds(self) -> float:
        """From the end of the overload to the beginning of the seconds without a bad response."""
        after = [each for each in self.result.slices if each.phase == 2]
        bad = [each for each in after if each.tally.succeeded < each.tally.offered]
        return bad[-1].end - after[0].start if bad else 0.0


@contextlib.contextmanager
def slowed(pid: int, share: float) -> Iterator[None]:
    """Give a process a share of its core, until the block ends."""
    if share >= 1:
        yield
        return
    quota = max(1000, round(PERIOD_US * share))
    old = CGROUPS / "cpu"  # version 1 of control groups
    group = (old if old.is_dir() else CGROUPS) / f"benchmark-overload-{pid}"
    try:
        group.mkdir()
        if old.is_dir():
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as exc:
        raise SystemExit(f"no control group can be made ({exc}): run as root, or with --share 1") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (group.parent / "cgroup.procs").write_text(str(pid))
        with contextlib.suppress(OSError):
            group.rmdir()


@contextlib.contextmanager
def gateway(work: Path, services_port: int, options: argparse.Namespace, wait: str) -> Iterator[Gateway]:
    """Run one worker, that refuses requests above this wait (0: none), on its share of a core."""
    os.environ["OPTIMIZELY_API_OVERLOAD_WAIT_SECONDS"] = wait
    stages = argparse.Namespace(total_only=True, python_path=[])
    with (
        benchmark_stages.serve(ROOT, options.saving, services_port, work, stages) as served,
        slowed(served.worker.pid, options.share),
    ):
        yield served


@contextlib.contextmanager
def balancer(work: Path, gateway_port: int) -> Iterator[int]:
    """Run HAProxy with the shipped file, on a free port before this gateway."""
    port, config = free_port(), work / "haproxy.cfg"
    text = BALANCER.read_text(encoding="utf-8")
    config.write_text(
        text.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace(":6543", f":{gateway_port}")
    )
    with (work / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([find(), "-db", "-f", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + SOON_SECONDS
        while not is_listening(port) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(1.5)  # its first check of the gateway
        yield port
    finally:
        process.terminate()
        process.wait(SOON_SECONDS)


async def capacity_of(served: Gateway, options: argparse.Namespace) -> tuple[float, float]:
    """Return (responses a second, CPU seconds of one), for callers that do not pause."""
    await served.connect(CONNECTIONS, (REQUEST + "\r\n").encode())
    await served.load(3.0)
    before = sum(client.answered for client in served.clients)
    cost = await served.load(options.seconds)
    answered = sum(client.answered for client in served.clients) - before
    for client in served.clients:
        client._transport.abort()
    served.clients.clear()
    return answered / options.seconds, cost / 1e6


async def refusal_cost(served: Gateway, cost: float, options: argparse.Namespace) -> float:
    """CPU seconds of one refusal, on connections that stay open; `cost` is that of a response."""
    statuses: Counter[bytes] = Counter()
    loop = asyncio.get_running_loop()
    request = (REQUEST + "\r\n").encode()
    clients = []
    for _ in range(8 * CONNECTIONS):
        _, client = await loop.create_connection(
            lambda: CountingClient(request, statuses), "127.0.0.1", served.port
        )
        clients.append(client)
    for seconds in (2.0, options.seconds):
        statuses.clear()
        before, until = served._cpu_seconds(), time.monotonic() + seconds
        for client in clients:
            client.start(until)
        for client in clients:
            await client.stopped.wait()
        used = served._cpu_seconds() - before
    return (used - cost * statuses[b"200"]) / statuses[b"503"]


async def offer(
    port: int, rate: float, times: float, work: Path, options: argparse.Namespace, path: str = TARGET
) -> LoadResult:
    """Half of `rate`, then `times` of it, then half of it again."""
    plan = LoadPlan(
        url=f"http://127.0.0.1:{port}",
        phases=(
            (UNLOADED * rate, BEFORE_SECONDS),
            (times * rate, options.seconds),
            (UNLOADED * rate, AFTER_SECONDS),
        ),
        paths=(path,),
        headers=HEADERS,
        timeout_seconds=options.timeout,
        arrivals="poisson",
    )
    return await run_load_process(plan, work / f"load-{time.monotonic_ns()}.json")


async def measure_overloads(
    name: str,
    port: int,
    capacity: float,
    refusal: float,
    work: Path,
    options: argparse.Namespace,
    table: Table,
) -> None:
    for times in TIMES:
        served = Served(await offer(port, capacity, times, work, options), capacity)
        overload, before = served.overload, served.result.of_phase(0)
        possible = max(0.0, (1 - times * refusal) / (1 - refusal)) if refusal else None
        table.add_row(
            f"{name}, {times} x",
            f"{served.goodput:.0%}",
            "" if possible is None else f"{possible:.0%}",
            f"{overload.ok.percentile(50) or 0:.0f} / {overload.ok.percentile(99) or 0:.0f}",
            f"{before.ok.percentile(99) or 0:.0f}",
            f"{served.recovery_seconds:.0f}",
            _kinds(overload),
            "; ".join(served.result.why_fell_behind()) and "the load fell behind",
        )


def _kinds(tally: Tally) -> str:
    kinds = {
        **{str(status): count for status, count in tally.statuses.items()},
        **tally.failures,
        **tally.unsent,
    }
    return ", ".join(f"{kind} {count / tally.offered:.1%}" for kind, count in sorted(kinds.items()) if count)


async def measure_people(port: int, capacity: float, work: Path, options: argparse.Namespace) -> str:
    """Load people's small reads while bulk comes; returns a sentence."""
    seconds = BEFORE_SECONDS + options.seconds + AFTER_SECONDS
    people = LoadPlan(
        url=f"http://127.0.0.1:{port}",
        phases=((PEOPLE_SHARE * capacity, seconds),),
        paths=(PERSON,),
        headers=HEADERS,
        timeout_seconds=options.timeout,
        arrivals="poisson",
    )
    result, bulk = await asyncio.gather(
        run_load_process(people, work / "people.json"), offer(port, capacity, BULK_TIMES, work, options, BULK)
    )
    total = result.total()
    during = bulk.of_phase(1)
    return (
        f"people's reads beside {BULK_TIMES} x of bulk: {total.succeeded} of {total.offered} good"
        f" ({total.succeeded / total.offered:.3%}), p99 {total.ok.percentile(99):.0f} ms;"
        f" of bulk {during.succeeded / during.offered:.1%}"
    )


async def run(options: argparse.Namespace) -> None:
    console = Console(width=150)
    loop = asyncio.get_running_loop()
    services = await loop.create_server(lambda: Services(options.body_bytes), "127.0.0.1", free_port())
    services_port = services.sockets[0].getsockname()[1]
    table = Table(title=f"Composites, each that is not 2xx within {options.timeout:g} s is bad")
    for column in (
        "load",
        "goodput",
        "possible",
        "p50 / p99 of the good, ms",
        "p99 before, ms",
        "well again after, s",
        "what came back",
        "",
    ):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with gateway(work, services_port, options, "0") as served:
            capacity, cost = await capacity_of(served, options)
            console.print(f"{capacity:.0f} responses/s can be served, {cost * 1e6:.0f} us of CPU each")
            if not options.only_admission:
                await measure_overloads("no admission", served.port, capacity, 0.0, work, options, table)
        with gateway(work, services_port, options, AT_ONCE) as served:
            refusal = await refusal_cost(served, cost, options)
            console.print(
                f"a refusal on an open connection: {refusal * 1e6:.1f} us of CPU, {refusal / cost:.1%} of a response"
            )
        with gateway(work, services_port, options, options.wait) as served:
            await measure_overloads("admission", served.port, capacity, refusal / cost, work, options, table)
            console.print(await measure_people(served.port, capacity, work, options))
            with balancer(work, served.port) as port:
                await measure_overloads("admission, HAProxy", port, capacity, 0.0, work, options, table)
        if not options.only_admission:
            with gateway(work, services_port, options, "0") as served, balancer(work, served.port) as port:
                await measure_overloads("HAProxy", port, capacity, 0.0, work, options, table)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each overload")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds until a caller gives up")
    parser.add_argument("--share", type=float, default=0.25, help="of a core, for the worker")
    parser.add_argument("--wait", default="1.0", help="overload_wait_seconds of the gateway")
    parser.add_argument(
        "--saving", choices=benchmark_stages.SAVING, default="off", help="which calls need not be made"
    )
    parser.add_argument("--body-bytes", type=int, default=5500, help="of the results")
    parser.add_argument("--only-admission", action="store_true", help="not without admission, for comparison")
    options = parser.parse_args()
    os.sched_setaffinity(0, [CORES[0]])
    uvloop.run(run(options))


if __name__ == "__main__":
    main()
