"""What a newcomer finds in the demo: something in every list, and an example of every request that works.

After `test_make_run.py`, which counts what there is before any test has written.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import requests

from optimizely_api.contract import load
from optimizely_api.contract.load import Operation
from optimizely_api.demo import story
from tests.system.conftest import Stack

pytestmark = pytest.mark.slow

OPERATIONS = load().operations
# What lists hold depends on the platform: the web has what changes pages, the others what code asks for.
ONLY_WEB = {"list_campaigns", "list_pages", "list_extensions", "list_list_attributes"}
ONLY_CODE = {"list_features"}
# What an operator must set up: a store of events, and files of a recommender.
NOT_SET_UP = {
    "get_enriched_events_export_credentials": 403,
    "get_recs_catalog_csv": 404,
    "get_recs_stats_csv": 404,
    "get_recs_output_csv": 404,
}


def is_list(operation: Operation) -> bool:
    answer = operation.spec["responses"].get("200", {}).get("schema", {})
    return operation.method == "GET" and answer.get("type") == "array"


LISTS = [operation for operation in OPERATIONS.values() if is_list(operation)]
READS = [operation for operation in OPERATIONS.values() if operation.method == "GET"]


def examples(operation: Operation, place: str) -> dict[str, Any]:
    parameters = operation.spec["parameters"]
    return {one["name"]: one["x-example"] for one in parameters if one["in"] == place and "x-example" in one}


def example_request(stack: Stack, operation: Operation, **chosen: Any) -> requests.Response:
    """Send the request that the contract's examples make; `chosen` are values of parameters in their place."""

    def values(place: str) -> dict[str, Any]:
        found = examples(operation, place)
        return {name: chosen.get(name, value) for name, value in found.items()}

    path = operation.path.format(**{name: quote(str(value)) for name, value in values("path").items()})
    return requests.request(
        operation.method,
        stack.url + path,
        params=values("query"),
        json=values("body").get("body"),
        headers={"Authorization": f"Bearer {stack.token}"},
        timeout=30,
    )


def demo_projects(stack: Stack) -> list[dict[str, Any]]:
    """The projects of the demo; other tests may have made more."""
    names = {project.name for project in story.PROJECTS}
    return [project for project in stack.get("/v2/projects").json() if project["name"] in names]


@pytest.mark.parametrize("name", OPERATIONS)
def test_everything_that_a_request_needs_has_an_example(name: str) -> None:
    missing = [
        one["name"]
        for one in OPERATIONS[name].spec["parameters"]
        if one.get("required") and "x-example" not in one
    ]
    assert missing == []


@pytest.mark.parametrize("operation", READS, ids=lambda operation: operation.operation_id)
def test_the_example_of_a_read_is_answered(stack: Stack, operation: Operation) -> None:
    response = example_request(stack, operation)
    assert response.status_code == NOT_SET_UP.get(operation.operation_id, 200), response.text
    if is_list(operation):
        assert response.json() != []


@pytest.mark.parametrize("operation", LISTS, ids=lambda operation: operation.operation_id)
def test_no_list_of_any_project_is_empty_where_its_platform_has_the_kind(
    stack: Stack, operation: Operation
) -> None:
    if "project_id" not in {**examples(operation, "path"), **examples(operation, "query")}:
        assert example_request(stack, operation).json() != []
        return
    for project in demo_projects(stack):
        excluded = ONLY_CODE if project["platform"] == "web" else ONLY_WEB
        found = example_request(stack, operation, project_id=project["id"]).json()
        assert bool(found) == (operation.operation_id not in excluded), project["name"]


def test_the_examples_of_writes_make_and_change_what_they_name(stack: Stack) -> None:
    """What is to be archived is only looked for: other tests read the demo too."""
    answers = {
        name: example_request(stack, operation)
        for method in ("POST", "PATCH")
        for name, operation in OPERATIONS.items()
        if operation.method == method
    }
    wrong = {
        name: answer.text
        for name, answer in answers.items()
        if answer.status_code != (201 if OPERATIONS[name].method == "POST" else 200)
    }
    assert wrong == {}
    reads = {operation.path: operation for operation in READS}
    for operation in OPERATIONS.values():
        if operation.method == "DELETE" and operation.path in reads:
            names = examples(operation, "path")
            assert example_request(stack, reads[operation.path], **names).status_code == 200


def test_changes_go_back_for_weeks_and_name_who_made_them(stack: Stack) -> None:
    for project in demo_projects(stack):
        changes = stack.get(f"/v2/changes?project_id={project['id']}&per_page=100").json()
        first = datetime.fromisoformat(changes[-1]["created"])
        assert datetime.now(UTC) - first > timedelta(days=20)
        assert {change["user"]["email"].partition("@")[2] for change in changes} <= {
            "fern-and-oak.example",
            "",
        }


def test_the_customers_of_results_are_those_of_the_attribute(stack: Stack) -> None:
    (shop, *_) = demo_projects(stack)
    attributes = stack.get(f"/v2/attributes?project_id={shop['id']}").json()
    (attribute,) = [one for one in attributes if one["key"] == "customer"]
    path = f"/v2/experiments/{stack.experiment_id}/results"
    whole = stack.get(path).json()["reach"]["total_count"]
    club = stack.get(f"{path}?attribute_id={attribute['id']}&attribute_value=club").json()["reach"][
        "total_count"
    ]
    assert 0 < club < whole / 2
