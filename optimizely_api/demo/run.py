"""`make run`: the Procfile's processes under honcho, the demo data, and a request that works."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from rich.console import Console

from optimizely_api import services_key
from optimizely_api.demo import DemoSummary, load_demo

DEFAULT_PORTS = {
    "GATEWAY_PORT": 6543,
    "PROJECTS_PORT": 6551,
    "EXPERIMENTS_PORT": 6552,
    "RESULTS_PORT": 6553,
    "EVENTS_PORT": 6554,
}
DATA_DIRECTORY = "OPTIMIZELY_API_DATA_DIR"
LONGEST_START_SECONDS = 60.0
LONGEST_ANSWER_SECONDS = 5.0
STOP_SECONDS = 40.0  # longer than gunicorn's graceful_timeout
POLL_SECONDS = 0.1
TAIL_LINES = 20
_FAILED = re.compile(r"^\S+ (?P<process>[\w-]+)\.\d+ *\| (?:[\w-]+: )?[Ee]rror: (?P<why>.+)$", re.MULTILINE)


class CannotRun(Exception):
    """The processes cannot run; the message tells the user why."""


@dataclass(frozen=True)
class Ports:
    """The port of each process on this machine."""

    gateway: int
    projects: int
    experiments: int
    results: int
    events: int

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{getattr(self, name)}"


def run(procfile: Path, *, demo: bool, verbose: bool) -> int:
    """Start everything, run until it ends or Ctrl-C, and return the exit status.

    Raises CannotRun for a port in use and for a process that does not start.
    """
    console = Console()
    ports = _ports()
    log_path = None if verbose else _log_path()
    key = _key()
    with _processes(procfile, ports, log_path) as processes, _terminated_as_interrupted():
        try:
            asyncio.run(_start(processes, ports, log_path, console, key if demo else None))
            return processes.wait()
        except KeyboardInterrupt:
            console.print("\nStopping: requests in flight are finished first.")
            return 0


async def _start(
    processes: "subprocess.Popen[bytes]",
    ports: Ports,
    log_path: Path | None,
    console: Console,
    demo_key: str | None,
) -> None:
    console.print("Starting the gateway and the three services.")
    await _until_ready(processes, ports, log_path)
    await _until_listening(processes, ports.events, log_path)
    summary = None
    if demo_key is not None:
        urls = ports.url("projects"), ports.url("experiments"), ports.url("results")
        summary = await load_demo(*urls, console, key=demo_key, api_url=f"{ports.url('gateway')}/v2")
    _print_summary(console, ports, summary, log_path)


async def _until_ready(processes: "subprocess.Popen[bytes]", ports: Ports, log_path: Path | None) -> None:
    deadline = time.monotonic() + LONGEST_START_SECONDS
    problem = ""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LONGEST_ANSWER_SECONDS)) as session:
        while time.monotonic() < deadline:
            if processes.poll() is not None:
                raise CannotRun(_why_it_ended(log_path))
            try:
                async with session.get(f"{ports.url('gateway')}/readyz") as response:
                    if response.status == 200:
                        return
                    problem = await response.text()
            except TimeoutError:
                problem = f"the gateway does not respond within {LONGEST_ANSWER_SECONDS:g} seconds."
            except aiohttp.ClientError as exc:
                problem = str(exc)
            await asyncio.sleep(POLL_SECONDS)
    raise CannotRun(f"Not ready after {LONGEST_START_SECONDS:.0f} seconds: {problem}{_tail(log_path)}")


async def _until_listening(processes: "subprocess.Popen[bytes]", port: int, log_path: Path | None) -> None:
    deadline = time.monotonic() + LONGEST_START_SECONDS
    while time.monotonic() < deadline and processes.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(POLL_SECONDS)
    raise CannotRun(f"Nothing listens for events on port {port}.{_tail(log_path)}")


def _print_summary(
    console: Console, ports: Ports, summary: DemoSummary | None, log_path: Path | None
) -> None:
    gateway = ports.url("gateway")
    lines = [f"Docs      {gateway}/docs"]
    if summary:
        lines += [f"Token     {summary.token}", "Request   the results of a running experiment:", ""]
        request = f"{gateway}/v2/experiments/{summary.experiment_id}/results"
        lines += [
            f"  curl -s -H 'Authorization: Bearer {summary.token}' {request} | python3 -m json.tool",
            "",
        ]
    lines.append("Tokens    optimizely-api token --help")
    lines.append(f"Events    {ports.url('events')}/v1/events")
    if log_path:
        lines.append(f"Log       {log_path}")
    lines.append("Stop      Ctrl-C")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    sys.stdout.flush()


def _ports() -> Ports:
    chosen = {}
    for name, default in DEFAULT_PORTS.items():
        text = os.environ.get(name, str(default))
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise CannotRun(f"{name}={text}: not a port number")
        _refuse_taken(name, int(text))
        chosen[name.removesuffix("_PORT").lower()] = int(text)
    return Ports(**chosen)


def _refuse_taken(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise CannotRun(
                f"Port {port} cannot be used ({exc.strerror}); choose another with {name}=..."
            ) from None


def data_folder() -> Path:
    """The folder of the databases, the log and the key."""
    return Path(os.environ.get(DATA_DIRECTORY) or "var")


def key_file() -> Path:
    """The file with the services' key in the data folder; created if it does not exist."""
    return services_key.key_file(data_folder())


def _key() -> str:
    """The services' key for this run; sets the environment variable for the processes to start."""
    if not (os.environ.get(services_key.VARIABLE) or os.environ.get(services_key.FILE_VARIABLE)):
        os.environ[services_key.FILE_VARIABLE] = str(key_file().absolute())
    try:
        return services_key.read_keys(os.environ)[0]
    except services_key.InvalidServicesKey as exc:
        raise CannotRun(str(exc)) from None


def _log_path() -> Path:
    directory = data_folder()
    path = directory / "run.log"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as exc:
        raise CannotRun(
            f"{path} cannot be written ({exc.strerror}); choose a folder with {DATA_DIRECTORY}=..."
        ) from None
    return path


def _why_it_ended(log_path: Path | None) -> str:
    """The last line of the process that failed, as honcho logs it: `12:00:00 gateway.1 | Error: ...`."""
    if log_path is None:
        return "a process ended while starting; its last line is above"
    log = log_path.read_text(encoding="utf-8", errors="replace")
    failed = _FAILED.search(log)
    if failed:
        return f"{failed['process']} could not start: {failed['why']} (log: {log_path})"
    return (
        f"a process ended while starting.{_tail(log_path)}\nA process ended while starting (log: {log_path})"
    )


def _tail(log_path: Path | None) -> str:
    if log_path is None:
        return ""
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join(["", f"The end of {log_path}:", *lines])


@contextlib.contextmanager
def _processes(procfile: Path, ports: Ports, log_path: Path | None) -> Iterator["subprocess.Popen[bytes]"]:
    """Run honcho with the Procfile, in its own session: Ctrl-C must reach it once, through `_stop`."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    for name in ("projects", "experiments", "results"):
        environment[f"{name.upper()}_PORT"] = str(getattr(ports, name))
        environment[f"OPTIMIZELY_API_{name.upper()}_URL"] = ports.url(name)
    # Receivers run on this machine, too. A webhook of another kind of installation must not reach into its network.
    environment.setdefault("PROJECTS_PRIVATE_WEBHOOKS", "on")
    environment.setdefault("PROJECTS_PUBLIC_URL", ports.url("gateway"))
    environment["GATEWAY_PORT"] = str(ports.gateway)
    environment["EVENTS_PORT"] = str(ports.events)
    command = [sys.executable, "-m", "honcho", "start", "--procfile", str(procfile), "--no-colour"]
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log_path.open("wb")) if log_path else None
        processes = subprocess.Popen(  # noqa: S603
            command,
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield processes
        finally:
            _stop(processes)


def _stop(processes: "subprocess.Popen[bytes]") -> None:
    if processes.poll() is not None:
        return
    processes.terminate()
    try:
        processes.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(processes.pid, signal.SIGKILL)
        processes.wait()


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Make TERM stop everything like Ctrl-C."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
