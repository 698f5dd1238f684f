"""CPU time of one composite request, split by stage: `python -m tests.benchmark_stages`.

One gunicorn worker has the last core for itself; the services and the client, which cost little, share the first one.
With `--against FOLDER`, another checkout of the project is measured in turn with this one, second by second, so that
both meet the same machine: read the ratio, not the microseconds. With `--saving` calls are shared and answers kept:

    python -m tests.benchmark_stages --saving off --against . --against-saving all
"""

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from tests.benchmark_sampler import STAGES
from tests.support import samples
from tests.support.ports import free_port
from tests.support.serving import ROOT, SOON_SECONDS

SAMPLER = Path(__file__).with_name("benchmark_sampler.py")
CORES = sorted(os.sched_getaffinity(0))
TARGET = f"/v2/experiments/{samples.EXPERIMENT}/results?start_time=2026-01-06T00:00:00Z&end_time=2026-01-19T00:00:00Z"
REQUEST = (
    f"GET {TARGET} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {samples.TOKEN}\r\n"
    "User-Agent: benchmark\r\nAccept: */*\r\n"
)
EXPECTED = (b"HTTP/1.1 200", b"HTTP/1.1 304")

# The settings of a gateway by what it saves; `default` says nothing, for checkouts that do not know them.
_OFF = {"COALESCE_CALLS": "false", "DEFINITION_CACHE_SECONDS": "0", "RESULTS_CACHE_BYTES": "0"}
SAVING = {
    "default": {},
    "off": _OFF,
    "shared": {**_OFF, "COALESCE_CALLS": "true"},
    "definitions": {**_OFF, "DEFINITION_CACHE_SECONDS": "600"},
    "all": {"COALESCE_CALLS": "true", "DEFINITION_CACHE_SECONDS": "600", "RESULTS_CACHE_SECONDS": "600"},
}


def results(body_bytes: int) -> dict[str, Any]:
    """The results of one experiment with as many metrics as make a body of about this size."""
    answer = samples.results()
    metric = answer["metrics"][0]
    number = max(1, round(body_bytes / len(orjson.dumps(metric))))
    answer["metrics"] = [{**metric, "name": f"Metric {index}"} for index in range(number)]
    return answer


class Services(asyncio.Protocol):
    """All three services on one port: knows the one experiment of the samples, and answers from memory."""

    def __init__(self, body_bytes: int) -> None:
        token = samples.token()["token_sha256"]
        answers = {
            f"/tokens/{token}": samples.token(),
            f"/experiments/{samples.EXPERIMENT}": samples.experiment(),
            f"/layers/{samples.LAYER}": samples.layer(),
            f"/projects/{samples.PROJECT}": samples.project(),
            f"/results/{samples.EXPERIMENT}": {"experiment_id": samples.EXPERIMENT, **results(body_bytes)},
        }
        self._answers = {path.encode(): _answer(value) for path, value in answers.items()}
        self._waiting = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._waiting + data
        while b"\r\n\r\n" in data:
            head, _, rest = data.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if len(rest) < int(length or 0):
                break
            data = rest[int(length or 0) :]
            number = head.partition(b"X-Request-Id: ")[2].partition(b"\r\n")[0]
            self._transport.write(self._answers[head.split(b" ", 2)[1]] % number)
        self._waiting = data


def _answer(value: object) -> bytes:
    body = orjson.dumps(value)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"X-Request-Id: %b\r\n\r\n" + body.replace(b"%", b"%%")


class Client(asyncio.Protocol):
    """A caller that sends the next request as soon as the last one is answered; counts the answers."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.answered = 0
        self.stopped = asyncio.Event()
        self._until = 0.0
        self._body_left = 0
        self._waiting = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def start(self, until: float) -> None:
        self._until = until
        self.stopped.clear()
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stopped.set()

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        head, separator, body = self._waiting.partition(b"\r\n\r\n")
        if not separator:
            return
        assert head.startswith(EXPECTED), self._waiting[:1000]
        if len(body) < int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0):
            return
        self._waiting = b""
        self.answered += 1
        if time.monotonic() < self._until:
            self._transport.write(self._request)
        else:
            self.stopped.set()


@dataclass
class Gateway:
    """A served checkout: its worker process, its callers, and what was seen of it."""

    name: str
    worker: psutil.Process
    port: int
    stages_file: Path
    clients: list[Client] = field(default_factory=list)
    us_per_request: list[float] = field(default_factory=list)

    async def connect(self, number: int, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(number):
            _, client = await loop.create_connection(lambda: Client(request), "127.0.0.1", self.port)
            self.clients.append(client)

    async def load(self, seconds: float) -> float:
        """Let every caller send for this long; returns the CPU microseconds of one answer."""
        before, cpu_before = self._answered(), self._cpu_seconds()
        until = time.monotonic() + seconds
        for client in self.clients:
            client.start(until)
        for client in self.clients:
            await client.stopped.wait()
        answered = self._answered() - before
        assert answered, "nothing was answered"
        return 1e6 * (self._cpu_seconds() - cpu_before) / answered

    def stages(self) -> dict[str, int]:
        """The samples since the last call, by stage."""
        self.stages_file.unlink(missing_ok=True)
        self.worker.send_signal(signal.SIGRTMIN)
        deadline = time.monotonic() + SOON_SECONDS
        while not self.stages_file.exists():
            assert time.monotonic() < deadline, "the worker wrote no samples"
            time.sleep(0.01)
        counted: dict[str, int] = orjson.loads(self.stages_file.read_bytes())
        return counted

    def _answered(self) -> int:
        return sum(client.answered for client in self.clients)

    def _cpu_seconds(self) -> float:
        # What the scheduler counted, in nanoseconds: finer than the ticks of /proc/PID/stat.
        threads = Path(f"/proc/{self.worker.pid}/task").glob("*/schedstat")
        return sum(int(file.read_text().split()[0]) for file in threads) / 1e9


@contextlib.contextmanager
def serve(
    folder: Path, saving: str, services_port: int, work: Path, options: argparse.Namespace
) -> Iterator[Gateway]:
    """Run one worker of a checkout, on the last core, until the block ends."""
    port, name = free_port(), f"{folder.name}-{time.monotonic_ns()}"
    stages_file, log, access_log = (work / f"{name}.{kind}" for kind in ("json", "log", "access"))
    address = f"http://127.0.0.1:{services_port}"
    environment = {
        **os.environ,
        **{f"OPTIMIZELY_API_{service}_URL": address for service in ("PROJECTS", "EXPERIMENTS", "RESULTS")},
        "OPTIMIZELY_API_IDENTITY_CACHE_SECONDS": "600",
        "SERVICES_KEY": samples.SERVICES_KEY,
        **{f"OPTIMIZELY_API_{setting}": value for setting, value in SAVING[saving].items()},
        "STAGES_FILE": str(stages_file),
        "STAGES_SAMPLED": "" if options.total_only else "yes",
        "PYTHONPATH": os.pathsep.join([str(folder), *options.python_path]),
    }
    command = [sys.executable, "-m", "gunicorn", "-c", str(SAMPLER), "--paste", "production.ini"]
    with log.open("wb") as errors, access_log.open("wb") as lines:
        process = subprocess.Popen(
            [*command, "--bind", f"127.0.0.1:{port}", "--workers", "1"],
            cwd=folder,
            env=environment,
            stdout=lines,
            stderr=errors,
        )
        try:
            worker = _worker(process, port, log)
            worker.cpu_affinity([CORES[-1]])
            yield Gateway(f"{folder}, {saving}", worker, port, stages_file)
        finally:
            process.terminate()
            process.wait(SOON_SECONDS)


def _worker(process: "subprocess.Popen[bytes]", port: int, log: Path) -> psutil.Process:
    deadline = time.monotonic() + SOON_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if b"Gateway worker listening" in log.read_bytes():
            return psutil.Process(process.pid).children()[0]
        time.sleep(0.05)
    raise AssertionError(f"gunicorn did not start:\n{log.read_text()}")


async def measure(gateways: list[Gateway], options: argparse.Namespace) -> None:
    """Load the gateways in turn, for a warm-up and then for all the rounds."""
    request = "\r\n".join([REQUEST.rstrip(), *options.header, "", ""]).encode()
    for gateway in gateways:
        await gateway.connect(options.connections, request)
        await gateway.load(options.warm_up)
        gateway.stages()
    for number in range(options.rounds):
        for gateway in gateways if number % 2 else gateways[::-1]:
            gateway.us_per_request.append(await gateway.load(options.seconds))


def report(gateways: list[Gateway], options: argparse.Namespace) -> None:
    table = Table(title=f"CPU microseconds of one composite, median of {options.rounds} rounds")
    table.add_column("stage")
    columns = []
    for gateway in gateways:
        table.add_column(gateway.name, justify="right")
        counted, total = gateway.stages(), statistics.median(gateway.us_per_request)
        known = sum(counted.values()) or 1
        columns.append({"all": total} | {stage: total * count / known for stage, count in counted.items()})
    stages = dict.fromkeys(stage for _, _, stage in STAGES)
    for stage in (*stages, "all"):
        table.add_row(stage, *(f"{column.get(stage, 0.0):.0f}" for column in columns))
    console = Console(width=110)
    console.print(table)
    if len(gateways) == 2:
        ratios = [b / a for a, b in zip(*(gateway.us_per_request for gateway in gateways), strict=True)]
        console.print(
            f"({gateways[1].name}) / ({gateways[0].name}): {statistics.median(ratios):.3f} "
            f"(quartiles {', '.join(f'{cut:.3f}' for cut in statistics.quantiles(ratios, n=4))})"
        )


async def run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    services = await loop.create_server(lambda: Services(options.body_bytes), "127.0.0.1", free_port())
    port = services.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as stack:
        served = [(ROOT, options.saving)]
        if options.against:
            served.append((options.against.resolve(), options.against_saving or options.saving))
        gateways = [stack.enter_context(serve(*one, port, Path(work), options)) for one in served]
        await measure(gateways, options)
        report(gateways, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one round")
    parser.add_argument("--warm-up", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--body-bytes", type=int, default=5500, help="of the results")
    parser.add_argument(
        "--header", action="append", default=[], help="of the request, such as 'Accept-Encoding: br'"
    )
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn with this one")
    parser.add_argument("--saving", choices=SAVING, default="off", help="which calls need not be made")
    parser.add_argument("--against-saving", choices=SAVING, help="of the other checkout, if not the same")
    parser.add_argument("--python-path", action="append", default=[], help="more folders to import from")
    parser.add_argument("--total-only", action="store_true", help="take no samples, which cost about 1 %%")
    options = parser.parse_args()
    os.sched_setaffinity(0, [CORES[0]])
    uvloop.run(run(options))


if __name__ == "__main__":
    main()
