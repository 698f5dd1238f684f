"""Compiled validators for responses: the contract's schemas as JSON Schema, run by jsonschema-rs.

They judge the Python value that a view returned, before it is serialised, and agree with bravado-core's response
validation except where they are deliberately stricter:

- NaN and infinities are refused everywhere (JSON has none; orjson would write null);
- patterns follow ECMA-262: `$` is the very end of the text and `\\d` one of ten digits;
- the keys of objects must be text.

A tuple is an array to them, as it is to orjson. What no JSON text can hold (lone surrogates, larger integers than 64
bits, other Python objects where the schema does not look) is found when the value is serialised.
"""

import functools
import io
import logging
import math
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from optimizely_api.contract.formats import MAX_INT64, MIN_INT64, RESPONSE_TEXT_FORMATS
from optimizely_api.contract.load import Contract, InvalidContract, pointer

Json = Any

log = logging.getLogger(__name__)

_KEPT = frozenset(
    (
        *("$ref", "type", "format", "enum", "pattern", "minLength", "maxLength"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("required", "minProperties", "maxProperties", "minItems", "maxItems", "uniqueItems"),
    )
)


@dataclass(frozen=True, slots=True)
class Violation:
    """Where a response breaks the contract, and which schema keyword it breaks; never what it held."""

    pointer: str
    keyword: str


class Definitions:
    """The definitions of a contract as JSON Schema, translated once for all schemas that refer to them.

    With `closed` a member that a schema does not name violates `additionalProperties`.
    """

    def __init__(self, definitions: dict[str, Json], *, closed: bool = False) -> None:
        self._closed = closed
        self._exact = {name: self._translated(schema) for name, schema in definitions.items()}
        self._native = _natively(self._exact)

    def exact(self, schema: dict[str, Json]) -> dict[str, Json]:
        """The schema as JSON Schema with all that it may refer to."""
        return {**self._translated(schema), "definitions": self._exact}

    def native(self, schema: dict[str, Json]) -> dict[str, Json]:
        """The same with the contract's formats spelled out, so that no Python runs during a check."""
        return {**_natively(self._translated(schema)), "definitions": self._native}

    def _translated(self, schema: dict[str, Json]) -> dict[str, Json]:
        translated = json_schema(schema)
        return _closed(translated) if self._closed else translated


class ResponseValidator:
    """The compiled check of one schema; a response without a schema has a body of nothing."""

    def __init__(self, schema: dict[str, Json] | None, definitions: Definitions) -> None:
        self.schema = schema
        self.expects_body = schema is not None
        if schema is not None:
            self._compiled = jsonschema_rs.Draft4Validator(definitions.native(schema), validate_formats=True)
            self._exact = jsonschema_rs.Draft4Validator(
                definitions.exact(schema), formats=dict(RESPONSE_TEXT_FORMATS), validate_formats=True
            )

    def check(self, value: Json, *, may_hold_nan: bool = True) -> Violation | None:
        """Return the first violation of a value, or None.

        jsonschema-rs and orjson both take NaN for null. A caller that knows of no null in the serialised value
        passes `may_hold_nan=False` and saves a walk through all of it.
        """
        try:
            if not self._compiled.is_valid(value):
                error = next(self._exact.iter_errors(value), None)
                if error is not None:
                    return Violation(pointer(*error.instance_path), error.kind.name)
            return non_finite(value) if may_hold_nan else None
        except (ValueError, RecursionError):  # a value that is no JSON at all, such as a key that is not text
            return Violation("", "json")


def _closed(schema: Json) -> Any:
    """The schema with objects that have no members but those it names; an object of no named members stays open."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        key: {name: _closed(part) for name, part in value.items()}
        if key in ("properties", "definitions")
        else _closed(value)
        for key, value in schema.items()
    }
    if closed.get("properties"):
        closed["additionalProperties"] = False
    return closed


UUID_PATTERN = r"^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
# What `is_utc_time` and `is_uuid` take, as text patterns: asking a Python function about two times takes as long as all
# the rest of a check. The format beside the pattern knows the days of a month.
_PATTERNS = {
    "date-time": r"^(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}"
    r"T[0-9]{2}:[0-9]{2}:[0-5][0-9](?:\.[0-9]{1,9})?Z$",
    "uuid": UUID_PATTERN,
}


def _natively(schema: Json) -> Any:
    if isinstance(schema, list):
        return [_natively(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: _natively(value) for key, value in schema.items()}
    form = told.get("format")
    if isinstance(form, str) and form in _PATTERNS:
        if "pattern" in told:
            told["allOf"] = [*told.get("allOf", ()), {"pattern": _PATTERNS[form]}]
        else:
            told["pattern"] = _PATTERNS[form]
    return told


# A float in a pickle is this letter and 8 bytes, the highest first; without a finite value its exponent is all ones.
_PERHAPS_NON_FINITE = re.compile(rb"G[\x7f\xff][\xf0-\xff]")
_PICKLE_PROTOCOL = 4


def non_finite(value: Json) -> Violation | None:
    """Find a number that JSON cannot hold.

    Walking through a large value takes longer than all other checks together. Pickling it walks in C, and what is not
    in the pickle is not in the value; other bytes may look the same, so the walk has the last word.
    """
    try:
        if _PERHAPS_NON_FINITE.search(_pickled(value)) is None:
            return None
    except Exception:  # whatever an object that is no JSON raises: the walk steps over it
        log.debug("a value cannot be pickled", exc_info=True)
    found = next(_non_finite_places(value, ()), None)
    return None if found is None else Violation(pointer(*found), "finite")


def _pickled(value: Json) -> memoryview:
    written = io.BytesIO()
    pickler = pickle.Pickler(written, _PICKLE_PROTOCOL)
    pickler.fast = True  # no memory of what was written already: refuses a value that holds itself
    pickler.dump(value)
    return written.getbuffer()


def _non_finite_places(value: Json, place: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, float):
        if not math.isfinite(value):
            yield place
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _non_finite_places(item, (*place, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _non_finite_places(item, (*place, index))


class ResponseValidators:
    """Every declared response of every operation, compiled; equal schemas share one validator.

    `closed` as for `Definitions`.
    """

    def __init__(self, contract: Contract, *, closed: bool = False) -> None:
        self._definitions = Definitions(contract.document["definitions"], closed=closed)
        self._shared: dict[str, ResponseValidator] = {}
        self._by_operation: dict[str, dict[str, ResponseValidator]] = {
            operation_id: {
                status: self._validator(response.get("schema"))
                for status, response in operation.spec["responses"].items()
            }
            for operation_id, operation in contract.operations.items()
        }
        self.error = self._validator({"$ref": "#/definitions/Error"})
        self.nothing = self._validator(None)

    def find(self, operation_id: str, status: int) -> ResponseValidator | None:
        """The validator of a declared status; `default` covers the rest, and None says there is no such."""
        declared = self._by_operation[operation_id]
        return declared.get(str(status)) or declared.get("default")

    def _validator(self, schema: dict[str, Json] | None) -> ResponseValidator:
        key = repr(schema)
        if key not in self._shared:
            self._shared[key] = ResponseValidator(schema, self._definitions)
        return self._shared[key]


@functools.lru_cache(maxsize=4)
def closed_validators(contract: Contract) -> ResponseValidators:
    """The validators that refuse a member that the contract does not name, compiled once."""
    return ResponseValidators(contract, closed=True)


def json_schema(schema: dict[str, Json]) -> dict[str, Json]:
    """Translate a Swagger 2.0 schema object into JSON Schema draft 4.

    `x-nullable` becomes a null among types and values, the number format `int64` becomes bounds, the members of
    `x-further`, which a few responses have and the public contract does not name, become properties, and what does not
    judge (descriptions, examples) is left out.
    """
    if "discriminator" in schema:
        raise InvalidContract("", "", "discriminator is not supported by the compiled validators")
    translated = {key: value for key, value in schema.items() if key in _KEPT}
    if schema.get("type") in ("integer", "number") and schema.get("format") == "int64":
        translated.setdefault("minimum", MIN_INT64)
        translated.setdefault("maximum", MAX_INT64)
    if schema.get("x-nullable"):
        translated["type"] = [schema["type"], "null"]
        if "enum" in schema:
            translated["enum"] = [*schema["enum"], None]
    if "properties" in schema:
        members = {**schema["properties"], **schema.get("x-further", {})}
        translated["properties"] = {name: json_schema(body) for name, body in members.items()}
    if isinstance(schema.get("additionalProperties"), dict):
        translated["additionalProperties"] = json_schema(schema["additionalProperties"])
    elif "additionalProperties" in schema:
        translated["additionalProperties"] = schema["additionalProperties"]
    if "items" in schema:
        translated["items"] = json_schema(schema["items"])
    # Swagger 2.0 has no oneOf; the shapes of the services' responses do.
    for keyword in {"allOf", "oneOf"} & schema.keys():
        translated[keyword] = [json_schema(part) for part in schema[keyword]]
    return translated
