"""Checking what callers send: JSON Schema for the values, silence for what is not theirs to set.

Clients send whole objects back in a PATCH and fields of newer contracts: names that a schema does not
know, or that only the service sets (no schema has those), are dropped before the check, never an error.
"""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from optimizely_api.contract.definitions import known_part
from optimizely_api.services.http.errors import ServiceError, field_errors
from optimizely_api.services.http.query import MAX_ID

Node = dict[str, Any]

ID: Node = {"type": "integer", "minimum": 1, "maximum": MAX_ID}
TEXT: Node = {"type": "string"}
BOOLEAN: Node = {"type": "boolean"}
# At 1 nothing would ever be significant, and no interval have an end: the results service refuses it.
CONFIDENCE_LEVEL: Node = {"type": "number", "minimum": 0.5, "maximum": 1, "exclusiveMaximum": True}


def one_of(*names: str) -> Node:
    """A text out of an enumeration."""
    return {"type": "string", "enum": list(names)}


def list_of(item: Node, *, most: int | None = None) -> Node:
    """An array, of `most` items if that is given."""
    return {"type": "array", "items": item, **({} if most is None else {"maxItems": most})}


def object_of(properties: dict[str, Node], *required: str) -> Node:
    """An object with known properties; all others are dropped from the input."""
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def map_of(value: Node) -> Node:
    """An object with free names."""
    return {"type": "object", "additionalProperties": value}


def nullable(node: Node) -> Node:
    """The same, or null."""
    changed = {**node, "type": [node["type"], "null"]}
    if "enum" in node:
        changed["enum"] = [*node["enum"], None]
    return changed


class Schema:
    """A compiled schema for one kind of body."""

    def __init__(self, node: Node) -> None:
        self.node = node
        # The mask keeps the caller's values, which may be large, out of the messages.
        self._validator = jsonschema_rs.Draft4Validator(node, mask="the value", validate_formats=True)

    def read(self, value: dict[str, Any]) -> dict[str, Any]:
        """The known part of `value`, checked; raises a 400 that names every wrong field."""
        known: dict[str, Any] = known_part(self.node, value)
        problems: dict[str, str] = {}
        for error in self._validator.iter_errors(known):
            pointer = _pointer(error.instance_path)
            before = f"{problems[pointer]}; " if pointer in problems else ""
            problems[pointer] = before + error.message
        if problems:
            raise field_errors(problems)
        return known


def _pointer(path: list[str | int]) -> str:
    return "/" + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in path) if path else "/"


def field_error(pointer: str, problem: str) -> ServiceError:
    """A 400 for a rule that JSON Schema cannot state, in the same form."""
    return field_errors({pointer: problem})
