"""What is imported is declared, and what is declared is pinned with hashes."""

import ast
import functools
import re
import sys
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.serving import ROOT

FILES = {"INSTALL": "install.txt", "COMPARE": "compare.txt", "TEST": "test.txt"}
OURS = {"optimizely_api", "tests", "served_app"}  # the last by its folder, as gunicorn imports it
# Modules that a Python of another release has, in its library or beside it.
OTHER_PYTHONS = {"compression"}
# What nothing imports, and what needs it.
NOT_IMPORTED = {
    "setuptools": "Pyramid imports its pkg_resources",
    "plaster-pastedeploy": "gunicorn reads --paste by its paste.deploy",
    "tzdata": "zoneinfo",
    "honcho": "a command",
    "import-linter": "make lint",
    "uvicorn": "a command",
    "uv": "a command",
    "ruff": "a command",
    "mypy": "a command",
    "types-pyyaml": "mypy",
    "types-requests": "mypy",
    "types-psutil": "mypy",
    "types-cachetools": "mypy",
}

# They run where they have been installed for it.
IN_OTHER_ENVIRONMENTS = {
    *(ROOT / "tests" / "clients").glob("drive_*.py"),
    *(ROOT / "tests" / "sdk" / "drivers").glob("*.py"),
}


def declared():
    """{"INSTALL": [Requirement], ...}, as setup.py lists them."""
    lists = {}
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            texts = [item.value for item in node.value.elts if isinstance(item, ast.Constant)]
            lists[node.targets[0].id] = [Requirement(text) for text in texts]
    return lists


def imported(folder):
    """{top-level module: a file that imports it}, without the standard library's and ours."""
    found = {}
    for path in set(folder.rglob("*.py")) - IN_OTHER_ENVIRONMENTS:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            found.update({name.split(".")[0]: path for name in names})
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | OURS}


@functools.cache
def owners_of_modules():
    return packages_distributions()


def pinned(file):
    """{distribution: [(pin, number of hashes)]} of a file in requirements/."""
    text = (ROOT / "requirements" / file).read_text()
    pins = {}
    for block in re.split(r"\n(?=[a-z])", re.sub(r"(?m)^#.*\n", "", text)):
        pin = Requirement(block.split("\\")[0].strip())
        pins.setdefault(canonicalize_name(pin.name), []).append((pin, block.count("--hash=sha256:")))
    return pins


@pytest.mark.parametrize(
    ("folder", "lists"),
    [
        ("optimizely_api", ("INSTALL", "COMPARE", "TEST")),
        ("optimizely_api/services", ("INSTALL",)),
        ("tests", ("INSTALL", "COMPARE", "TEST")),
    ],
)
def test_everything_imported_is_declared(folder, lists):
    names = {canonicalize_name(each.name) for key in lists for each in declared()[key]}
    owners = owners_of_modules()
    undeclared = {
        module: str(path)
        for module, path in imported(ROOT / folder).items()
        if module not in OTHER_PYTHONS
        and not {canonicalize_name(owner) for owner in owners.get(module, [])} & names
    }
    assert undeclared == {}


def test_everything_declared_is_imported_or_has_another_use():
    used = {
        canonicalize_name(owner)
        for folder in ("optimizely_api", "tests")
        for module in imported(ROOT / folder)
        for owner in owners_of_modules().get(module, [])
    }
    everything = [each for key in FILES for each in declared()[key]]
    names = {canonicalize_name(each.name) for each in everything if not each.marker or each.marker.evaluate()}
    assert names - used == NOT_IMPORTED.keys()


@pytest.mark.parametrize(("key", "file"), FILES.items())
def test_every_dependency_is_pinned_within_its_range(key, file):
    pins = pinned(file)
    for each in declared()[key]:
        assert canonicalize_name(each.name) in pins, f"{each}: run `make constraints`"
        for pin, _hashes in pins[canonicalize_name(each.name)]:
            (version,) = [one.version for one in pin.specifier]
            assert each.specifier.contains(version), f"{pin} is not {each}: run `make constraints`"


@pytest.mark.parametrize("file", FILES.values())
def test_every_pin_has_hashes_and_no_index_is_named(file):
    assert [str(pin) for pins in pinned(file).values() for pin, hashes in pins if not hashes] == []
    text = (ROOT / "requirements" / file).read_text()
    assert "://" not in text
    assert "index-url" not in text


def test_a_dependency_has_one_release_in_all_files():
    everything = {name: [str(pin) for pin, _ in pins] for name, pins in pinned("test.txt").items()}
    for file in ("install.txt", "compare.txt"):
        for name, pins in pinned(file).items():
            assert [str(pin) for pin, _ in pins] == everything[name]
