"""The wheel carries what the checkout has, and works from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.support.serving import ROOT

PROGRAM = """
import optimizely_api, sys
from optimizely_api.contract import load
from optimizely_api.contract.load import contract_folder
from optimizely_api.services.http.server import SERVICES
from optimizely_api.services.storage.database import migrate
assert optimizely_api.__file__.startswith(sys.argv[1]), optimizely_api.__file__
assert str(contract_folder()).startswith(sys.argv[1]), contract_folder()
optimizely_api.main({})
for service in SERVICES.values():
    migrate(f"sqlite:///{sys.argv[2]}/{service.name}.sqlite3", service.migrations)
print(len(load().operations))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    # A copy: beside other tests the checkout's own folder changes while it is built, and keeps what was built before.
    for name in ("optimizely_api", "swagger", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source],
        check=True,
    )
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_carries_the_contract_and_the_migrations(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {path.name for path in (ROOT / "swagger").iterdir()} <= {
        name.split("/")[-1] for name in names if name.startswith("optimizely_api/swagger/")
    }
    code = [path for path in (ROOT / "optimizely_api").rglob("*.*") if "__pycache__" not in path.parts]
    assert {path.relative_to(ROOT).as_posix() for path in code if path.is_file()} <= set(names)


@pytest.mark.slow
def test_the_wheel_works_from_any_folder(wheel, tmp_path):
    target = tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel],
        check=True,
    )
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(target), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10
