"""The processes of a comparison, each in its own session, so that all its descendants can be ended."""

import contextlib
import itertools
import os
import random
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from optimizely_api.comparison.options import CannotCompare

POLL_SECONDS = 0.02
TAIL_LINES = 60
KILL_SECONDS = 5.0
LARGEST_LIMIT = 65536
LOWEST_PORT = 10_000
OUTGOING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")

# Environment variables of the user's own gateway or gunicorn, which must not reach the measured ones.
FOREIGN_SETTINGS = ("OPTIMIZELY_API_", "SERVICES_KEY", "GUNICORN_CMD_ARGS", "WEB_CONCURRENCY")


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources of a process and its descendants at one moment; `cpu_seconds` counts since their start.

    Memory is the proportional set size if the system has it: pages shared by forked processes count once.
    """

    processes: int
    memory_bytes: int
    cpu_seconds: float


class Process:
    """A command in its own session; `stop` ends every process of that session."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.output = folder / f"{name}.out"
        with self.log.open("ab") as log, self.output.open("ab") as output:
            self._popen = subprocess.Popen(  # noqa: S603
                command,
                cwd=folder,
                env={**_clean_environment(), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the first process of the session."""
        self._popen.send_signal(number)

    def send_signal_to_all(self, number: signal.Signals) -> None:
        """Send a signal to every process of the session's process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def tail(self) -> str:
        """The last lines of its log, for an error message."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])

    def usage(self) -> Usage:
        processes = memory = 0
        cpu = 0.0
        for process in _family(self.pid):
            with contextlib.suppress(psutil.Error):
                memory += _memory(process)
                cpu += _cpu_seconds(process)
                processes += 1
        return Usage(processes, memory, cpu)

    def stop(self, grace_seconds: float = 2.0) -> None:
        """End the first process, then kill the rest of the session; return when no process is left."""
        if self.running:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(grace_seconds)
        deadline = time.monotonic() + KILL_SECONDS
        while members := list(session_members(self.pid)):
            for process in members:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self._popen.poll()
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"processes of {self.name} do not end: {[process.pid for process in members]}"
                )
            time.sleep(POLL_SECONDS)
        self._popen.wait()


def session_members(session: int) -> Iterator[psutil.Process]:
    """The living processes of a session, including orphans of a killed worker."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                yield process


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU seconds at one moment, or between two: all that the processors had, the busy ones, and this program's own.

    `own` counts this process and all its descendants, ended ones too: gateway, upstreams, balancer and load.
    """

    available: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> Self:
        times = psutil.cpu_times()
        available = float(sum(times[:8]))  # user, nice, system, idle, iowait, irq, softirq, steal
        busy = available - times.idle - getattr(times, "iowait", 0.0)
        return cls(available, busy, _family_cpu_seconds(os.getpid()))

    def since(self, earlier: "CpuTimes") -> "CpuTimes":
        return CpuTimes(self.available - earlier.available, self.busy - earlier.busy, self.own - earlier.own)

    @property
    def others_share(self) -> float:
        """The share of the processors that other programs took, from 0 to 1: all three figures are of one period."""
        if self.available <= 0:
            return 0.0
        return min(max(0.0, self.busy - self.own), self.available) / self.available


def free_ports(number: int) -> list[int]:
    """Different free ports of 127.0.0.1, for servers that bind them later.

    They lie outside the system's range for outgoing connections. A load test has thousands of these, and one could
    otherwise occupy a port before its server starts or restarts.
    """
    outside = range(LOWEST_PORT, _first_outgoing_port())
    candidates = list(outside or range(LOWEST_PORT, 65_536))
    random.shuffle(candidates)
    ports = list(itertools.islice(filter(_can_be_bound, candidates), number))
    if len(ports) < number:
        raise CannotCompare(f"Of the ports from {LOWEST_PORT} on, fewer than {number} are free.")
    return ports


def _first_outgoing_port() -> int:
    """The lowest port that a connection may get; a higher one, by IANA 49152, where the system is not Linux."""
    with contextlib.suppress(OSError):
        return int(OUTGOING_PORTS.read_text(encoding="ascii").split()[0])
    return 49_152


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def open_files() -> int:
    """The limit of open files, and so of connections, for a new process."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LARGEST_LIMIT if soft == resource.RLIM_INFINITY else min(soft, LARGEST_LIMIT)


def _clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN_SETTINGS)}


def _family(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def _cpu_seconds(process: psutil.Process) -> float:
    """The CPU seconds of a process and of its ended children."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _family_cpu_seconds(pid: int) -> float:
    total = 0.0
    for process in _family(pid):
        with contextlib.suppress(psutil.Error):
            total += _cpu_seconds(process)
    return total


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (AttributeError, psutil.AccessDenied):
        return int(process.memory_info().rss)
