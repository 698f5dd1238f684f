"""The operations of the public v2 API, and which of them are not here yet."""

import functools
import importlib.resources
from collections.abc import Container
from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class PublicOperation:
    """An operation of the public API; its path is without the basePath."""

    operation_id: str
    method: str
    path: str
    tag: str


@functools.cache
def public_operations() -> tuple[PublicOperation, ...]:
    """All operations of the public API: facts, which are read from `public_operations.json` once per process."""
    rows = orjson.loads((importlib.resources.files(__package__) / "public_operations.json").read_bytes())
    return tuple(PublicOperation(*row) for row in rows)


def not_here_yet(served: Container[str]) -> list[PublicOperation]:
    """The public operations whose operationId is not among those served."""
    return [operation for operation in public_operations() if operation.operation_id not in served]
