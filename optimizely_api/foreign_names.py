"""Names of other packages that are no promise of theirs: a release without one of them is refused at start-up.

A room that builds on such names lists them in its `relied_on.py`, each with its reason. A name that is used and gone
would fail at the request that needs it; a method that is overridden and no longer called would be no error at all.
"""

import dis
import functools
import importlib.metadata
import inspect
import platform
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from optimizely_api.start_failures import CannotStart

PYTHON = "Python"  # a "package": its standard library

Table = Mapping[Any, Mapping[str, str]]  # {class or module: {name: what it is needed for}}


class ReleaseDoesNotFit(CannotStart, RuntimeError):
    """The message names the package, its release, the name, and what to install.

    A RuntimeError, which gunicorn prints in one line when it looks up the worker class.
    """


@dataclass(frozen=True)
class Reliance:
    """What is relied on of one package, and what to do where it is missing."""

    package: str
    remedy: str
    used: Table = field(default_factory=dict)
    overridden: Table = field(default_factory=dict)  # or replaced: the package itself must call these

    def check(self) -> None:
        """Raise ReleaseDoesNotFit for the first name that is missing, or that the package no longer calls."""
        for owner, name, reason in _rows(self.used):
            if not is_known(owner, name):
                self._refuse(f"has no {owner.__name__}.{name}", reason)
        for owner, name, reason in _rows(self.overridden):
            if not is_called(owner, name):
                self._refuse(f"does not call {owner.__name__}.{name}", reason)

    def _refuse(self, what: str, reason: str) -> None:
        installed = (
            platform.python_version() if self.package == PYTHON else importlib.metadata.version(self.package)
        )
        raise ReleaseDoesNotFit(f"{self.package} {installed} {what}, needed for {reason}: {self.remedy}")


def _rows(table: Table) -> Iterator[tuple[Any, str, str]]:
    return ((owner, name, reason) for owner, names in table.items() for name, reason in names.items())


def is_known(owner: Any, name: str) -> bool:
    """Whether a module or a class has the name, or the objects of the class, whose methods set it."""
    return hasattr(owner, name) or (
        isinstance(owner, type)
        and any(name in code.co_names and name in _set_by(code) for _, code in _codes(owner))
    )


@functools.cache
def _set_by(code: types.CodeType) -> frozenset[str]:
    return frozenset(each.argval for each in dis.get_instructions(code) if each.opname == "STORE_ATTR")


def is_called(owner: Any, name: str) -> bool:
    """Whether a class has the method, and another function of the class, or of its module, names it."""
    return hasattr(owner, name) and any(
        name in code.co_names
        for each in (owner, sys.modules[owner.__module__])
        for called, code in _codes(each)
        if called != name
    )


def _codes(owner: Any) -> Iterator[tuple[str, types.CodeType]]:
    """The code of a class's or module's own functions, nested ones too, each with the name of the outermost.

    Functions of ours that replace its own do not count: they would find themselves.
    """
    package = (owner.__module__ if isinstance(owner, type) else owner.__name__).partition(".")[0]
    for each in owner.__mro__ if isinstance(owner, type) else (owner,):
        for name, value in vars(each).items():
            if inspect.ismodule(owner) and isinstance(value, type) and value.__module__ == owner.__name__:
                yield from _codes(value)
                continue
            function = inspect.unwrap(getattr(value, "fget", None) or getattr(value, "__func__", value))
            if inspect.isfunction(function) and function.__module__.partition(".")[0] == package:
                yield from ((name, code) for code in _with_nested(function.__code__))


def _with_nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _with_nested(constant)
