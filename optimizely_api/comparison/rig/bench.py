"""The bench for scenarios: a gateway with its upstreams and balancer, and methods to load and measure it."""

import asyncio
import contextlib
import http.client
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from optimizely_api.comparison.load.command import LoadPlan, LoadResult, run_load_process
from optimizely_api.comparison.options import Options
from optimizely_api.comparison.report.arithmetic import Measurement, measurement
from optimizely_api.comparison.rig.balancer import Balancer
from optimizely_api.comparison.rig.gateway import Gateway, Target, get
from optimizely_api.comparison.rig.processes import CpuTimes, Usage
from optimizely_api.comparison.rig.upstreams import Upstreams
from optimizely_api.comparison.rig.workloads import BLOCKING_PATH

SAMPLE_SECONDS = 0.5
LOAD_START_SECONDS = 0.6  # from starting the load's process to its first request
CLIENT_EXTRA_SECONDS = 2.0  # the client's time limit minus the balancer's
MEGABYTE = 1024 * 1024

Events = list[tuple[float, str]]  # Unix time and name of the event
During = Callable[[Events], Coroutine[Any, Any, None]]


@dataclass
class Peaks:
    """A gateway's largest number of processes and largest memory, over all samples."""

    processes: int = 0
    memory_bytes: int = 0

    def add(self, usage: Usage) -> None:
        self.processes = max(self.processes, usage.processes)
        self.memory_bytes = max(self.memory_bytes, usage.memory_bytes)


@dataclass(frozen=True)
class Cpu:
    """The CPU seconds at one moment (of `time.monotonic`), of the machine and of each part of the rig."""

    at: float
    times: CpuTimes
    parts: dict[str, float]


@dataclass
class Bench:
    """What a scenario needs to measure one mode."""

    options: Options
    folder: Path
    upstreams: Upstreams
    gateway: Gateway
    balancer: Balancer | None
    repetition: int = 1
    start_seconds: float = 0.0
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def port(self) -> int:
        """The clients' port: the balancer's, or the gateway's without one."""
        return self.balancer.port if self.balancer else self.gateway.port

    async def measure(
        self,
        phases: Sequence[tuple[float, float]],
        *,
        warm_up_seconds: float | None = None,
        timeout_seconds: float | None = None,
        during: During | None = None,
        blocking: bool | None = None,
    ) -> Measurement:
        """Offer the load and return the measurement.

        `during` runs concurrently and records its events. With `blocking` the blocking view is called at its rate
        meanwhile; the default is to do so in the mode with a blocking view.
        """
        plan = self._plan(phases, warm_up_seconds, timeout_seconds)
        counters = self.balancer.counters() if self.balancer else {}
        if self.balancer:
            self.balancer.new_lines()
        events: Events = []
        async with self._sampled() as peaks, self._side_load(plan, blocking):
            before = self._cpu()
            during_task = asyncio.create_task(during(events)) if during else None
            try:
                result = await run_load_process(plan, self._output())
                # Before `during` ends: it may outlast the load.
                after = self._cpu()
                if during_task:
                    await during_task
            finally:
                if during_task and not during_task.done():
                    during_task.cancel()
                    await asyncio.wait([during_task])
        measured = self._measured(result, events, counters)
        measured.usage = _usage(before, after, peaks)
        return measured

    def one_after_the_other(self, requests: int) -> list[float]:
        """Send requests one at a time, each after the previous response; return the duration of each in seconds."""
        durations = []
        for _ in range(requests):
            started = time.perf_counter()
            status = get("127.0.0.1", self.port, self.gateway.target, self.options.timeout_seconds * 2)
            durations.append(time.perf_counter() - started)
            if status != 200:
                raise RuntimeError(f"{self.gateway.mode.title} responded {status} to a single request")
        return durations

    def as_fast_as_it_can(self, path: str, callers: int, seconds: float) -> int:
        """Run this many clients, each sending requests back to back; return the number of good responses in time."""
        target = Target(path, self.gateway.target.headers)
        deadline = time.monotonic() + seconds
        good: list[int] = []

        def call() -> None:
            # The gateway ends during a call if the comparison is interrupted.
            with contextlib.suppress(OSError, http.client.HTTPException):
                while time.monotonic() < deadline:
                    if get("127.0.0.1", self.port, target, 30.0) == 200 and time.monotonic() < deadline:
                        good.append(1)

        threads = [threading.Thread(target=call, daemon=True) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(good)

    def _plan(
        self, phases: Sequence[tuple[float, float]], warm_up: float | None, timeout: float | None
    ) -> LoadPlan:
        options = self.options
        return LoadPlan(
            url=f"http://127.0.0.1:{self.port}",
            phases=tuple(phases),
            paths=(self.gateway.target.path,),
            headers=self.gateway.target.headers,
            warm_up_seconds=options.warm_up_seconds if warm_up is None else warm_up,
            timeout_seconds=self.client_timeout_seconds if timeout is None else timeout,
            arrivals=options.arrivals,
            seed=options.seed,
        )

    @property
    def client_timeout_seconds(self) -> float:
        """The client's time limit: the option, or a little more with a balancer, whose 504 comes at that limit."""
        return self.options.timeout_seconds + (CLIENT_EXTRA_SECONDS if self.balancer else 0.0)

    def _output(self) -> Path:
        return self.folder / f"load-{next(self._numbers)}.json"

    @contextlib.asynccontextmanager
    async def _side_load(self, plan: LoadPlan, blocking: bool | None) -> AsyncIterator[None]:
        """Call the blocking view at its rate while the block runs; see `measure` for `blocking`."""
        if not (self.gateway.mode.blocks_the_loop if blocking is None else blocking):
            yield
            return
        calls = asyncio.create_task(self.call_blocking_view(plan.warm_up_seconds + plan.seconds))
        try:
            yield
        finally:
            calls.cancel()
            await asyncio.wait([calls])
            if not calls.cancelled():
                calls.result()

    async def call_blocking_view(self, seconds: float) -> LoadResult:
        """Call the blocking view at its rate for this long."""
        plan = LoadPlan(
            url=f"http://127.0.0.1:{self.port}",
            phases=((self.options.blocking_rate, seconds),),
            paths=(f"{BLOCKING_PATH}?ms={self.options.blocking_ms:g}",),
            timeout_seconds=self.client_timeout_seconds,
        )
        return await run_load_process(plan, self._output())

    @contextlib.asynccontextmanager
    async def _sampled(self) -> AsyncIterator[Peaks]:
        peaks = Peaks()

        async def sample() -> None:
            while True:
                peaks.add(await asyncio.to_thread(self.gateway.usage))
                await asyncio.sleep(SAMPLE_SECONDS)

        sampling = asyncio.create_task(sample())
        try:
            yield peaks
        finally:
            sampling.cancel()
            await asyncio.wait([sampling])

    def _cpu(self) -> Cpu:
        parts = {
            "gateway": self.gateway.usage().cpu_seconds,
            "upstreams": self.upstreams.usage().cpu_seconds,
            "balancer": self.balancer.process.usage().cpu_seconds if self.balancer else 0.0,
        }
        return Cpu(time.monotonic(), CpuTimes.now(), parts)

    def _measured(self, result: LoadResult, events: Events, counters: dict[str, int]) -> Measurement:
        lines = None
        if self.balancer:
            lines = [line for line in self.balancer.new_lines() if line.path == self._log_path()]
        measured = measurement(result, lines)
        if self.balancer:
            after = self.balancer.counters()
            measured.balancer = {name: after[name] - counters[name] for name in after}
        measured.events = [
            {"at": round(at - result.started_at, 2), "what": what} for at, what in sorted(events)
        ]
        return measured

    def _log_path(self) -> str:
        return self.gateway.target.path


def _usage(before: Cpu, after: Cpu, peaks: Peaks) -> dict[str, Any]:
    """Every figure of CPU time is of one window: from the start of the load's process to its end."""
    times = after.times.since(before.times)
    parts = {name: seconds - before.parts[name] for name, seconds in after.parts.items()}
    cpu = {**parts, "measuring": times.own - sum(parts.values()), "machine": times.busy}
    return {
        "most_processes": peaks.processes,
        "most_memory_mb": round(peaks.memory_bytes / MEGABYTE, 1),
        "window_seconds": round(after.at - before.at, 2),
        "cpu_seconds": {name: round(seconds, 2) for name, seconds in cpu.items()},
        "others_share": round(times.others_share, 3),
    }


def as_json(measured: Measurement) -> dict[str, Any]:
    """A measurement as JSON for the report."""
    return {**asdict(measured), "error_count": measured.error_count, "error_share": measured.error_share}
