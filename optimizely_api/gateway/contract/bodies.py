"""Request bodies: read as strict JSON and held against the contract, without holding the event loop.

The body of a large request is looked at in steps; between them the loop runs whatever else is ready.
"""

import asyncio
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pyramid.registry import Registry
from pyramid.request import Request

from optimizely_api.contract.bodies import BodyValidator, BodyValidators, BodyViolation
from optimizely_api.contract.load import CONTRACT, Contract, Json
from optimizely_api.gateway import BLOCKING
from optimizely_api.gateway.errors import GatewayError
from optimizely_api.http.strict_json import InvalidJson, Read, finish, reading
from optimizely_api.runtime import synchronize

MAX_VALUES = 20_000  # members and entries of one body: reading so many is the longest step, 2 to 4 ms
PLACE = "/body"

Pause = Callable[[], object]
T = TypeVar("T")

# RFC 9110 section 8.3.1, and RFC 6839 section 3.1 for the suffix.
_JSON = re.compile(r"application/(?:json|[!#$&^_.+\-a-z0-9]+\+json)\s*(?:;.*)?", re.ASCII | re.IGNORECASE)


class UnsupportedMediaType(GatewayError):
    """415: the body is not JSON by its Content-Type."""

    def __init__(self) -> None:
        super().__init__(
            "unsupported_media_type",
            "The body must be JSON: send it with `Content-Type: application/json`.",
            headers={"Accept": "application/json"},  # RFC 9110 section 15.5.16
        )


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body as far as it could be read, and (place, problem, value) of what is wrong with it."""

    name: str  # of its parameter
    value: Json
    violations: list[tuple[str, str, Json]]


@dataclass(frozen=True, slots=True)
class BodyReader:
    """Reads the bodies of one operation."""

    _name: str
    _is_required: bool
    _validator: BodyValidator
    _pause: Pause

    def read(self, request: Request) -> Body:
        """Read and judge the body; raises UnsupportedMediaType."""
        content: bytes = request.body if request.is_body_readable else b""
        if content and not is_json(request.environ.get("CONTENT_TYPE", "")):
            raise UnsupportedMediaType
        try:
            read = self._run(reading(content, max_values=MAX_VALUES)) if content else None
        except InvalidJson as error:
            return Body(self._name, None, [(PLACE, error.problem, None)])
        if read is None or read.value is None:
            return Body(self._name, None, [(PLACE, "is required", None)] if self._is_required else [])
        violations = [(PLACE + found.pointer, found.problem, found.value) for found in self._violations(read)]
        return Body(self._name, read.value, violations)

    def _violations(self, read: Read) -> list[BodyViolation]:
        if not read.has_nul and self._validator.is_valid(read.value):
            return []
        return self._run(self._validator.violations(read.value, nul_allowed=not read.has_nul))

    def _run(self, steps: Generator[None, None, T]) -> T:
        return finish(steps, between=self._pause)


def is_json(content_type: str) -> bool:
    """Whether a body of this Content-Type is read; without one it may be JSON."""
    content_type = content_type.strip()
    return not content_type or _JSON.fullmatch(content_type) is not None


def body_readers(registry: Registry) -> dict[str, BodyReader]:
    """The readers by operationId, of the operations that have a body."""
    contract: Contract = registry[CONTRACT]
    pause: Pause = _go_on if registry.get(BLOCKING) else partial(synchronize(asyncio.sleep), 0)
    return {
        name: BodyReader(parameter["name"], parameter.get("required", False), validator, pause)
        for name, validator in BodyValidators(contract).by_operation.items()
        for parameter in contract.operations[name].spec["parameters"]
        if parameter["in"] == "body"
    }


def _go_on() -> None:
    """A blocking worker has other threads for other requests."""
