"""Compiled checks of request bodies: the contract's schemas as JSON Schema, run by jsonschema-rs.

A valid body is found valid in one go. Of any other, the violations are looked for value by value: jsonschema-rs would
describe all of them, thousands perhaps, before it names the first.

Clients send whole entities back, so the check is looser than the schemas: members that are unknown or read-only are
ignored, whatever their value, and a read-only member is never required.
"""

import functools
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import jsonschema_rs
import orjson
from jsonschema import ValidationError

from optimizely_api.contract.format_patterns import REQUEST_PATTERNS
from optimizely_api.contract.load import Contract, InvalidContract, Json, is_read_only, pointer, resolve
from optimizely_api.contract.validators import json_schema
from optimizely_api.contract.violations import phrase

MAX_VIOLATIONS = 50  # listed of one body
# Of integers above 2^53, which hash alike, jsonschema-rs compares each with each.
MAX_UNIQUE_ITEMS = 500
VALUES_PER_STEP = 500  # looked at one by one before others may go on

Schema = dict[str, Json]
Place = tuple["Place", str | int] | None  # the place of a value: that of its container, and its key there

_IGNORED: Schema = {"readOnly": True}  # in place of the schema of a member that may have any value
_STRUCTURE = frozenset({"properties", "additionalProperties", "items", "allOf"})
_HAS_NUL = "must not hold the character U+0000"


@dataclass(frozen=True, slots=True)
class BodyViolation:
    """Where a body breaks the contract, how in a caller's words, and the value that is there."""

    pointer: str
    problem: str
    value: Json


class BodyValidator:
    """The compiled check of one schema."""

    def __init__(self, schema: Schema, definitions: "Definitions") -> None:
        self._schema = for_requests(schema, definitions.document)
        self._definitions = definitions
        _check_unique_items(self._schema, definitions.document, set())
        self._compiled = jsonschema_rs.Draft4Validator(
            {**_compilable(self._schema), "definitions": definitions.compilable}, validate_formats=False
        )

    def is_valid(self, value: Json) -> bool:
        """Whether a value, as orjson reads it, fits the schema; U+0000 does."""
        return self._compiled.is_valid(value)

    def violations(
        self, value: Json, *, nul_allowed: bool = True
    ) -> Generator[None, None, list[BodyViolation]]:
        """Find the first violations of a value, from the outside in; a generator, as others may go on meanwhile."""
        found: list[BodyViolation] = []
        looked_at = 0
        ways: list[Iterator[tuple[Schema, Json, Place]]] = [iter([(self._schema, value, None)])]
        while ways and len(found) < MAX_VIOLATIONS:
            if (step := next(ways[-1], None)) is None:
                ways.pop()
                continue
            looked_at += 1
            if looked_at % VALUES_PER_STEP == 0:
                yield
            schema, inner, place = step
            node = self._definitions.node(schema)
            for name, problem in node.problems(inner, nul_allowed=nul_allowed):
                within = place if name is None else (place, name)
                found.append(BodyViolation(pointer(*_keys(within)), problem, inner))
            ways.append(node.inside(inner, place))
        return found[:MAX_VIOLATIONS]


class Definitions:
    """The definitions of a document, as request bodies are held against them."""

    def __init__(self, document: Schema) -> None:
        self.document = document
        self._schemas = {name: for_requests(body, document) for name, body in document["definitions"].items()}
        self.compilable = {name: _compilable(body) for name, body in self._schemas.items()}
        self._nodes: dict[int, _Node] = {}  # by the schema's id: a schema is never thrown away

    def node(self, schema: Schema) -> "_Node":
        """A schema made ready to look at one value; made when it is first needed, as a definition may hold itself."""
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rsplit("/", 1)[1]]
        node = self._nodes.get(id(schema))
        if node is None:
            node = self._nodes[id(schema)] = _Node(schema)
        return node


class BodyValidators:
    """The validator of each operation that has a body parameter."""

    def __init__(self, contract: Contract) -> None:
        self.by_operation: dict[str, BodyValidator] = {}
        schemas = {
            name: _body_schema(parameter, contract.document)
            for name, operation in contract.operations.items()
            for parameter in operation.spec["parameters"]
            if parameter["in"] == "body"
        }
        if schemas:
            definitions = Definitions(contract.document)
            self.by_operation = {name: BodyValidator(schema, definitions) for name, schema in schemas.items()}


def for_requests(schema: Schema, document: Schema) -> Schema:
    """A Swagger schema without what it says of read-only and of unknown members, at all levels."""
    kept = {key: value for key, value in schema.items() if key != "additionalProperties"}
    ignored = _read_only(schema, document)
    if "required" in schema:
        optional = schema.get("x-optional", ())  # required of responses alone
        kept["required"] = [name for name in schema["required"] if name not in {*ignored, *optional}]
        if not kept["required"]:
            del kept["required"]  # draft 4 has no empty list
    if "properties" in schema:
        kept["properties"] = {
            name: _IGNORED if name in ignored else for_requests(body, document)
            for name, body in schema["properties"].items()
        }
    if isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = for_requests(schema["additionalProperties"], document)
    if "items" in schema:
        kept["items"] = for_requests(schema["items"], document)
    if "allOf" in schema:
        kept["allOf"] = [for_requests(part, document) for part in schema["allOf"]]
    return kept


def _body_schema(parameter: Schema, document: Schema) -> Schema:
    """A body's schema; of those that its definition requires, the members under `x-optional` may be left out."""
    schema: Schema = parameter["schema"]
    optional = parameter.get("x-optional")
    if not optional:
        return schema
    whole = resolve(document, schema)
    return {**whole, "required": [name for name in whole["required"] if name not in optional]}


def _check_unique_items(schema: Json, document: Schema, seen: set[str]) -> None:
    """Raise InvalidContract where a repetition would be looked for among any number of entries."""
    if isinstance(schema, list):
        for part in schema:
            _check_unique_items(part, document, seen)
    if not isinstance(schema, dict):
        return
    if isinstance(reference := schema.get("$ref"), str):
        if reference not in seen:
            seen.add(reference)
            _check_unique_items(resolve(document, schema), document, seen)
        return
    if schema.get("uniqueItems") and schema.get("maxItems", math.inf) > MAX_UNIQUE_ITEMS:
        raise InvalidContract("", "", f"uniqueItems in a body needs maxItems of at most {MAX_UNIQUE_ITEMS}")
    for value in schema.values():
        _check_unique_items(value, document, seen)


def _read_only(schema: Schema, document: Schema) -> frozenset[str]:
    """The names of the read-only properties of a schema and of the schemas that it is composed of."""
    own = (
        name for name, body in schema.get("properties", {}).items() if is_read_only(resolve(document, body))
    )
    composed = (_read_only(resolve(document, part), document) for part in schema.get("allOf", ()))
    return frozenset(own).union(*composed)


def _compilable(schema: Schema) -> Schema:
    """A Swagger schema as JSON Schema with patterns in the place of formats, so that no Python runs during a check."""
    compilable: Schema = _with_patterns(json_schema(schema))
    return compilable


def _with_patterns(schema: Json) -> Json:
    if isinstance(schema, list):
        return [_with_patterns(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _with_patterns(value) for key, value in schema.items()}
    form = schema.get("format")
    if isinstance(form, str) and form in REQUEST_PATTERNS:
        kept["allOf"] = [*kept.get("allOf", ()), *REQUEST_PATTERNS[form]]
    return kept


class _Node:
    """One schema, to look at one value at a time: what it says of the value itself, and of what is inside."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        own = json_schema({key: value for key, value in schema.items() if key not in _STRUCTURE})
        self._required: list[str] = own.pop("required", [])
        self._keywords = {
            keyword: _compiled(orjson.dumps(_alone(keyword, own)))
            for keyword in sorted(own, key="uniqueItems".__eq__)  # that at last
            if not keyword.startswith("exclusive")
        }
        self._properties: dict[str, Schema] = schema.get("properties", {})
        self._additional: Schema | None = schema.get("additionalProperties")
        self._items: Schema | None = schema.get("items")
        self._parts: list[Schema] = schema.get("allOf", [])

    def problems(self, value: Json, *, nul_allowed: bool) -> Iterator[tuple[str | None, str]]:
        """(name of a missing member or None, what is wrong) for each violation, without those inside."""
        for keyword, compiled in self._keywords.items():
            if not compiled.is_valid(value):
                yield None, _phrase(keyword, self._schema, value)
                if keyword == "maxItems":  # entries so many are not compared with each other
                    break
        if isinstance(value, dict):
            for name in self._required:
                if name not in value:
                    yield name, _phrase("required", self._schema, value)
        if not (nul_allowed or self._parts) and _holds_nul(self._passed_on(value)):
            yield None, _HAS_NUL

    def _passed_on(self, value: Json) -> Json:
        """The part of a value that no other node looks at."""
        if isinstance(value, dict) and self._additional is not None:
            return list(value)
        if isinstance(value, dict) and self._properties:
            return None
        return None if isinstance(value, list) and self._items is not None else value

    def inside(self, value: Json, place: Place) -> Iterator[tuple[Schema, Json, Place]]:
        """The schemas that a value, its members or its entries have to fit besides."""
        for part in self._parts:
            yield part, value, place
        if isinstance(value, dict):
            for name, item, schema in self._members(value):
                if schema is not _IGNORED:
                    yield schema, item, (place, name)
        elif isinstance(value, list) and self._items is not None:
            for index, item in enumerate(value):
                yield self._items, item, (place, index)

    def _members(self, value: dict[str, Json]) -> Iterator[tuple[str, Json, Schema]]:
        for name, schema in self._properties.items():
            if name in value:
                yield name, value[name], schema
        if self._additional is not None:
            for name, item in value.items():
                if name not in self._properties:
                    yield name, item, self._additional


def _holds_nul(value: Json) -> bool:
    return b"\\u0000" in orjson.dumps(value).replace(b"\\\\", b"")


def _alone(keyword: str, schema: Schema) -> Schema:
    """A schema that judges by one keyword of another."""
    alone = {keyword: schema[keyword]}
    exclusive = f"exclusive{keyword.title()}"
    if exclusive in schema:
        alone[exclusive] = schema[exclusive]
    kept: Schema = _with_patterns(alone)
    return kept


@functools.cache
def _compiled(schema: bytes) -> jsonschema_rs.Draft4Validator:
    return jsonschema_rs.Draft4Validator(orjson.loads(schema), validate_formats=False)


def _phrase(keyword: str, schema: Schema, value: Json) -> str:
    if keyword not in schema:  # a bound that the format means
        keyword = "format"
    error = ValidationError(
        "", validator=keyword, validator_value=schema[keyword], instance=value, schema=schema
    )
    return phrase(error)


def _keys(place: Place) -> list[str | int]:
    keys: list[str | int] = []
    while place is not None:
        place, key = place
        keys.append(key)
    return keys[::-1]
