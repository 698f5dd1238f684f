"""The public clients, installed from their registries into a folder outside of the checkout, for later runs too."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
IN_CI = os.environ.get("CI", "").lower() == "true"
LONGEST_INSTALLATION_SECONDS = 300
COMPLETE = ".complete"


def python() -> Path:
    """The interpreter of an environment that has the Python clients."""
    listed = HERE / "requirements.txt"
    folder = _folder("python", listed)
    interpreter = folder / "bin" / "python"
    if not (folder / COMPLETE).exists():
        _install([sys.executable, "-m", "venv", "--clear", str(folder)], folder)
        _install([str(interpreter), "-m", "pip", "install", "--quiet", "--requirement", str(listed)], folder)
        (folder / COMPLETE).touch()
    return interpreter


def node_modules() -> Path:
    """The folder `node_modules` that has the Node clients."""
    listed = HERE / "node" / "package.json"
    folder = _folder("node", listed)
    if shutil.which("npm") is None:
        _unavailable("npm is not installed")
    if not (folder / COMPLETE).exists():
        shutil.copy(listed, folder)
        # Their install scripts build and print what the clients need not.
        _install(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], folder)
        (folder / COMPLETE).touch()
    return folder / "node_modules"


def _folder(kind: str, listed: Path) -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = hashlib.sha256(listed.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = caches / "optimizely-api-clients" / f"{kind}-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _install(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=LONGEST_INSTALLATION_SECONDS,
        )
    except subprocess.CalledProcessError as exc:
        _unavailable(f"{' '.join(command[:4])} failed: {exc.stderr[-500:]}")
    except subprocess.TimeoutExpired:
        _unavailable(f"{' '.join(command[:4])} took longer than {LONGEST_INSTALLATION_SECONDS} seconds")


def _unavailable(reason: str) -> None:
    """Skip where a client cannot be installed; CI has to have them."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)
