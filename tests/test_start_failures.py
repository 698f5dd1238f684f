"""A start that fails says why in its last line, without a traceback."""

import subprocess
import sys

import pytest

from tests.ports import free_port
from tests.serving import ROOT


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("sqlite:////dev/null/projects.sqlite3", "/dev/null"),
        (f"postgresql://nobody@127.0.0.1:{free_port()}/projects", "Connect call failed"),
    ],
    ids=["a folder that is none", "a port where nobody listens"],
)
def test_a_service_without_its_database_says_so_in_one_line(url, named):
    command = [sys.executable, "-m", "optimizely_api.cli", "service", "projects", "--port", str(free_port())]
    done = subprocess.run(
        [*command, "--database-url", url], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    last = done.stderr.rstrip().splitlines()[-1]
    assert named in last, done.stderr
    assert "projects service" in last
