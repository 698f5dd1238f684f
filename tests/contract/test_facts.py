"""The contract says everything that is publicly known of the operations built so far.

`public_v2_contract.json` holds these facts: names, types, values and status codes of the public v2 API;
`public_v2_contract_later.json` those of operations that it got later.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimizely_api.contract import load
from optimizely_api.contract.composition import MISSING_PARTS
from optimizely_api.contract.load import resolve

FACTS: dict[str, Any] = json.loads(Path(__file__).with_name("public_v2_contract.json").read_text())
LATER: dict[str, Any] = json.loads(Path(__file__).with_name("public_v2_contract_later.json").read_text())
for part in LATER:
    FACTS[part] = {**FACTS[part], **LATER[part]}
CONTRACT = load()
DEFINITIONS = CONTRACT.document["definitions"]
# Properties that today's public API has, and that of the facts had not.
NEWER = {
    "Campaign": ("archived",),
    "Extension": ("experiment_count",),
    "Metric": ("display_title",),
    "Page": ("single_use",),
    "SearchResult": ("page_id",),
}
# What a response says of itself, where a part of it may be missing.
OWN_PROPERTIES = dict.fromkeys(
    ("CampaignResults", "ExperimentResults", "ExperimentResultsReport", "ExperimentTimeseries"),
    (MISSING_PARTS,),
)


def reached(schemas: list[Any]) -> set[str]:
    """The names of all definitions that facts lead to, directly or through others."""
    names: set[str] = set()
    while schemas:
        schema = schemas.pop()
        for name in set(named(schema)) - names:
            names.add(name)
            schemas.append(FACTS["definitions"][name])
    return names


def named(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("ref"), str):
            yield schema["ref"]
        for value in schema.values():
            yield from named(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from named(item)


# The public API links to files without an operation for them; this one serves what `export_location` names.
OWN = {"get_sar_export"}
OPERATIONS = {name: FACTS["operations"][name] for name in CONTRACT.operations if name not in OWN}
REACHED = sorted(reached(list(OPERATIONS.values())))


def assert_states(fact: Any, schema: Any) -> None:
    """Every statement of the fact is made by the schema, which may say more."""
    if fact is None:
        assert schema is None
        return
    if "ref" in fact:
        assert schema == {"$ref": f"#/definitions/{fact['ref']}"}
        return
    for key, value in fact.items():
        if key in ("items", "schema"):
            assert_states(value, schema[key])
        elif key == "additionalProperties" and isinstance(value, dict):
            assert_states(value, schema["additionalProperties"])
        elif key == "properties":
            for name, body in value.items():
                assert_states(body, schema["properties"][name])
        elif key in ("enum", "required") and isinstance(value, list):
            assert sorted(schema[key]) == sorted(value)
        elif value is not False:
            assert schema.get(key) == value, key
        else:
            assert schema.get(key, False) is False, key


def test_all_operations_of_the_first_step_are_there() -> None:
    assert OPERATIONS.keys() >= {
        *("list_projects", "get_project", "list_events", "get_event"),
        *("list_campaigns", "get_campaign", "get_campaign_results"),
        *("list_experiments", "get_experiment", "get_experiment_results"),
    }


def test_the_base_path_is_the_public_one() -> None:
    assert CONTRACT.base_path == FACTS["basePath"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_operation_has_its_method_path_tag_and_release_state(name: str) -> None:
    fact, operation = OPERATIONS[name], CONTRACT.operations[name]
    assert (operation.method, operation.path) == (fact["method"], FACTS["basePath"] + fact["path"])
    assert fact["tag"] in operation.spec["tags"]
    assert operation.spec["x-release-state"] == fact["release_state"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_operation_takes_all_known_parameters_and_no_others(name: str) -> None:
    parameters = {(item["name"], item["in"]): item for item in CONTRACT.operations[name].spec["parameters"]}
    facts = {(item["name"], item["in"]): item for item in OPERATIONS[name]["parameters"]}
    # Ours: a filter that every list of entities that can be archived takes, and what makes repeating a POST safe.
    ours = {("archived", "query"), ("Idempotency-Key", "header")}
    if name == "get_bucketing_history":
        ours |= {("page", "query"), ("per_page", "query")}  # a visitor may be in any number of experiments
    assert parameters.keys() - ours == facts.keys() - ours
    for key, fact in facts.items():
        assert_states(fact, parameters[key])


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_operation_declares_all_known_responses(name: str) -> None:
    responses = CONTRACT.operations[name].spec["responses"]
    for status, fact in OPERATIONS[name]["responses"].items():
        # A known error without a known body has the body of all errors.
        assert_states(
            {"ref": "Error"} if fact is None and status >= "400" else fact, responses[status].get("schema")
        )


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_failure_a_caller_can_meet_is_declared_as_an_error(name: str) -> None:
    responses = CONTRACT.operations[name].spec["responses"]
    met = {"400", "401", "502", "503", "504", "default"}
    named = {item["name"] for item in CONTRACT.operations[name].spec["parameters"]}
    met |= {"403", "404"} if any(item.endswith("_id") for item in named) else set()
    met |= {"413", "415"} if "body" in named else set()
    met |= {"403"} if "body" in named else set()
    assert responses.keys() >= met
    for status in met:
        assert resolve(CONTRACT.document, responses[status])["schema"] == {"$ref": "#/definitions/Error"}


@pytest.mark.parametrize("name", REACHED)
def test_the_definition_has_all_known_properties(name: str) -> None:
    fact, definition = FACTS["definitions"][name], DEFINITIONS[name]
    assert_states({key: value for key, value in fact.items() if key != "required"}, definition)
    if fact.get("required"):
        assert sorted(definition["required"]) == sorted(fact["required"])


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_the_definition_has_no_property_of_our_own_making(name: str) -> None:
    known = {*FACTS["definitions"][name].get("properties", {}), *NEWER.get(name, ())}
    known |= {*OWN_PROPERTIES.get(name, ())}
    assert set(DEFINITIONS[name].get("properties", {})) == known
