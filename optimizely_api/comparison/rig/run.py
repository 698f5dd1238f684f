"""Runs a comparison: every mode in turn, with the same upstreams and the same kind of balancer."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from optimizely_api.comparison.options import Options
from optimizely_api.comparison.rig import balancer as haproxy
from optimizely_api.comparison.rig.bench import MEGABYTE, Bench
from optimizely_api.comparison.rig.gateway import Gateway
from optimizely_api.comparison.rig.modes import MODES, Mode
from optimizely_api.comparison.rig.processes import free_ports
from optimizely_api.comparison.rig.upstreams import start_upstreams
from optimizely_api.comparison.rig.workloads import iterations_for
from optimizely_api.comparison.scenarios import SCENARIOS, Outcome, scenarios_of
from optimizely_api.serving.file_limits import allow_many_files

LONGEST_FOLDER_PATH = 60  # the system limits the path of a Unix socket to about a hundred bytes
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Progress:
    """Receives the progress of a comparison; this base class ignores it."""

    def doing(self, mode: Mode, scenario: str, what: str) -> None:
        """A scenario has reached this step."""

    def done(self, mode: Mode, scenario: str, outcome: Outcome) -> None:
        """A scenario has ended with this outcome."""


def steps(options: Options) -> int:
    """The number of scenarios to run, over all modes."""
    return sum(len(scenarios_of(MODES[name].blocks_the_loop, options.scenarios)) for name in options.modes)


def compare_modes(options: Options, results: dict[str, Any], progress: Progress) -> bool:
    """Measure every mode; return False when interrupted by Ctrl-C, TERM or HUP.

    `results` is filled step by step, so that after a failure the results until then can be reported. When this returns
    or raises, all processes that it started have ended. Raises CannotCompare.
    """
    balancer = haproxy.find() if options.balancer else None
    allow_many_files()
    with _folder() as folder, asyncio.Runner() as runner:
        return runner.run(_until_signalled(_compare(options, balancer, folder, results, progress)))


async def _until_signalled(work: Any) -> bool:
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
    options: Options, balancer_path: str | None, folder: Path, results: dict[str, Any], progress: Progress
) -> None:
    known = {"iterations": iterations_for(options.cpu_ms)}
    async with start_upstreams(options, folder) as upstreams:
        for name in options.modes:
            port, front_port = free_ports(2)
            gateway = Gateway(MODES[name], options, folder, port, upstreams.settings, upstreams.target)
            outcome = results[name] = {"title": MODES[name].title}
            async with _served(gateway, options, balancer_path, front_port, folder, outcome) as balancer:
                bench = Bench(options, folder, upstreams, gateway, balancer)
                await _run_scenarios(bench, {**known}, outcome, progress)


@contextlib.asynccontextmanager
async def _served(
    gateway: Gateway, options: Options, balancer_path: str | None, port: int, folder: Path, outcome: Outcome
) -> AsyncIterator[haproxy.Balancer | None]:
    """Run the gateway, and the balancer in front of it, until the block ends."""
    balancer = None
    try:
        outcome["start_seconds"] = round(await gateway.start(), 2)
        if balancer_path:
            balancer = haproxy.start(
                balancer_path,
                folder,
                port=port,
                gateway_port=gateway.port,
                timeout_seconds=options.timeout_seconds,
            )
        yield balancer
    finally:
        if balancer:
            balancer.process.stop()
        gateway.stop()


async def _run_scenarios(bench: Bench, known: Outcome, outcome: Outcome, progress: Progress) -> None:
    mode = bench.gateway.mode
    usage = bench.gateway.usage()
    outcome["idle"] = {"processes": usage.processes, "memory_mb": round(usage.memory_bytes / MEGABYTE, 1)}
    for name in scenarios_of(mode.blocks_the_loop, bench.options.scenarios):

        def show_step(what: str, name: str = name) -> None:
            progress.doing(mode, name, what)

        show_step("")
        await bench.gateway.settle()  # the previous scenario may have overloaded it
        outcome[name] = known[name] = await SCENARIOS[name](bench, known, show_step)
        progress.done(mode, name, outcome[name])
    outcome["watchdog"] = bench.gateway.watchdog()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder for configurations and logs; its path is short enough for a Unix socket."""
    base = tempfile.gettempdir()
    short = base if len(base) < LONGEST_FOLDER_PATH else "/tmp"  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix="compare-", dir=short))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


__all__ = ["Progress", "compare_modes", "steps"]
