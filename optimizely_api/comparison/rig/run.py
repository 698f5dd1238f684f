"""A whole comparison: every mode, one after the other, on the same upstreams and behind the same balancer."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from optimizely_api.comparison.options import Options
from optimizely_api.comparison.rig import balancer as haproxy
from optimizely_api.comparison.rig.bench import MEGABYTE, Bench
from optimizely_api.comparison.rig.gateway import Gateway
from optimizely_api.comparison.rig.modes import MODES, Mode
from optimizely_api.comparison.rig.processes import free_ports
from optimizely_api.comparison.rig.upstreams import upstreams
from optimizely_api.comparison.rig.workloads import iterations_for
from optimizely_api.comparison.scenarios import SCENARIOS, Outcome, scenarios_of
from optimizely_api.serving.file_limits import allow_many_files

Tell = Callable[[str, str, str], None]  # mode, scenario, what is being done
LONGEST_FOLDER_PATH = 60  # the system limits the path of a Unix socket to about a hundred bytes
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Progress:
    """Whom to tell what is going on; this one tells nobody."""

    def doing(self, mode: Mode, scenario: str, what: str) -> None:
        """A scenario is at this point."""

    def done(self, mode: Mode, scenario: str, outcome: Outcome) -> None:
        """A scenario has ended with this."""


def steps(options: Options) -> int:
    """How many scenarios there are to run, in all modes."""
    return sum(len(scenarios_of(MODES[name].blocks_the_loop, options.scenarios)) for name in options.modes)


def compare_modes(options: Options, results: dict[str, Any], progress: Progress) -> bool:
    """Measure every mode; returns False when it was broken off by Ctrl-C, TERM or HUP.

    `results` is filled as results come, so that what there is can be reported whatever happens. When this returns or
    raises, nothing that it started is running any more. Raises CannotCompare.
    """
    balancer = haproxy.find() if options.balancer else None
    allow_many_files()
    with _folder() as folder, asyncio.Runner() as runner:
        return runner.run(_until_signalled(_compare(options, balancer, folder, results, progress)))


async def _until_signalled(work: Any) -> bool:
    """Do the work; the first signal cancels it, and further ones do not disturb what ends the processes."""
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
    async with upstreams(options, folder) as behind:
        for name in options.modes:
            port, front_port = free_ports(2)
            gateway = Gateway(MODES[name], options, folder, port, behind.settings, behind.target)
            outcome = results[name] = {"title": MODES[name].title}
            async with _served(gateway, options, balancer_path, front_port, folder, outcome) as balancer:
                bench = Bench(options, folder, behind, gateway, balancer)
                await _run_scenarios(bench, {**known}, outcome, progress)


@contextlib.asynccontextmanager
async def _served(
    gateway: Gateway, options: Options, balancer_path: str | None, port: int, folder: Path, outcome: Outcome
) -> AsyncIterator[haproxy.Balancer | None]:
    """The gateway, and the balancer before it, until the block ends."""
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

        def tell(what: str, name: str = name) -> None:
            progress.doing(mode, name, what)

        tell("")
        await bench.gateway.settle()  # whatever the scenario before has left
        outcome[name] = known[name] = await SCENARIOS[name](bench, known, tell)
        progress.done(mode, name, outcome[name])
    outcome["watchdog"] = bench.gateway.watchdog()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder for configurations and logs, gone afterwards; its path is short enough for a Unix socket."""
    base = tempfile.gettempdir()
    short = base if len(base) < LONGEST_FOLDER_PATH else "/tmp"  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix="compare-", dir=short))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


__all__ = ["Progress", "compare_modes", "steps"]
