"""The compiled check of bodies agrees with bravado-core's, and where it does not, on purpose.

Held against each other for every definition of the contract, and of the public API, whose writing operations have
bodies that the contract does not know yet.
"""

import copy
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from bravado_core.exception import SwaggerValidationError
from bravado_core.formatter import SwaggerFormat
from bravado_core.spec import Spec
from bravado_core.validate import validate_schema_object
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import ValidationError

from optimizely_api.contract import InvalidContract, load
from optimizely_api.contract.bodies import MAX_VIOLATIONS, BodyValidator, Definitions
from optimizely_api.contract.formats import MAX_ID, MAX_INT64, MIN_INT64, REQUEST_FORMATS
from optimizely_api.contract.load import is_read_only, resolve
from optimizely_api.http.strict_json import finish

pytestmark = pytest.mark.filterwarnings(
    "ignore:Accessing Validator.resolver is deprecated",  # by bravado-core
    "ignore:float format is not registered",
    "ignore:url format is not registered",
)

Json = Any
BODIES_PER_SEED = 25


def with_references(fact: Json) -> Json:
    """The facts name a definition where Swagger refers to it."""
    if isinstance(fact, list):
        return [with_references(item) for item in fact]
    if not isinstance(fact, dict):
        return fact
    if isinstance(fact.get("ref"), str):
        return {"$ref": f"#/definitions/{fact['ref']}"}
    return {key: with_references(value) for key, value in fact.items()}


# What neither the contract nor the facts have, or have in few places.
EDGES: dict[str, Json] = {
    "Edges": {
        "type": "object",
        "required": ["id", "key", "time"],
        "properties": {
            "id": {"type": "integer", "format": "int64", "readOnly": True},
            "key": {"type": "string", "minLength": 1, "maxLength": 6, "pattern": "^[a-z]+$"},
            "time": {"type": "string", "format": "date-time"},
            "day": {"type": "string", "format": "date"},
            "code": {"type": "string", "format": "int64"},
            "uuid": {"type": "string", "format": "uuid", "x-nullable": True},
            "share": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 1},
            "step": {"type": "integer", "multipleOf": 5, "maximum": 100, "exclusiveMaximum": True},
            "tags": {
                "type": "array",
                "minItems": 1,
                "maxItems": 3,
                "uniqueItems": True,
                "items": {"type": "string", "enum": ["a", "b", "c"]},
            },
            "kind": {"type": "string", "enum": ["x", "y"], "x-nullable": True},
            "times": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 2,
                "additionalProperties": {"type": "string", "format": "date-time"},
            },
            "inner": {"$ref": "#/definitions/Edges"},
            "both": {"$ref": "#/definitions/Both"},
        },
    },
    "Both": {
        "type": "object",
        "allOf": [
            {"$ref": "#/definitions/Part"},
            {"type": "object", "required": ["b"], "properties": {"b": {"type": "boolean"}}},
        ],
    },
    "Part": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "minimum": 1}}},
}


def document(definitions: Json) -> dict[str, Json]:
    return {"swagger": "2.0", "info": {"title": "x", "version": "1"}, "paths": {}, "definitions": definitions}


FACTS = json.loads(Path(__file__).with_name("public_v2_contract.json").read_text())["definitions"]
DOCUMENTS = {
    "contract": document(load().document["definitions"]),
    "facts": document({name: with_references(fact) for name, fact in FACTS.items()}),
    "edges": document(EDGES),
}
DEFINITIONS = [(source, name) for source, whole in DOCUMENTS.items() for name in whole["definitions"]]
VALIDATORS: dict[tuple[str, str], BodyValidator] = {}
for _source, _whole in DOCUMENTS.items():
    _definitions = Definitions(_whole)
    for _name in _whole["definitions"]:
        VALIDATORS[_source, _name] = BodyValidator({"$ref": f"#/definitions/{_name}"}, _definitions)


# ---- bravado-core, with the formats of requests


# Only responses hold addresses, so the checks of bodies know no such format; bravado-core would ask for an "@".
ANY_EMAIL = SwaggerFormat(
    format="email", to_python=str, to_wire=str, validate=lambda text: None, description="any text"
)


def strict_spec(whole: Json) -> Spec:
    return Spec.from_dict(
        copy.deepcopy(whole),  # bravado-core leaves notes in what it reads
        config={
            "use_models": False,
            "validate_swagger_spec": False,
            "formats": [*REQUEST_FORMATS, ANY_EMAIL],
        },
    )


def requiring_nothing_read_only(schema: Json) -> Json:
    """The schema without requiring what callers do not send: read-only members, and those under `x-optional`."""
    if isinstance(schema, list):
        return [requiring_nothing_read_only(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: requiring_nothing_read_only(value) for key, value in schema.items()}
    properties = schema.get("properties", {})
    if isinstance(schema.get("required"), list):
        optional = schema.get("x-optional", ())
        kept["required"] = [
            name
            for name in schema["required"]
            if name not in optional and not is_read_only(properties.get(name, {}))
        ]
        if not kept["required"]:
            del kept["required"]
    return kept


SPECS = {source: strict_spec(requiring_nothing_read_only(whole)) for source, whole in DOCUMENTS.items()}


def bravado_accepts(source: str, name: str, value: Json) -> bool:
    try:
        validate_schema_object(SPECS[source], {"$ref": f"#/definitions/{name}"}, value)
    except ValidationError:
        return False
    return True


def without_read_only(whole: Json, schema: Json, value: Json) -> Json:
    """The value with null in no read-only place: those members are left out, as if they had not been sent."""
    schema = resolve(whole, schema)
    for part in schema.get("allOf", ()):
        value = without_read_only(whole, part, value)
    if isinstance(value, dict):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties")
        return {
            key: without_read_only(whole, inner, item) if (inner := properties.get(key, more)) else item
            for key, item in value.items()
            if not is_read_only(properties.get(key, {}))
        }
    if isinstance(value, list) and "items" in schema:
        return [without_read_only(whole, schema["items"], item) for item in value]
    return value


# ---- where they differ, and why

_ANY_DIGIT = re.compile(r"[^\W\D]")  # of any script
_LEAP_SECOND_ELSEWHERE = re.compile(r":60(?:\.\d+)?[-+ ](?!00:?00|00$)\d\d:?(?:\d\d)?$")
DIFFERENCES: dict[str, tuple[str, Callable[[Json], bool]]] = {
    "line break": (
        "patterns follow ECMA-262, where $ is the very end; Python lets a line break follow",
        lambda value: isinstance(value, str) and value.endswith("\n"),
    ),
    "other digits": (
        r"patterns follow ECMA-262, where \d is one of ten digits; Python takes those of every script",
        lambda value: (
            isinstance(value, str) and any(not digit.isascii() for digit in _ANY_DIGIT.findall(value))
        ),
    ),
    "leap second": (
        "a leap second has no offset but UTC's: a pattern cannot convert it, and nobody writes one so",
        lambda value: isinstance(value, str) and _LEAP_SECOND_ELSEWHERE.search(value) is not None,
    ),
    "large number": (
        "a number of the format int64 is within 64 bits; the other format looks at whole numbers only",
        lambda value: isinstance(value, float) and not MIN_INT64 <= value <= MAX_INT64,
    ),
}
# Besides: read-only members are ignored here and judged there. They are left out before bravado-core sees a body.


def scalars(value: Json) -> list[Json]:
    if not isinstance(value, (dict, list)):
        return [value]
    inner = value.values() if isinstance(value, dict) else value
    return [scalar for item in inner for scalar in scalars(item)]


def difference(value: Json) -> str | None:
    """The name of the known difference that a body may show."""
    found = scalars(value)
    return next((name for name, (_, shows) in DIFFERENCES.items() if any(map(shows, found))), None)


# ---- bodies made from the schemas, and spoilt

ODD_VALUES: list[Json] = [
    *(None, True, False, 0, 1, -1, 2, 5, 100, 10_000, 10_001, MAX_ID, MAX_ID + 1, MAX_INT64, MIN_INT64),
    *(-0.0, 0.0, 0.5, 1.0, 5.0, 2.0**53, 1e300, 5e-324, -1e-9),
    *("", "x", "1", "0", "a" * 64, "a" * 65, "é" * 64, "a-b_c", "a b", "null", "active", "abc\n", "x\n"),
    *(str(MAX_ID), str(MAX_ID + 1), "0" * 16, "0" * 17, "-1", "\u0663", "\U0001d7d8", "\0", "a\0"),
    *("2026-01-31T12:00:00Z", "2026-01-31T12:00", "2026-01-31 12:00:00.25+02:00", "2026-01-31", "2026-02-30"),
    *("2026-01-31T24:00:00Z", "2026-01-31t12:00:00z", "20260131T120000Z", "1969-12-31", "9999-01-01"),
    *("2016-12-31T23:59:60Z", "2016-12-31T22:59:60-01:00", "2016-12-31T12:00:60Z", "202\u0666-01-31"),
    *("0f8fad5b-d9cb-469f-a165-70867728950e", "0F8FAD5B-D9CB-469F-A165-70867728950E", "{0f8fad5b}"),
    *([], [None], [1], [1, 1.0], ["a", "a"], ["x"], [[]], [{}] * 3),
    *({}, {"a": None}, {"name": 1}, {"": {}}, {"id": "x"}, {"value": "x", "type": "custom_css"}),
]
FITTING = {  # pattern or format -> texts of it
    r"^[0-9]{1,16}$": ["7", "10000000001"],
    None: ["", "x", "Grün", "a" * 300, "2026-01-31", "null"],
    "date-time": ["2026-01-31T12:00:00Z", "1999-12-31", "2028-02-29 23:59:59.999999+01:00"],
    "date": ["2026-01-31"],
    "int64": ["1", "9007199254740991"],
    "uuid": ["0f8fad5b-d9cb-469f-a165-70867728950e"],
    "url": ["https://shop.example/"],
    "email": ["ada@shop.example"],
    "^[a-z]+$": ["a", "abcdef"],
    "^[a-zA-Z0-9_]+$": ["checkout", "A_1"],
    r"^[a-zA-Z0-9_\-]+$": ["green_button-2", "-", "k" * 64],
    r"^[a-zA-Z0-9_\- .]+$": ["a b.c", "k" * 64],
    "^[-_0-9A-Za-z]+$": ["a-b"],
    r"^[A-Za-z\-\_\/]+$": ["UTC", "Europe/Amsterdam"],
    r"^\d{4}-\d{2}-\d{2}": ["2026-02-01"],
    r"^\d{4}-\d{2}-\d{2}(T\d{2}(:\d{2}(:00(.000)?)?)?((Z)?))?$": ["2026-02-01", "2026-02-01T08:00:00.000Z"],
}
DEEPEST = 5


class Examples:
    """Bodies that fit the definitions of a document."""

    def __init__(self, whole: Json, chance: random.Random) -> None:
        self.whole, self.chance = whole, chance

    def fitting(self, schema: Json, depth: int = 0) -> Json:
        chance = self.chance
        schema = resolve(self.whole, schema)
        if schema.get("x-nullable") and chance.random() < 0.3:
            return None
        if "allOf" in schema:
            return {key: item for part in schema["allOf"] for key, item in self.fitting(part, depth).items()}
        if "enum" in schema:
            return chance.choice(schema["enum"])
        match schema.get("type", "object"):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "boolean":
                return chance.random() < 0.5
            case "integer":
                step = schema.get("multipleOf", 1)
                least, most = schema.get("minimum", MIN_INT64), schema.get("maximum", MAX_INT64)
                value = chance.choice([least, most, chance.randint(least, most)])
                return value if step == 1 else chance.randrange(0, 100, step)
            case "number":
                least, most = schema.get("minimum", -1e9), schema.get("maximum", 1e9)
                return chance.choice([most, chance.uniform(least, most)])
            case _:
                known = FITTING[schema.get("pattern", schema.get("format"))]
                least, most = schema.get("minLength", 0), schema.get("maxLength", 1000)
                return chance.choice([text for text in known if least <= len(text) <= most])

    def _array(self, schema: Json, depth: int) -> list[Json]:
        least = schema.get("minItems", 0)
        count = self.chance.randint(least, max(least, min(2, 4 - depth)))
        found = [self.fitting(schema["items"], depth + 1) for _ in range(count)]
        return sorted(set(found)) if schema.get("uniqueItems") else found

    def _object(self, schema: Json, depth: int) -> dict[str, Json]:
        share = 0.5 if depth < 2 else 0.2 if depth < DEEPEST else 0
        required = schema.get("required", ())
        properties = schema.get("properties", {})
        optional = [name for name in properties if name not in required and self.chance.random() < share]
        if "maxProperties" in schema:
            optional = optional[: schema["maxProperties"] - len(required)]
        value = {name: self.fitting(properties[name], depth + 1) for name in (*required, *optional)}
        more = schema.get("additionalProperties")
        if isinstance(more, dict) and (self.chance.random() < share or "minProperties" in schema):
            value[str(self.chance.randint(1, MAX_ID))] = self.fitting(more, depth + 1)
        return value

    def spoilt(self, schema: Json) -> Json:
        """A fitting body in which up to two places were replaced, removed or added to."""
        chance, root = self.chance, [self.fitting(schema)]
        for _ in range(chance.randint(0, 2)):
            container, key = chance.choice(places(root))
            how = chance.choice(["replace", "replace", "edit", "remove", "add"])
            odd = copy.deepcopy(chance.choice(ODD_VALUES))
            if how == "remove" and container is not root:
                del container[key]
            elif how == "add" and isinstance(container[key], dict):
                container[key][chance.choice(["new", "name", "id", "variation_id", "value"])] = odd
            elif how == "edit" and isinstance(container[key], str):
                container[key] = self._edited(container[key])
            else:
                container[key] = odd
        return root[0]

    def _edited(self, text: str) -> str:
        place = self.chance.randrange(len(text) + 1)
        other = self.chance.choice(["", *"0159-:.TtZz+ \n\u0663\uff12é", text[place : place + 1] * 2, "60"])
        return text[:place] + other + text[place + 1 :]


def places(node: Json) -> list[tuple[Json, Any]]:
    """Every (container, key) of a body."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [(node, key) for key in keys] + [place for key in keys for place in places(node[key])]


# ---- the comparison


def compare(source: str, name: str, seed: int, counts: Counter[str]) -> None:
    """Hold some bodies of one definition against both; a failure names the body."""
    schema = {"$ref": f"#/definitions/{name}"}
    examples = Examples(DOCUMENTS[source], random.Random(f"{source} {name} {seed}"))
    validator = VALIDATORS[source, name]
    for _ in range(BODIES_PER_SEED):
        body = orjson.loads(orjson.dumps(examples.spoilt(schema)))
        accepted = validator.is_valid(body)
        assert accepted == (finish(validator.violations(body)) == []), body
        expected = bravado_accepts(source, name, without_read_only(DOCUMENTS[source], schema, body))
        counts["bodies"] += 1
        counts["valid" if accepted else "invalid"] += 1
        if accepted != expected:
            known = difference(body)
            assert known is not None, f"{source} {name}: {accepted} here: {body}"
            counts[known] += 1


@settings(max_examples=120, deadline=None, print_blob=True)
@given(definition=st.sampled_from(DEFINITIONS), seed=st.integers(0, 2**63))
def test_it_agrees_with_bravado_core(definition: tuple[str, str], seed: int) -> None:
    compare(*definition, seed, Counter())


@settings(max_examples=40, deadline=None, print_blob=True)
@given(seed=st.integers(0, 2**63))
def test_it_agrees_with_bravado_core_at_the_edges(seed: int) -> None:
    for name in EDGES:
        compare("edges", name, seed, Counter())


PARTS = 4
ROUNDS = 500_000 // (BODIES_PER_SEED * len(DEFINITIONS) * PARTS) + 1


@pytest.mark.whole
@pytest.mark.parametrize("part", range(PARTS))
def test_it_agrees_with_bravado_core_on_half_a_million_bodies(part: int) -> None:
    counts: Counter[str] = Counter()
    base = random.SystemRandom().randrange(2**32)
    for number in range(ROUNDS):
        for source, name in DEFINITIONS:
            compare(source, name, base + number, counts)
    print(f"part {part}, seed {base}: {dict(counts)}")
    assert counts["valid"] > counts["bodies"] / 4
    assert counts["invalid"] > counts["bodies"] / 4


def test_a_repetition_is_looked_for_among_few_entries_only() -> None:
    schema = {"type": "array", "uniqueItems": True, "maxItems": 500, "items": {"type": "integer"}}
    validator = BodyValidator(schema, Definitions({"definitions": {}}))
    assert [found.problem for found in finish(validator.violations([1, 1]))] == [
        "must not have the same entry twice"
    ]
    definitions = Definitions({"definitions": {"Many": {**schema, "maxItems": 501}}})
    BodyValidator(schema, definitions)  # that of a response need not say how many there may be
    with pytest.raises(InvalidContract, match="uniqueItems in a body needs maxItems of at most 500"):
        BodyValidator({"type": "array", "items": {"$ref": "#/definitions/Many"}}, definitions)


# ---- formats as patterns


def nearly_a_time(chance: random.Random) -> str:
    year = chance.choice(["0001", "1969", "1970", "2000", "2023", "2024", "2100", "9998", "9999", "10000"])
    month, day, hour, minute = (chance.randint(0, most) for most in (13, 32, 24, 60))
    seconds = chance.choice(["", f":{chance.randint(0, 61):02}", ".5", ":00.123456789", ":00."])
    offset = chance.choice(["", "Z", "z", "+01:00", "-0130", " 02", "+24:00", "+2"])
    time = chance.choice(["23:59:60", f"{hour:02}:{minute:02}{seconds}"])
    return f"{year}-{month:02}-{day:02}" + chance.choice(["", f"{chance.choice('Tt _')}{time}{offset}"])


def nearly_an_id(chance: random.Random) -> str:
    near = chance.choice([0, 10 ** chance.randrange(17), MAX_ID])
    return chance.choice(["", "0", "0" * 9]) + str(near + chance.randint(-20, 20))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**63))
def test_formats_as_patterns_take_what_the_formats_take(seed: int) -> None:
    chance = random.Random(seed)
    formats = {item.format: item for item in REQUEST_FORMATS}
    for name, make in (("date-time", nearly_a_time), ("int64", nearly_an_id)):
        compiled = BodyValidator({"type": "string", "format": name}, Definitions({"definitions": {}}))
        for text in (make(chance) for _ in range(100)):
            if compiled.is_valid(text) != fits(formats[name], text):
                assert DIFFERENCES["leap second"][1](text), text


def fits(swagger_format: SwaggerFormat, text: str) -> bool:
    try:
        swagger_format.validate(text)
    except SwaggerValidationError:
        return False
    return True


# ---- both ways of looking at a body find the same


def test_violations_are_listed_from_the_outside_in_up_to_a_limit() -> None:
    validator = VALIDATORS["edges", "Edges"]
    body = {"key": "A", "time": "2026-01-31", "inner": {"key": 1}, "times": {str(n): "" for n in range(100)}}
    found = finish(validator.violations(body))
    assert len(found) == MAX_VIOLATIONS
    assert [(item.pointer, item.problem) for item in found[:2]] == [
        ("/key", "must match ^[a-z]+$"),
        ("/times", "must have at most 2 members"),
    ]
