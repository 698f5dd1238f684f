"""Compiled response validation agrees with bravado-core's, and where it does not, on purpose."""

import copy
import datetime
import functools
import math
import random
import uuid
from typing import Any

import pytest
from bravado_core.exception import SwaggerValidationError
from bravado_core.formatter import SwaggerFormat
from bravado_core.spec import Spec
from bravado_core.validate import validate_schema_object
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import ValidationError

from optimizely_api.contract import InvalidContract, ResponseValidators, load
from optimizely_api.contract.formats import MAX_ID, MAX_INT64, MIN_INT64, RESPONSE_TEXT_FORMATS
from optimizely_api.contract.load import resolve
from optimizely_api.contract.validators import Definitions, ResponseValidator, Violation, json_schema
from tests.conftest import WHOLE

pytestmark = pytest.mark.filterwarnings(
    "ignore:Accessing Validator.resolver is deprecated"
)  # by bravado-core

DOCUMENT = load().document
VALIDATORS = ResponseValidators(load())
RESPONSES = {
    f"{name}-{status}": (name, int(status) if status.isdigit() else 500, response["schema"])
    for name, operation in load().operations.items()
    for status, response in operation.spec["responses"].items()
    if "schema" in response and status in ("200", "default")
}


@functools.cache
def compiled(definition: str) -> ResponseValidator:
    return ResponseValidator({"$ref": f"#/definitions/{definition}"}, Definitions(DOCUMENT["definitions"]))


# ---- bravado-core, with the same formats


def swagger_format(name: str, fits: Any) -> SwaggerFormat:
    def validate(value: Any) -> None:
        if not fits(value):
            raise SwaggerValidationError(name)

    return SwaggerFormat(name, lambda value: value, lambda value: value, validate, name)


def of_text(check: Any) -> Any:
    return lambda value: not isinstance(value, str) or check(value)


def is_int64(value: Any) -> bool:
    return type(value) not in (int, float) or MIN_INT64 <= value <= MAX_INT64


FORMATS = [swagger_format(name, of_text(check)) for name, check in RESPONSE_TEXT_FORMATS.items()]
SPEC = Spec.from_dict(
    copy.deepcopy(DOCUMENT),  # bravado-core leaves notes in what it reads
    config={
        "use_models": False,
        "validate_swagger_spec": False,
        "formats": [*FORMATS, swagger_format("int64", is_int64)],
    },
)


def bravado_accepts(schema: Any, value: Any) -> bool:
    try:
        validate_schema_object(SPEC, schema, value)
    except ValidationError:
        return False
    return True


# ---- documents made from the schemas, and spoilt

ODD_VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        100,
        10_000,
        10_001,
        MAX_ID,
        MAX_ID + 1,
        MAX_INT64,
        MAX_INT64 + 1,
        MIN_INT64,
        MIN_INT64 - 1,
    ),
    *(2**64, 10**400, -0.0, 0.0, 0.5, 1.0, 1.5, 2.0**53, 1e300, 5e-324),
    *(
        "",
        "x",
        "1",
        "a" * 64,
        "a" * 65,
        "é" * 64,
        "a-b_c",
        "a b",
        "null",
        "active",
        "web",
        "running",
        "relative",
    ),
    *(
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.25Z",
        "2026-01-31T12:00:00+00:00",
        "2026-01-31",
        "2026-02-30T12:00:00Z",
    ),
    *("2026-01-31T24:00:00Z", "2026-01-31t12:00:00z", "20260131T120000Z", "now", "2026-01-31T12:00:60Z"),
    *(
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "0F8FAD5B-D9CB-469F-A165-70867728950E",
        "0f8fad5bd9cb469fa16570867728950e",
        "{0f8fad5b}",
    ),
    *(
        [],
        [None],
        [1],
        ["x"],
        [[]],
        {},
        {"a": None},
        {"name": 1},
        {"": {}},
        {"value": "x", "type": "custom_css"},
    ),
    datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC),
]
FITTING = {  # format or pattern -> texts of it
    None: ["", "x", "Grün", "a" * 300, "2026-01-31", "null"],
    "date-time": ["2026-01-31T12:00:00Z", "1999-12-31T23:59:59.999999Z"],
    "uuid": ["0f8fad5b-d9cb-469f-a165-70867728950e"],
    "url": ["https://shop.example/"],
    "email": ["ada@shop.example"],
    r"^[a-zA-Z0-9_]+$": ["checkout", "A_1"],
    r"^[a-zA-Z0-9_\-]+$": ["green_button-2", "-", "k" * 64],
    r"^[a-zA-Z0-9_\- .]+$": ["plan", "a b.c-d_1"],
    r"^[-_0-9A-Za-z]+$": ["production", "a-1"],
    r"^\d+$": ["7", "10000000001"],
    r"^\d{4}-\d{2}-\d{2}$": ["2026-02-01"],
    r"^\d{4}-\d{2}-\d{2}": ["2026-02-01"],
    r"^[0-9]{1,16}$": ["7", "10000000001"],
    r"^[A-Za-z\-\_\/]+$": ["UTC", "Europe/Amsterdam"],
    r"^\d{4}-\d{2}-\d{2}(T\d{2}(:\d{2}(:00(.000)?)?)?((Z)?))?$": [
        "2026-02-01",
        "2026-02-01T08",
        "2026-02-01T08:00:00.000Z",
    ],
}
DEEPEST = 6


def fitting(schema: Any, chance: random.Random, depth: int = 0) -> Any:
    """A value that fits a schema; the deeper, the fewer optional properties it has."""
    schema = resolve(DOCUMENT, schema)
    if schema.get("x-nullable") and chance.random() < 0.3:
        return None
    if "enum" in schema:
        return chance.choice(schema["enum"])
    match schema.get("type"):
        case None:
            return copy.deepcopy(chance.choice(ODD_VALUES))
        case "object":
            return _fitting_object(schema, chance, depth)
        case "array":
            return [fitting(schema["items"], chance, depth + 1) for _ in range(chance.randint(0, 2))]
        case "boolean":
            return chance.random() < 0.5
        case "integer":
            least, most = schema.get("minimum", MIN_INT64), schema.get("maximum", MAX_INT64)
            return chance.choice([least, most, chance.randint(least, most)])
        case "number":
            least, most = schema.get("minimum", -1e9), schema.get("maximum", 1e9)
            return chance.choice([least, most, chance.uniform(least, most)])
        case "string":
            texts = FITTING[schema.get("pattern", schema.get("format"))]
            least, most = schema.get("minLength", 0), schema.get("maxLength", MAX_ID)
            return chance.choice([text for text in texts if least <= len(text) <= most])
    raise AssertionError(schema["type"])


def _fitting_object(schema: Any, chance: random.Random, depth: int) -> dict[str, Any]:
    share = 0.7 if depth < 2 else 0.3 if depth < DEEPEST else 0
    required = schema.get("required", ())
    properties = [
        name for name in schema.get("properties", {}) if name in required or chance.random() < share
    ]
    value = {name: fitting(schema["properties"][name], chance, depth + 1) for name in properties}
    more = schema.get("additionalProperties", True)
    if more is True:
        more = {"type": "string"}
    if chance.random() < share:
        value[str(chance.randint(1, MAX_ID))] = fitting(more, chance, depth + 1)
    return value


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [(node, key) for key in keys] + [place for key in keys for place in places(node[key])]


def spoilt(schema: Any, chance: random.Random) -> Any:
    """A fitting document in which up to two places were replaced, removed or added to."""
    root = [fitting(schema, chance)]
    for _ in range(chance.randint(0, 2)):
        container, key = chance.choice(places(root))
        how = chance.choice(["replace", "replace", "remove", "add"])
        if how == "remove" and container is not root:
            del container[key]
        elif how == "add" and isinstance(container[key], dict):
            container[key][chance.choice(["new", "name", "variation_id", "value"])] = copy.deepcopy(
                chance.choice(ODD_VALUES)
            )
        else:
            container[key] = copy.deepcopy(chance.choice(ODD_VALUES))
    return root[0]


SEEDS = st.integers(0, 2**63)  # a failing one is printed
EXAMPLES = 200 if WHOLE else 60


@pytest.mark.parametrize("response", RESPONSES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=SEEDS)
def test_it_agrees_with_bravado_core_on_every_response(response: str, seed: int) -> None:
    name, status, schema = RESPONSES[response]
    value = spoilt(schema, random.Random(seed))
    validator = VALIDATORS.find(name, status)
    assert validator is not None
    assert (validator.check(value) is None) == bravado_accepts(schema, value), value


@pytest.mark.parametrize("definition", DOCUMENT["definitions"])
@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=SEEDS)
def test_it_agrees_with_bravado_core_on_every_definition(definition: str, seed: int) -> None:
    schema = {"$ref": f"#/definitions/{definition}"}
    value = spoilt(schema, random.Random(seed))
    assert (compiled(definition).check(value) is None) == bravado_accepts(schema, value), value


@pytest.mark.parametrize("definition", DOCUMENT["definitions"])
def test_the_comparison_sees_both_kinds_of_documents(definition: str) -> None:
    chance = random.Random(definition)
    schema = {"$ref": f"#/definitions/{definition}"}
    assert all(compiled(definition).check(fitting(schema, chance)) is None for _ in range(50))
    accepted = sum(compiled(definition).check(spoilt(schema, chance)) is None for _ in range(200))
    assert 20 < accepted < 180


# ---- where it is stricter, or laxer, on purpose


@pytest.mark.parametrize(
    ("definition", "value"),
    [
        pytest.param("StatsConfig", {"confidence_level": math.nan}, id="NaN"),
        pytest.param("StatsConfig", {"confidence_level": math.inf}, id="infinity"),
        pytest.param(
            "Change", {"type": "extension", "config": {"size": -math.inf}}, id="infinity where anything goes"
        ),
        pytest.param(
            "Experiment", {"project_id": 1, "key": "green\n"}, id="line feed before the end of a pattern"
        ),
        pytest.param(
            "Schedule",
            {"start_time": "\u0662\u0660\u0662\u0666-\u0660\u0661-\u0663\u0661"},
            id="digits of another script",
        ),
        pytest.param("Project", {"name": "x", 1: 2}, id="key that is not text"),
    ],
)
def test_it_refuses_what_bravado_core_accepts_and_json_cannot_say(definition: str, value: Any) -> None:
    assert bravado_accepts({"$ref": f"#/definitions/{definition}"}, value)
    assert compiled(definition).check(value) is not None


def test_nan_is_found_where_the_schema_does_not_look() -> None:
    """orjson would write it as null."""
    value = {"type": "extension", "config": {"sizes": [1, math.nan]}}
    assert compiled("Change").check(value) == Violation("/config/sizes/1", "finite")
    assert compiled("Change").check(value, may_hold_nan=False) is None


def test_a_value_that_holds_itself_is_refused() -> None:
    value: dict[str, Any] = {"type": "extension", "config": {}}
    value["config"]["again"] = value
    assert compiled("Change").check(value) == Violation("", "json")


def test_a_tuple_is_an_array_as_it_will_be_in_json() -> None:
    value = {"confidence_interval": (0.1, 0.2)}
    assert not bravado_accepts({"$ref": "#/definitions/Datapoint"}, value)
    assert compiled("Datapoint").check(value) is None


# ---- what a violation says


@pytest.mark.parametrize(
    ("value", "pointer", "keyword"),
    [
        pytest.param([{"id": 1}], "/0", "required", id="missing property"),
        pytest.param([{"name": "x"}, {"name": 7}], "/1/name", "type", id="wrong type"),
        pytest.param([{"name": "x", "platform": "secret"}], "/0/platform", "enum", id="unknown value"),
        pytest.param([{"name": "x", "id": 2**53}], "/0/id", "maximum", id="id that JSON readers round"),
        pytest.param(
            [{"name": "x", "confidence_threshold": 0.2}], "/0/confidence_threshold", "minimum", id="too small"
        ),
        pytest.param([{"name": "x", "created": "2026-01-31"}], "/0/created", "format", id="no time"),
        pytest.param(
            [{"name": "x", "web_snippet": {"ip_filter": None}}], "/0/web_snippet/ip_filter", "type", id="null"
        ),
        pytest.param({"name": "x"}, "", "type", id="no list"),
    ],
)
def test_a_violation_says_where_and_which_keyword(value: Any, pointer: str, keyword: str) -> None:
    validator = VALIDATORS.find("list_projects", 200)
    assert validator is not None
    assert validator.check(value) == Violation(pointer, keyword)


def test_null_is_allowed_only_where_the_contract_says_so() -> None:
    validator = VALIDATORS.find("get_project", 200)
    assert validator is not None
    assert validator.check({"name": "x", "third_party_platform": None}) is None
    assert validator.check({"name": "x", "platform": None}) == Violation("/platform", "type")


@pytest.mark.parametrize("status", [400, 404, 418, 429, 500, 599])
def test_every_error_status_is_an_error(status: int) -> None:
    assert VALIDATORS.find("get_project", status) is VALIDATORS.error


@pytest.mark.parametrize("status", [202, 204])
def test_results_that_are_not_there_yet_have_no_body(status: int) -> None:
    validator = VALIDATORS.find("get_experiment_results", status)
    assert validator is not None
    assert not validator.expects_body


def test_equal_schemas_are_compiled_once() -> None:
    assert VALIDATORS.find("list_projects", 401) is VALIDATORS.find("get_event", 404)


def test_a_discriminator_would_not_be_ignored_in_silence() -> None:
    with pytest.raises(InvalidContract, match="discriminator"):
        json_schema({"type": "object", "discriminator": "kind"})


def _nearly(written: str, chance: random.Random) -> str:
    """The text, perhaps with one character of it replaced, left out or doubled."""
    place = chance.randrange(len(written) + 1)
    other = chance.choice(["", *"0159-:.TtZz+ \n\u0663\uff12", written[place : place + 1] * 2])
    return chance.choice([written, written[:place] + other + written[place + 1 :]])


def _a_time(chance: random.Random) -> str:
    year = chance.choice(["0000", "0001", "0400", "1900", "2023", "2024", "9999", "10000", "-001"])
    month, day, hour, minute, second = (chance.randint(0, most) for most in (13, 32, 25, 61, 61))
    rest = chance.choice(["Z", ".5Z", ".123456789Z", ".1234567890Z", ".Z", "z", "+00:00", ""])
    return f"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{rest}"


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS)
def test_formats_as_patterns_take_what_the_formats_take(seed: int) -> None:
    chance = random.Random(seed)
    texts = {
        "date-time": [_nearly(_a_time(chance), chance) for _ in range(100)],
        "uuid": [_nearly(str(uuid.UUID(int=chance.getrandbits(128))), chance) for _ in range(20)],
    }
    for form, candidates in texts.items():
        quick = ResponseValidator({"type": "string", "format": form}, Definitions({}))._compiled
        for text in candidates:
            assert quick.is_valid(text) == RESPONSE_TEXT_FORMATS[form](text), text
