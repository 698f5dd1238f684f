"""How a mistake in a request is told: a phrase in `messages`, and one sentence in `message`."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jsonschema import Draft4Validator

from optimizely_api.contract import load
from optimizely_api.contract.formats import EXPECTED, MAX_ID
from optimizely_api.contract.violations import _PHRASES, phrase, sentence
from tests.contract.conftest import assert_error

App = Callable[..., Any]
QUERY = {"in": "query", "name": "x"}
ID = {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID}


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ({**QUERY, "type": "integer"}, "abc", "must be an integer"),
        ({**QUERY, "type": "boolean"}, "abc", "must be a boolean"),
        ({**QUERY, "type": "integer"}, [1, 2], "must be given once"),
        ({"type": "string"}, 7, "is not of type 'string'"),
        ({"type": ["string", "null"]}, 7, "is not of type 'string', 'null'"),
        ({"minimum": 1}, 0, "must be at least 1"),
        ({"maximum": 100}, 101, "must be at most 100"),
        ({"minimum": 0, "exclusiveMinimum": True}, 0, "must be more than 0"),
        ({"maximum": 1, "exclusiveMaximum": True}, 1, "must be less than 1"),
        ({"multipleOf": 5}, 7, "must be a multiple of 5"),
        (ID, 10**20, f"must be an id: a whole number from 1 to {MAX_ID}"),
        (ID, 0, f"must be an id: a whole number from 1 to {MAX_ID}"),
        ({"minLength": 1}, "", "must have at least 1 character"),
        ({"maxLength": 3}, "abcd", "must have at most 3 characters"),
        ({"minItems": 1}, [], "must have at least 1 entry"),
        ({"maxItems": 2}, [1, 2, 3], "must have at most 2 entries"),
        ({"uniqueItems": True}, [1, 1], "must not have the same entry twice"),
        ({"minProperties": 1}, {}, "must have at least 1 member"),
        ({"maxProperties": 1}, {"a": 1, "b": 2}, "must have at most 1 member"),
        ({"additionalProperties": False}, {"a": 1}, "has a member that the contract does not know"),
        ({"pattern": "^a$"}, "b", "must match ^a$"),
        ({"pattern": "^a$", "x-expected": "an a"}, "b", "must be an a"),
        ({"enum": ["a", "b"]}, "c", "must be one of a, b"),
        ({"required": ["name"]}, {}, "is required"),
        ({"not": {"type": "string"}}, "a", "breaks the contract's not"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_each_keyword_has_its_phrase(schema: Any, value: Any, said: str) -> None:
    (error,) = Draft4Validator(schema).iter_errors(value)
    assert phrase(error) == said


@pytest.mark.parametrize(
    ("place", "said", "value", "whole"),
    [
        ("/query/per_page", "must be at most 100", 1000, "per_page must be at most 100, not 1000."),
        ("/query/page", "must be at least 1", -1, "page must be at least 1, not -1."),
        (
            "/path/project_id",
            "must be an id",
            10**19,
            "project_id must be an id, not a number of 20 digits.",
        ),
        ("/path/id", "must be an id", 10**399, "id must be an id, not a number of 400 or more digits."),
        ("/query/page", "must be an integer", "secret", "page must be an integer."),
        ("/query/archived", "must be a boolean", True, "archived must be a boolean."),
        ("/query/filter/1", "must match ^a$", "b", "filter[1] must match ^a$."),
        ("/body/toys/2/size", "is required", {}, "toys[2].size is required."),
        ("/body/a~1b~0c", "is required", {}, "a/b~c is required."),
        ("/body", "must be JSON", None, "The body must be JSON."),
        ("/query", "must be UTF-8", None, "The query must be UTF-8."),
    ],
)
def test_the_sentence_names_the_parameter_and_repeats_numbers_only(
    place: str, said: str, value: Any, whole: str
) -> None:
    assert sentence(place, said, value) == whole


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/v2/projects?per_page=1000", "per_page must be at most 100, not 1000."),
        ("/v2/projects?page=0&per_page=0", "per_page must be at least 1, not 0."),
        ("/v2/projects?page=hunter2", "page must be an integer."),
        ("/v2/projects?page=%ff", "The query must be UTF-8, percent-encoded."),
        ("/v2/%ff", "The path must be UTF-8, percent-encoded."),
        ("/v2/events", "project_id is required."),
        ("/v2/experiments?include_classic=x", "include_classic must be a boolean."),
        ("/v2/experiments/1/results?browser=lynx", "browser must be one of firefox, chrome, "),
        ("/v2/experiments/1/results?start_time=x", "start_time must be a time such as "),
        ("/v2/projects?filter=x", "filter[0] must be a field and a value, such as status:active, "),
        (f"/v2/projects/{'9' * 20}", f"an id: a whole number from 1 to {MAX_ID}, not a number of 20 digits."),
        (
            f"/v2/projects/{'9' * 500}",
            f"a whole number from 1 to {MAX_ID}, not a number of 400 or more digits.",
        ),
        (
            f"/v2/experiments/1/results?baseline_variation_id={'9' * 20}",
            f"a whole number from 1 to {MAX_ID}.",
        ),
    ],
)
def test_400_names_the_first_mistake_in_its_message(app_with: App, address: str, message: str) -> None:
    body = assert_error(app_with().get(address, expect_errors=True), 400, "bad_request")
    assert message in body["message"]
    assert body["messages"]


def keywords(schema: Any) -> Iterator[tuple[str, Any]]:
    """(keyword, the schema it stands in) of all that restricts a parameter."""
    for key, value in schema.items():
        if key in (*_PHRASES, "type"):
            yield key, schema
        if key == "items":
            yield from keywords(value)


PARAMETERS = [
    (operation.operation_id, parameter)
    for operation in load().operations.values()
    for parameter in operation.spec["parameters"]
    if parameter["in"] != "body"
]


@pytest.mark.parametrize(("operation_id", "parameter"), PARAMETERS, ids=lambda value: str(value)[:40])
def test_every_restriction_of_every_parameter_has_a_phrase_in_a_callers_words(
    operation_id: str, parameter: Any
) -> None:
    known = {
        *_PHRASES,
        "type",
        "allowEmptyValue",
        "items",
        "in",
        "name",
        "description",
        "default",
        "example",
        "collectionFormat",
    }
    assert {key for key in parameter if not key.startswith("x-")} <= known
    for keyword, schema in keywords(parameter):
        # A regular expression is nobody's words: beside it stands what fits it, or a format.
        assert keyword != "pattern" or "x-expected" in schema or schema.get("format") in EXPECTED


def test_a_parameter_that_the_contract_does_not_know_is_no_mistake(app_with: App) -> None:
    app = app_with(list_projects=lambda request: [])
    assert app.get("/v2/projects?newer=1;2&page=1").json == []
