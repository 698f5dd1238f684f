"""Everything running as `make run` starts it: the gateway, the three services and the demo data."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.support.ports import free_port
from tests.support.serving import ROOT

LONGEST_START_SECONDS = 180
PORTS = ("GATEWAY_PORT", "PROJECTS_PORT", "EXPERIMENTS_PORT", "RESULTS_PORT", "EVENTS_PORT")


@dataclass
class Stack:
    """What `optimizely-api run` started, and what it printed."""

    process: subprocess.Popen[str]
    printed: list[str]
    ports: dict[str, int]
    folder: Path

    @property
    def curl(self) -> str:
        return next(line for line in self.printed if line.lstrip().startswith("curl "))

    @property
    def docs(self) -> str:
        return next(line.split()[-1] for line in self.printed if line.startswith("Docs"))

    @property
    def token(self) -> str:
        return next(line.split()[-1] for line in self.printed if line.startswith("Token"))

    @property
    def url(self) -> str:
        return self.docs.removesuffix("/docs")

    @property
    def experiment_id(self) -> str:
        found = re.search(r"/experiments/(\d+)/results", self.curl)
        assert found
        return found.group(1)

    def post(self, path: str, body: dict[str, object]) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return requests.post(self.url + path, json=body, headers=headers, timeout=30)

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, headers={"Authorization": f"Bearer {self.token}"}, timeout=30)


def start(folder: Path) -> Stack:
    """Start everything with its data in `folder`, and return once the request is printed."""
    ports = {name: free_port() for name in PORTS}
    environment = {
        **os.environ,
        **{name: str(port) for name, port in ports.items()},
        "OPTIMIZELY_API_DATA_DIR": str(folder),
    }
    del environment["SERVICES_KEY"]  # it makes one
    process = subprocess.Popen(
        [sys.executable, "-m", "optimizely_api.cli", "run"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(LONGEST_START_SECONDS, process.kill)
    watchdog.start()
    printed: list[str] = []
    assert process.stdout
    for line in process.stdout:
        printed.append(line.rstrip())
        if line.startswith("Stop"):
            break
    watchdog.cancel()
    if process.poll() is not None:
        log = folder / "run.log"
        raise AssertionError("\n".join([*printed, log.read_text()[-4000:] if log.exists() else ""]))
    return Stack(process, printed, ports, folder)


def stop(stack: Stack) -> int:
    """Ctrl-C; returns the exit status."""
    stack.process.send_signal(signal.SIGINT)
    stack.process.communicate(timeout=60)
    return stack.process.returncode


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    started = start(tmp_path_factory.mktemp("stack"))
    yield started
    stop(started)
