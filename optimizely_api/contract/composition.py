"""The parts that the response of an operation is composed of, as a graph: `x-composition` of the contract.

    x-composition:
      experiment:
        {service: experiments, call: "GET /experiments/{experiment_id}"}
      project:
        service: projects
        call: GET /projects/{project_id}
        after: [experiment]
        optional: "`confidence_threshold` is left out."

Each part is one kind of call to a service: its path names what is asked for in braces, and the calls of one part may be
several. `after` names the parts whose values the calls are made of. Every part is required, except one with `optional`:
that text says what a response without it lacks. `gateway/composition/parts.py` reads all of this.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COMPOSITION = "x-composition"
MISSING_PARTS = (
    "unreachable"  # the member of a composed object that names the parts that are missing (AIP-217)
)

_CALL = re.compile(r"(?P<method>GET|POST) (?P<path>/[^ ]+)")
_KEYS = frozenset({"service", "call", "after", "optional"})
_BRACES = re.compile(r"\\\{[^}]*\\\}")

Steps = tuple[tuple[str, ...], ...]


class InvalidComposition(ValueError):
    """A composition that cannot be carried out: the part, and what is wrong with it."""

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(part, problem)
        self.part, self.problem = part, problem


@dataclass(frozen=True, slots=True)
class Part:
    """One part; `without` says what a response lacks without it, and is empty for a part that is required."""

    name: str
    service: str
    method: str
    path: str
    after: tuple[str, ...] = ()
    without: str = ""

    @property
    def is_optional(self) -> bool:
        return bool(self.without)

    def is_asked_by(self, service: str, method: str, path: str) -> bool:
        """Whether a call to this path of a service is one of the part's."""
        return (service, method) == (self.service, self.method) and bool(_matches(self.path, path))


@dataclass(frozen=True, slots=True)
class Composition:
    """The parts of one operation by name, in the order of the contract; none for an operation that says nothing."""

    parts: Mapping[str, Part]
    steps: Steps  # names of parts whose calls are sent together, step after step
    has_member: bool = False  # whether the body has the member that names missing parts

    def parts_of(self, service: str, method: str, path: str) -> list[str]:
        """The names of the parts that a call may belong to, in their order."""
        return [name for name, part in self.parts.items() if part.is_asked_by(service, method, path)]

    def lost_with(self, name: str) -> tuple[str, ...]:
        """The parts that are missing without this one, itself included; none if the response needs it."""
        lost = {name} if name in self.parts and self.parts[name].is_optional else set()
        for step in self.steps:
            lost |= {one for one in step if lost & set(self.parts[one].after)}
        return tuple(one for one in self.parts if one in lost)


NO_PARTS = Composition({}, ())


def may_be_partial(operation: Mapping[str, Any]) -> bool:
    """Whether the composition of an operation object has an optional part."""
    stated = operation.get(COMPOSITION)
    return isinstance(stated, Mapping) and any("optional" in node for node in stated.values())


def read_composition(operation: Mapping[str, Any], *, has_member: bool = False) -> Composition:
    """Read the composition of an operation object; raises InvalidComposition."""
    stated = operation.get(COMPOSITION, {})
    if not isinstance(stated, Mapping):
        raise InvalidComposition("", "not a mapping of parts")
    parts = {name: _part(name, node) for name, node in stated.items()}
    for part in parts.values():
        for name in part.after:
            if name not in parts:
                raise InvalidComposition(part.name, f"after {name}, which is no part")
            if parts[name].is_optional and not part.is_optional:
                raise InvalidComposition(part.name, f"required, but after {name}, which is optional")
    return Composition(parts, _steps(parts), has_member)


def _part(name: str, node: Any) -> Part:
    if not isinstance(node, Mapping) or set(node) - _KEYS or not {"service", "call"} <= set(node):
        raise InvalidComposition(name, "a part has service and call, and perhaps after and optional")
    call = _CALL.fullmatch(str(node["call"]))
    if call is None:
        raise InvalidComposition(name, f"{node['call']} is not of the form `GET /path`")
    if node.get("optional") is not None and not isinstance(node["optional"], str):
        raise InvalidComposition(name, "optional is the text that says what a response lacks")
    after = tuple(node.get("after", ()))
    return Part(name, node["service"], call["method"], call["path"], after, node.get("optional") or "")


def _steps(parts: Mapping[str, Part]) -> Steps:
    """The parts in steps, each as early as it can be; an optional one that no other needs is in the last step.

    So the calls of a required part never wait for a slow part that is optional.
    """
    step_of: dict[str, int] = {}
    while len(step_of) < len(parts):
        ready = [
            part for part in parts.values() if part.name not in step_of and set(part.after) <= step_of.keys()
        ]
        if not ready:
            stuck = next(name for name in parts if name not in step_of)
            raise InvalidComposition(stuck, "after itself, by way of other parts")
        step_of |= {part.name: max((step_of[name] + 1 for name in part.after), default=0) for part in ready}
    last = max(step_of.values(), default=-1)
    needed = {name for part in parts.values() for name in part.after}
    for part in parts.values():
        if part.is_optional and part.after and part.name not in needed:
            step_of[part.name] = last
    return tuple(tuple(name for name in parts if step_of[name] == step) for step in range(last + 1))


@functools.cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(_BRACES.sub("[^/]+", re.escape(path)))


def _matches(template: str, path: str) -> re.Match[str] | None:
    return _pattern(template).fullmatch(path)
