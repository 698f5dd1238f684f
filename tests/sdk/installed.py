"""The official SDKs, installed as they are into a cache outside the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

LONGEST_INSTALLATION_SECONDS = 300
# What pip and npm say when no registry can be reached.
NO_NETWORK = re.compile(
    "NewConnectionError|NameResolutionError|ConnectTimeout|ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|ENETUNREACH"
)
DRIVERS = Path(__file__).parent / "drivers"


def cache() -> Path:
    """The folder of all installed SDKs."""
    parent = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(parent) / "optimizely_api_tests"


def python_driver(package: str) -> list[str]:
    """The command that runs a Python SDK; skips the test where it cannot be installed."""
    folder = cache() / _name(package)
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        _install(folder, [_python(folder), "-m", "pip", "install", "--quiet", package])
    return [_python(folder), str(DRIVERS / "python.py")]


def node_driver(driver: str, package: str) -> list[str]:
    """The command that runs an SDK of Node by a driver; skips the test where it cannot be installed."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip(f"{package} needs node and npm")
    folder = cache() / _name(package)
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-fund", "--no-audit", "--prefix", str(folder), package]
        _install(folder, command)
    return ["node", str(DRIVERS / driver), str(folder)]


def _name(package: str) -> str:
    return (
        f"{re.sub('[^a-z0-9.]+', '-', package).strip('-')}-{sys.version_info.major}.{sys.version_info.minor}"
    )


def _python(folder: Path) -> str:
    return str(folder / "bin" / "python")


def _install(folder: Path, command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LONGEST_INSTALLATION_SECONDS, check=False
    )
    said = done.stdout + done.stderr
    if done.returncode and NO_NETWORK.search(said):
        pytest.skip(f"{command[-1]} cannot be installed without the network")
    assert done.returncode == 0, said
    (folder / "installed").touch()
