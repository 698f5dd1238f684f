"""Runs a comparison: every scenario with every mode in turn, several times, before the same upstreams."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimizely_api.comparison.options import Options
from optimizely_api.comparison.rig import balancer as haproxy
from optimizely_api.comparison.rig.bench import MEGABYTE, Bench
from optimizely_api.comparison.rig.gateway import Gateway, watchdog
from optimizely_api.comparison.rig.modes import MODES, Mode, description
from optimizely_api.comparison.rig.processes import free_ports
from optimizely_api.comparison.rig.trace import traced
from optimizely_api.comparison.rig.upstreams import Upstreams, start_upstreams
from optimizely_api.comparison.rig.workloads import iterations_for
from optimizely_api.comparison.scenarios import SCENARIOS, Known, order_of, scenarios_of
from optimizely_api.serving.file_limits import allow_many_files

LONGEST_FOLDER_PATH = 60  # the system limits the path of a Unix socket to about a hundred bytes
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Results:
    """What a comparison has measured so far, as in the report: descriptions by mode, trials, and traces."""

    modes: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    traces: list[dict[str, Any]] = field(default_factory=list)


class Progress:
    """Receives the progress of a comparison; this base class ignores it."""

    def doing(self, mode: Mode, scenario: str, what: str) -> None:
        """A scenario has reached this step."""

    def done(self, mode: Mode, scenario: str, trials: list[dict[str, Any]]) -> None:
        """A scenario has ended with these trials."""


def steps(options: Options) -> int:
    """The number of scenarios to run, over all modes and repetitions."""
    traced = len(options.modes) if _is_traced(options) else 0
    return traced + sum(
        len(scenarios_of(MODES[name].blocks_the_loop, options.scenarios, repetition))
        for name in options.modes
        for repetition in range(1, options.repeat + 1)
    )


def compare_modes(options: Options, results: Results, progress: Progress) -> bool:
    """Measure every mode; return False when interrupted by Ctrl-C, TERM or HUP.

    `results` is filled step by step, so that after a failure the results until then can be reported. When this returns
    or raises, all processes that it started have ended. Raises CannotCompare.
    """
    balancer = haproxy.find() if options.balancer else None
    allow_many_files()
    with temporary_folder("compare-") as folder, asyncio.Runner() as runner:
        return runner.run(until_signalled(_compare(options, balancer, folder, results, progress)))


async def until_signalled(work: Any) -> bool:
    """Do the work; the first signal cancels it, and further signals do not interrupt the ending of processes."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            task.cancel()

    for number in STOPPING_SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        return False
    finally:
        for number in STOPPING_SIGNALS:
            loop.remove_signal_handler(number)
    return True


async def _compare(
    options: Options, balancer_path: str | None, folder: Path, results: Results, progress: Progress
) -> None:
    known = Known(options, iterations_for(options.cpu_ms))
    for name in options.modes:
        results.modes[name] = {
            **description(MODES[name], options.workers, options.threads),
            "starts": [],
            "watchdog": watchdog(""),
        }
        (folder / name).mkdir()
    async with start_upstreams(options, folder) as upstreams:
        rig = Rig(options, balancer_path, folder, upstreams)
        for repetition in range(1, options.repeat + 1):
            async with rig.benches(repetition, results) as benches:
                await _run_scenarios(benches, known, results, progress)
        if _is_traced(options):
            await _trace(rig, results, progress)


@dataclass(frozen=True)
class Rig:
    """What all gateways of a comparison share."""

    options: Options
    balancer_path: str | None
    folder: Path
    upstreams: Upstreams

    @contextlib.asynccontextmanager
    async def benches(self, repetition: int, results: Results) -> AsyncIterator[list[Bench]]:
        """Run a new gateway of every mode, each behind its own balancer, until the block ends.

        All run at once, so that the modes can be measured in turn; those not measured are idle. Every repetition
        starts them in another order.
        """
        names = self.options.modes
        first = (repetition - 1) % len(names)
        benches = []
        async with contextlib.AsyncExitStack() as stack:
            for name in (*names[first:], *names[:first]):
                bench = await stack.enter_async_context(self.bench(MODES[name], repetition=repetition))
                usage = bench.gateway.usage()
                results.modes[name]["starts"].append(
                    {
                        "repetition": repetition,
                        "seconds": round(bench.start_seconds, 2),
                        "processes": usage.processes,
                        "memory_mb": round(usage.memory_bytes / MEGABYTE, 1),
                    }
                )
                benches.append(bench)
            yield benches

    @contextlib.asynccontextmanager
    async def bench(
        self, mode: Mode, *, workers: int | None = None, repetition: int = 1
    ) -> AsyncIterator[Bench]:
        """Run a mode's gateway, and the balancer in front of it, until the block ends."""
        port, front_port = free_ports(2)
        folder = self.folder / mode.name
        gateway = Gateway(
            mode, self.options, folder, port, self.upstreams.settings, self.upstreams.target, workers=workers
        )
        balancer = None
        try:
            start_seconds = await gateway.start()
            if self.balancer_path:
                balancer = haproxy.start(
                    self.balancer_path,
                    folder,
                    port=front_port,
                    gateway_port=port,
                    timeout_seconds=self.options.timeout_seconds,
                )
            yield Bench(self.options, folder, self.upstreams, gateway, balancer, repetition, start_seconds)
        finally:
            if balancer:
                balancer.process.stop()
            gateway.stop()


async def _run_scenarios(
    benches: Sequence[Bench], known: Known, results: Results, progress: Progress
) -> None:
    """One repetition: each scenario with every mode in turn."""
    asked = known.options.scenarios
    for scenario in order_of(asked):
        for bench in benches:
            mode = bench.gateway.mode
            if scenario not in scenarios_of(mode.blocks_the_loop, asked, bench.repetition):
                continue

            def show_step(what: str, scenario: str = scenario, mode: Mode = mode) -> None:
                progress.doing(mode, scenario, what)

            show_step("")
            await bench.gateway.settle()  # the previous scenario may have overloaded it
            trials = await SCENARIOS[scenario](bench, known, show_step)
            results.trials += trials
            results.modes[mode.name]["watchdog"] = bench.gateway.watchdog()
            progress.done(mode, scenario, trials)


def _is_traced(options: Options) -> bool:
    """The stub alone can tell when it was called."""
    return "trace" in options.scenarios and options.upstreams == "stub"


async def _trace(rig: Rig, results: Results, progress: Progress) -> None:
    """A trace of each mode with a single worker."""
    for name in rig.options.modes:
        mode = MODES[name]
        progress.doing(mode, "trace", "")
        async with rig.bench(mode, workers=1) as bench:
            results.traces.append({"mode": name, "requests": await traced(bench)})
        progress.done(mode, "trace", [])


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder for configurations and logs; its path is short enough for a Unix socket."""
    base = tempfile.gettempdir()
    short = base if len(base) < LONGEST_FOLDER_PATH else "/tmp"  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=short))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


__all__ = ["Progress", "Results", "compare_modes", "steps", "temporary_folder", "until_signalled"]
