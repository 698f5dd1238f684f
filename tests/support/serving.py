"""Start a section of production.ini under the real gunicorn, in a process of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from optimizely_api.services_key import VARIABLE
from tests.support.ports import free_port
from tests.support.samples import SERVICES_KEY

ROOT = Path(__file__).parents[2]
SOON_SECONDS = 60

# For a gateway that serves several tests, each of which has services of its own: it keeps none of their answers.
KEEPS_NOTHING = {
    "identity_cache_seconds": "0",
    "unknown_token_seconds": "0",
    "definition_cache_seconds": "0",
    "datafile_cache_seconds": "0",
    "results_cache_bytes": "0",
}


@dataclass
class Served:
    """A running gunicorn: where it listens, its process, and what it wrote."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers=headers, timeout=SOON_SECONDS)

    def post(self, path: str, body: Any, **headers: str) -> requests.Response:
        return requests.post(self.url + path, data=body, headers=headers, timeout=SOON_SECONDS)

    def family(self) -> list[psutil.Process]:
        master = psutil.Process(self.process.pid)
        return [master, *master.children(recursive=True)]


@contextlib.contextmanager
def serve(
    section: str,
    settings: Mapping[str, str],
    log: Path,
    *options: str,
    ini: Path = ROOT / "production.ini",
    open_files: int | None = None,
    folder: Path = ROOT,
    port: int = 0,
) -> Iterator[Served]:
    """Run `gunicorn --paste INI#section` until the block ends, on a free port unless `port` names one.

    `open_files` is its hard limit.
    """
    port = port or free_port()
    environment = {
        VARIABLE: SERVICES_KEY,
        **os.environ,
        **{f"OPTIMIZELY_API_{key.upper()}": value for key, value in settings.items()},
    }
    command = [sys.executable, "-m", "gunicorn", "--paste", f"{ini}#{section}"]
    if open_files is not None:
        command = ["sh", "-c", f'ulimit -n {open_files} && exec "$@"', "sh", *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--bind", f"127.0.0.1:{port}", *options],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        served = Served(f"http://127.0.0.1:{port}", process, log)
        _wait_until_listening(served, port)
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(SOON_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_listening(served: Served, port: int) -> None:
    while served.process.poll() is None:
        if is_listening(port):
            return
    raise AssertionError(f"gunicorn ended while starting:\n{served.log.read_text()}")


def is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
