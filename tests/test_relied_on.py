"""What is private in other packages is listed where it is used, and a release without it is refused at start-up."""

import ast
import functools
import importlib
import os
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from optimizely_api.foreign_names import PYTHON, ReleaseDoesNotFit, Reliance, is_known
from optimizely_api.runtime import relied_on as runtime
from optimizely_api.runtime.server import relied_on as server
from optimizely_api.services.http import relied_on as services
from optimizely_api.services.storage import relied_on as storage
from optimizely_api.serving import relied_on as serving
from optimizely_api.upstream.transport import relied_on as transport
from tests.support.ports import free_port
from tests.support.serving import ROOT
from tests.test_dependencies import declared

PACKAGE = ROOT / "optimizely_api"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)
RELIANCES = {
    "greenlets": runtime.ASYNCIO,
    "both workers": serving.RELIANCE,
    "the gateway's worker": server.RELIANCE,
    "the services' server": services.RELIANCE,
    "the services' cursors": storage.SQLALCHEMY,
    "the services' SQLite": storage.AIOSQLITE,
    "the services' PostgreSQL": storage.ASYNCPG,
    "the clients of the services": transport.RELIANCE,
    "the clients' timers": transport.ASYNCIO,
}
EXEMPT = {
    # Documented by Python, for all its underscore.
    "_exit",
    "_replace",
    "_current_frames",
    # Set on functions of ours, and read with a default: later Pythons have none.
    "_is_coroutine",
}


def rows():
    for reliance in RELIANCES.values():
        for table in (reliance.used, reliance.overridden):
            for owner, names in table.items():
                for name in names:
                    yield owner, name


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def is_on_self(node):
    return ast.unparse(node.value) in ("self", "cls", "super()")


@functools.cache
def parsed(path):
    return ast.parse(path.read_text())


def nodes(tree, *kinds):
    return (node for node in ast.walk(tree) if isinstance(node, kinds))


@functools.cache
def own_names():
    """The methods and functions of ours, and the attributes that our classes set on their own objects."""
    names = set()
    for path in FILES:
        names |= {node.name for node in nodes(parsed(path), ast.FunctionDef, ast.AsyncFunctionDef)}
        names |= {
            node.attr
            for node in nodes(parsed(path), ast.Attribute)
            if isinstance(node.ctx, ast.Store) and is_on_self(node)
        }
    return names


def relative(path):
    return str(path.relative_to(PACKAGE))


def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return importlib.import_module(".".join(parts).removesuffix(".__init__"))


def test_a_private_name_of_another_object_is_our_own_or_listed():
    known = own_names() | EXEMPT | {name for _, name in rows()}
    assert [
        f"{place}: {name}" for path in FILES for place, name in private_uses(path) if name not in known
    ] == []


def private_uses(path):
    """(place, name) of each private name that a module takes from anything but `self` and our own modules."""
    for node in nodes(parsed(path), ast.Attribute):
        if is_private(node.attr) and not is_on_self(node):
            yield f"{relative(path)}:{node.lineno}", node.attr
    for node in nodes(parsed(path), ast.ImportFrom):
        for alias in node.names:
            if is_private(alias.name) and not node.module.startswith(PACKAGE.name):
                yield f"{relative(path)}:{node.lineno}", alias.name


def test_a_private_name_of_a_foreign_base_class_is_listed():
    assert [missing for path in FILES for cls, node in classes(path) for missing in unlisted(cls, node)] == []


def classes(path):
    """(class, its syntax tree) of the classes at the top of a module."""
    for node in parsed(path).body:
        if isinstance(node, ast.ClassDef):
            yield getattr(module(path), node.name), node


def unlisted(cls, tree):
    """The private names of foreign base classes that a class uses or overrides, and that no table has."""
    names = {node.attr for node in nodes(tree, ast.Attribute) if is_on_self(node)}
    names |= {node.name for node in nodes(tree, ast.FunctionDef, ast.AsyncFunctionDef)}
    names -= {name for owner, name in rows() if isinstance(owner, type) and issubclass(cls, owner)}
    for base in cls.__mro__[1:-1]:
        if base.__module__.split(".")[0] not in (PACKAGE.name, "builtins"):
            for name in filter(is_private, names):
                if is_known(base, name):
                    yield f"{cls.__name__}: {base.__name__}.{name}"


def test_every_name_that_is_listed_is_used():
    used = own_names()
    for path in FILES:
        used |= {node.attr for node in nodes(parsed(path), ast.Attribute)}
        used |= {
            node.target.id for node in nodes(parsed(path), ast.AnnAssign) if isinstance(node.target, ast.Name)
        }
    assert [name for _, name in rows() if name not in used] == []


@pytest.mark.parametrize("reliance", RELIANCES.values(), ids=RELIANCES)
def test_the_releases_here_have_every_name(reliance):
    reliance.check()


@pytest.mark.parametrize(
    "reliance", [each for each in RELIANCES.values() if each.package != PYTHON], ids=repr
)
def test_the_remedy_is_what_setup_py_takes(reliance):
    (range_,) = [each.specifier for each in declared()["INSTALL"] if each.name == reliance.package]
    advised = Requirement(reliance.remedy.removeprefix("install ")).specifier
    for minor in ("26.0.0", "27.0.0", "27.0.9", "27.1.0", "3.13.9", "3.14.0", "3.14.99", "3.15.0"):
        assert advised.contains(minor) == range_.contains(minor)


# What the check finds


class Base:
    def __init__(self):
        self._state = 1

    def run(self):
        return [self._step() for _ in range(2)]

    def _step(self):
        return self._step

    def _left_over(self):
        return self._left_over


def refusal(**tables):
    with pytest.raises(ReleaseDoesNotFit) as refused:
        Reliance("gunicorn", "install gunicorn==27.0.*", **tables).check()
    return str(refused.value)


def test_methods_attributes_of_objects_and_called_methods_are_there():
    Reliance(
        "gunicorn",
        "",
        used={Base: {"_step": "a test", "_state": "a test"}, ast: {"parse": "a test"}},
        overridden={Base: {"_step": "a test"}},
    ).check()


@pytest.mark.parametrize(("owner", "name"), [(Base, "Base._gone"), (ast, "ast._gone")])
def test_a_name_that_is_gone_is_refused_with_its_reason_and_the_way_out(owner, name):
    message = refusal(used={owner: {"_gone": "a test"}})
    assert message.startswith("gunicorn 27.0.")
    assert message.endswith(f" has no {name}, needed for a test: install gunicorn==27.0.*")


@pytest.mark.parametrize("name", ["_left_over", "_gone"])
def test_an_overridden_method_that_its_class_does_not_call_is_refused(name):
    assert f" does not call Base.{name}, needed for a test: " in refusal(overridden={Base: {name: "a test"}})


def test_what_replaces_a_method_does_not_count_as_its_caller(monkeypatch):
    monkeypatch.setattr(Base, "run", serving.check)
    monkeypatch.setattr(Base, "replaced", is_known, raising=False)  # names `_codes`, of another package
    assert "Base._codes" in refusal(overridden={Base: {"_codes": "a test"}})


# At start-up


@pytest.mark.parametrize(
    ("lacking", "command", "named"),
    [
        ("gunicorn.workers.gasgi.ASGIWorker._get_ssl_context", "gateway", "ASGIWorker._get_ssl_context"),
        ("gunicorn.arbiter.Arbiter.reload", "gateway", "Arbiter.reload"),
        ("aiohttp.connector.BaseConnector._release", "gateway", "TCPConnector._release"),
        ("aiohttp.web_protocol._ErrInfo", "service", "aiohttp.web_protocol._ErrInfo"),
        ("gunicorn.arbiter.Arbiter.kill_worker", "service", "Arbiter.kill_worker"),
    ],
)
def test_a_release_that_lacks_a_name_ends_the_start_in_one_line(lacking, command, named, tmp_path):
    owner, _, name = lacking.rpartition(".")
    (tmp_path / "older_release.py").write_text(
        f"import pkgutil, runpy, sys\n"
        f"owner = pkgutil.resolve_name({owner!r})\n"
        f"gone = owner.{name}\n"
        f"del owner.{name}\n"
        # Whatever calls it has another name for it.
        f"owner.renamed = gone\n"
        f"sys.argv.pop(0)\n"
        f"runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
    )
    port, url = str(free_port()), f"sqlite:///{tmp_path}/projects.sqlite3"
    configured = ["-c", "python:optimizely_api.runtime.server.ini_section", "--bind", f"127.0.0.1:{port}"]
    commands = {
        "gateway": ["gunicorn", *configured, "--paste", str(ROOT / "production.ini")],
        "service": ["optimizely_api.cli", "service", "projects", "--port", port, "--database-url", url],
    }
    done = subprocess.run(
        [sys.executable, str(tmp_path / "older_release.py"), *commands[command]],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith(f"Error: {lacking.partition('.')[0]} ")
    assert named in last
    assert ": install " in last
