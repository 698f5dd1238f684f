"""A stop signal during the start of the workers ends them at once."""

import signal
import subprocess
import sys
import time

import pytest

from tests.support.ports import free_port
from tests.support.serving import ROOT

GRACEFUL_SECONDS = 30  # what gunicorn waits for a worker that does not hear


def commands(folder):
    paste = [sys.executable, "-m", "gunicorn", "--paste", "production.ini", "--workers", "2"]
    service = [sys.executable, "-m", "optimizely_api.cli", "service", "projects", "--workers", "2"]
    port = str(free_port())
    return {
        "gateway": [*paste, "--bind", f"127.0.0.1:{port}", "--graceful-timeout", str(GRACEFUL_SECONDS)],
        "service": [*service, "--port", port, "--database-url", f"sqlite:///{folder}/projects.sqlite3"],
    }


@pytest.mark.parametrize("later_seconds", [0, 0.2, 0.6])
@pytest.mark.parametrize("name", ["gateway", "service"])
def test_term_while_starting_ends_the_workers(name, later_seconds, tmp_path):
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(commands(tmp_path)[name], cwd=ROOT, stdout=output, stderr=output)
    while "Booting worker" not in log.read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    time.sleep(later_seconds)  # not for luck: each moment of the start is worth a try
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    process.wait(GRACEFUL_SECONDS + 30)
    assert time.monotonic() - began < GRACEFUL_SECONDS / 2, log.read_text()
