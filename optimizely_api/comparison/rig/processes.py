"""Processes that are started for a comparison, each in a session of its own, so that all of it can be ended."""

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

import psutil

from optimizely_api.comparison.options import CannotCompare

POLL_SECONDS = 0.02
TAIL_LINES = 60
KILL_SECONDS = 5.0
LARGEST_LIMIT = 65536
LOWEST_PORT = 10_000
OUTGOING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")

# What the person's shell says to a gateway or a gunicorn of theirs must not reach those that are measured.
FOREIGN_SETTINGS = ("OPTIMIZELY_API_", "SERVICES_KEY", "GUNICORN_CMD_ARGS", "WEB_CONCURRENCY")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its descendants take at one moment; `cpu_seconds` is since their start.

    Memory is the proportional set size where the system knows it: pages shared by forked processes count once.
    """

    processes: int
    memory_bytes: int
    cpu_seconds: float


class Process:
    """A command in a session of its own; `stop` ends every process of that session."""

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

    def tell(self, number: signal.Signals) -> None:
        """Tell the first process of the session."""
        self._popen.send_signal(number)

    def tell_all(self, number: signal.Signals) -> None:
        """Tell every process of the session's group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def tail(self) -> str:
        """The end of what it logged, for an error message."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])

    def usage(self) -> Usage:
        processes = memory = 0
        cpu = 0.0
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                memory += _memory(process)
                times = process.cpu_times()
                cpu += times.user + times.system + times.children_user + times.children_system
                processes += 1
        return Usage(processes, memory, cpu)

    def stop(self, grace_seconds: float = 2.0) -> None:
        """Ask the first process to end, then kill what is left of the session; returns when nothing is."""
        if self.running:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(grace_seconds)
        last = time.monotonic() + KILL_SECONDS
        while left := list(session_members(self.pid)):
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self._popen.poll()
            if time.monotonic() > last:
                raise RuntimeError(
                    f"processes of {self.name} do not end: {[process.pid for process in left]}"
                )
            time.sleep(POLL_SECONDS)
        self._popen.wait()

    def _family(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self.pid)
            return [first, *first.children(recursive=True)]
        except psutil.Error:
            return []


def session_members(session: int) -> Iterator[psutil.Process]:
    """The living processes of a session, orphans of a killed worker among them."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def machine_busy_seconds() -> float:
    """Seconds that the machine's processors have worked since it was started, for whomever."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    return float(sum(times[:8]) - idle)  # user, nice, system, idle, iowait, irq, softirq, steal


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different, for servers that bind them later.

    They are outside the range from which the system takes the ports of outgoing connections, of which a load test has
    thousands: none of them is on such a port when its server starts, or starts again.
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
    """How many files, and so connections, a process to come may have open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LARGEST_LIMIT if soft == resource.RLIM_INFINITY else min(soft, LARGEST_LIMIT)


def _clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN_SETTINGS)}


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (AttributeError, psutil.AccessDenied):
        return int(process.memory_info().rss)
