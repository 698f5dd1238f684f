"""HAProxy in front of the gateway, as in production; its log and counters have the client's view of every request.

A line of its log has, by `LOG_FORMAT`: the end of the request (Unix time in ms), the milliseconds from its first byte
to the last byte of the response, the status, the termination state, retries, bytes sent to the client, and the path.
The time of arrival is computed from the first two: HAProxy's accept date is wrong for later requests of a connection,
where it is the time of the previous response.
"""

import csv
import re
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from optimizely_api.comparison.options import CannotCompare
from optimizely_api.comparison.rig.processes import POLL_SECONDS, Process, is_listening, open_files

LOG_FORMAT = "request %[date(0,ms)] %Ta %ST %ts %rc %B %HP"
LONGEST_START_SECONDS = 10.0
SETTLE_SECONDS = 0.2
MOST_CONNECTIONS = 8000
FILES_BESIDE = 200  # open files other than connections, each of which takes two
HOW_TO_GET_ONE = (
    "No load balancer was found: HAProxy is not installed (looked for `haproxy` on the PATH and in /usr/sbin).\n"
    "  Debian, Ubuntu:  sudo apt-get install haproxy\n"
    "  Fedora:          sudo dnf install haproxy\n"
    "  macOS:           brew install haproxy\n"
    "It need not run as a service. Or measure without one: with `--no-balancer` the load generator counts the 5XX that "
    "a balancer would have sent."
)

_LINE = re.compile(
    r"request (?P<ended_at>\d+) (?P<took>[+-]?\d+) (?P<status>-?\d+) "
    r"(?P<ended>\S\S) \+?(?P<retries>\d+) (?P<sent>\d+) (?P<path>\S+)"
)
_CONFIG = """\
global
    maxconn {connections}
    nbthread 1
    log stdout format raw local0 info
    stats socket unix@{stats} mode 600 level operator

defaults
    mode http
    log global
    option dontlognull
    log-format "{log_format}"
    timeout connect 1s
    timeout client 60s
    timeout http-keep-alive 60s
    timeout server {timeout_ms}ms
    timeout queue {timeout_ms}ms
    # A gateway that restarts closes idle connections; a request that met one is sent once more.
    retries 2
    retry-on conn-failure empty-response

frontend callers
    bind 127.0.0.1:{port}
    maxconn {connections}
    default_backend gateway

backend gateway
    server gateway 127.0.0.1:{gateway_port}
"""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One request as the balancer saw it; `arrived` is Unix time."""

    arrived: float
    took_ms: int
    status: int
    ended: str
    retries: int
    sent_bytes: int
    path: str


def find() -> str:
    """Return HAProxy's path; raises CannotCompare with instructions to install it."""
    path = shutil.which("haproxy") or shutil.which(
        "haproxy", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"
    )
    if not path:
        raise CannotCompare(HOW_TO_GET_ONE)
    return path


def config_text(
    *, port: int, gateway_port: int, timeout_seconds: float, stats: Path, connections: int = MOST_CONNECTIONS
) -> str:
    return _CONFIG.format(
        connections=connections,
        stats=stats,
        log_format=LOG_FORMAT,
        timeout_ms=round(timeout_seconds * 1000),
        port=port,
        gateway_port=gateway_port,
    )


def parse_log_line(text: str) -> LogLine | None:
    """Parse a line of the log; None for a line that is not about a request."""
    match = _LINE.match(text)
    if match is None:
        return None
    took_ms = max(0, int(match["took"]))
    return LogLine(
        arrived=(int(match["ended_at"]) - took_ms) / 1000,
        took_ms=took_ms,
        status=int(match["status"]),
        ended=match["ended"],
        retries=int(match["retries"]),
        sent_bytes=int(match["sent"]),
        path=match["path"],
    )


def parse_counters(text: str) -> dict[str, int]:
    """Return the counters of interest from the CSV of `show stat`, by their names in the report."""
    rows = list(csv.DictReader(text.lstrip("# ").splitlines()))
    front = next(row for row in rows if row["svname"] == "FRONTEND")
    back = next(row for row in rows if row["svname"] == "BACKEND")
    return {
        "requests": int(front["req_tot"] or 0),
        **{
            f"answers_{kind}": int(front[f"hrsp_{kind}"] or 0)
            for kind in ("2xx", "3xx", "4xx", "5xx", "other")
        },
        "connection_errors": int(back["econ"] or 0),
        "response_errors": int(back["eresp"] or 0),
        "retries": int(back["wretr"] or 0),
    }


class Balancer:
    """A running HAProxy."""

    def __init__(self, process: Process, port: int, stats: Path) -> None:
        self.process = process
        self.port = port
        self._stats = stats
        self._read_to = 0

    def counters(self) -> dict[str, int]:
        """HAProxy's own counters since its start."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self._stats))
            connection.sendall(b"show stat\n")
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return parse_counters(b"".join(parts).decode())

    def new_lines(self) -> list[LogLine]:
        """The requests that ended since the last call."""
        time.sleep(SETTLE_SECONDS)
        with self.process.output.open("rb") as log:
            log.seek(self._read_to)
            data = log.read()
        complete_lines = data[: data.rfind(b"\n") + 1]
        self._read_to += len(complete_lines)
        lines = (parse_log_line(line) for line in complete_lines.decode("utf-8", "replace").splitlines())
        return [line for line in lines if line is not None]


def version(path: str) -> str:
    import subprocess

    done = subprocess.run([path, "-v"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.splitlines()[0] if done.stdout else "unknown"


def start(path: str, folder: Path, *, port: int, gateway_port: int, timeout_seconds: float) -> Balancer:
    """Start HAProxy on `port`; raises CannotCompare with its output when it does not start."""
    stats = folder / "stats"
    text = config_text(
        port=port,
        gateway_port=gateway_port,
        timeout_seconds=timeout_seconds,
        stats=stats,
        connections=min(MOST_CONNECTIONS, (open_files() - FILES_BESIDE) // 2),
    )
    return Balancer(run(path, folder, text, port), port, stats)


def run(path: str, folder: Path, text: str, port: int) -> Process:
    """Start HAProxy with this configuration, which listens on `port`; raises CannotCompare when it does not start."""
    config = folder / "haproxy.cfg"
    config.write_text(text)
    process = Process("haproxy", [path, "-db", "-f", str(config)], folder)
    deadline = time.monotonic() + LONGEST_START_SECONDS
    while process.running and time.monotonic() < deadline:
        if is_listening(port):
            return process
        time.sleep(POLL_SECONDS)
    process.stop()
    raise CannotCompare(f"HAProxy did not start:\n{process.tail()}")
