"""A Web experiment that is kept in a repository and pushed by a script."""

import re
from typing import Any

from tests.support.whole_stack import Caller, Json
from tests.workflows.steps import history, new_project

REVENUE = {"aggregator": "sum", "field": "revenue", "scope": "visitor", "winning_direction": "increasing"}
ACTIONS = [
    {"type": "custom_code", "value": "window.isNew = true;"},
    {"type": "custom_css", "value": ".buy { color: green }"},
    {"type": "insert_html", "selector": ".buy", "operator": "after", "value": "<b>New</b>"},
    {"type": "attribute", "selector": ".buy", "attributes": {"class": "large"}},
]


def test_a_web_experiment_kept_in_a_repository(api: Caller) -> None:
    project = new_project(api, "web")
    page_id = _page(api, project)
    assert _page(api, project) == page_id  # by a second run

    body = _experiment(project, page_id)
    experiment = api.post("/experiments", body)
    address = f"/experiments/{experiment['id']}"
    assert experiment["page_ids"] == [page_id]
    assert [one["weight"] for one in experiment["variations"]] == [3333, 3333, 3334]
    assert experiment["metrics"] == [REVENUE]
    stored = {one["name"]: one["variation_id"] for one in experiment["variations"]}

    records = history(api, "experiment", experiment)
    assert api.patch(address, {**body, "variations": _pushed(body, stored)}) == experiment
    assert api.patch(address, experiment) == experiment
    assert history(api, "experiment", experiment) == records

    changed = api.patch(address, {"variations": _with_code(experiment, "window.isNew = 2;")})
    assert [one["variation_id"] for one in changed["variations"]] == list(stored.values())
    assert _code(changed) == "window.isNew = 2;"
    (newest, *older) = history(api, "experiment", experiment)
    assert older == records
    assert [one["property"] for one in newest["changes"]] == ["variations"]

    assert api.patch(address, {}, action="start")["status"] == "running"
    assert api.patch(address, {}, action="pause")["status"] == "paused"


def _page(api: Caller, project: Json) -> int:
    """Make the page, or go on with the one that is there: the id stands in the error."""
    body = {
        "project_id": project["id"],
        "key": "product_page",
        "name": "Product page",
        "edit_url": "https://shop.example/product",
    }
    response = api.send("POST", "/pages", json=body)
    if response.status_code == 201:
        return int(response.json()["id"])
    assert response.status_code == 400
    assert "already in use" in response.json()["message"]
    found = re.search(r"\(id: (\d+)\)", response.json()["message"])
    assert found
    return int(found.group(1))


def _experiment(project: Json, page_id: int) -> Json:
    changes = [
        {**change, "id": f"{number:08d}-0000-4000-8000-000000000000"} for number, change in enumerate(ACTIONS)
    ]
    actions: list[list[Json]] = [[], changes, changes[:1]]
    variations = [
        {"name": name, "weight": weight, "actions": [{"page_id": page_id, "changes": of}] if of else []}
        for name, weight, of in zip(("Original", "Green", "Code"), (3333, 3333, 3334), actions, strict=True)
    ]
    return {
        "project_id": project["id"],
        "name": "Buy button",
        "type": "a/b",
        "page_ids": [page_id],
        "variations": variations,
        "changes": [
            {
                "type": "custom_code",
                "value": "window.tested = true;",
                "id": "9" * 8 + "-0000-4000-8000-000000000000",
            }
        ],
        "schedule": {"time_zone": "Europe/Berlin"},
        "metrics": [REVENUE],
    }


def _pushed(body: Json, stored: dict[str, int]) -> list[Json]:
    return [{**variation, "variation_id": stored[variation["name"]]} for variation in body["variations"]]


def _code(experiment: Json) -> Any:
    return experiment["variations"][2]["actions"][0]["changes"][0]["value"]


def _with_code(experiment: Json, code: str) -> list[Json]:
    *others, last = experiment["variations"]
    (action,) = last["actions"]
    (change,) = action["changes"]
    return [*others, {**last, "actions": [{**action, "changes": [{**change, "value": code}]}]}]
