"""Editors pick experiments and features in a content management system, from their browsers."""

import requests

from tests.support.whole_stack import Caller, Json
from tests.workflows.steps import halves, new_project, unique_conversions, visit

ORIGIN = "https://cms.example"


def test_an_editor_searches_while_typing_and_picks_a_variation(api: Caller) -> None:
    project = new_project(api, "custom")
    feature = api.post("/features", {"project_id": project["id"], "key": "headline_size"})
    body = {"project_id": project["id"], "key": "headline_test", "variations": halves("short", "long")}
    experiment = api.post("/experiments", body)
    api.post("/experiments", {"project_id": project["id"], "key": "unrelated"})

    query = {"type": ["experiment", "feature"], "project_id": project["id"]}
    for typed in ("head", "HEADLINE", "headline_"):
        rows = _from_browser(api, "/search", query=typed, **query)
        assert {(one["type"], one["id"]) for one in rows} == {
            ("feature", feature["id"]),
            ("experiment", experiment["id"]),
        }
    newest = _from_browser(api, "/search", query="", sort="last_modified", order="desc", **query)
    assert [one["key"] for one in newest] == ["unrelated", "headline_test", "headline_size"]

    picked = _from_browser(api, f"/experiments/{experiment['id']}")
    assert [one["key"] for one in picked["variations"]] == ["short", "long"]
    assert _from_browser(api, f"/features/{feature['id']}")["key"] == "headline_size"


def test_a_browser_may_call_every_address_with_a_token(api: Caller) -> None:
    wanted = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization, content-type, if-match",
    }
    preflight = requests.options(f"{api.url}/v2/experiments/1", headers=wanted, timeout=30)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
    assert {"authorization", "content-type", "if-match"} <= set(allowed)


def test_a_headline_test_from_an_editors_buttons(api: Caller) -> None:
    project = new_project(api, "web")
    page = api.post(
        "/pages", {"project_id": project["id"], "name": "Story", "edit_url": "https://news.example/story"}
    )
    click = api.post(
        f"/pages/{page['id']}/events", {"name": "Read", "event_type": "click", "config": {"selector": "h1"}}
    )
    headline = {"type": "attribute", "selector": "h1", "attributes": {"html": "Cats win"}}
    experiment = api.post(
        "/experiments",
        {
            "project_id": project["id"],
            "name": "Story",
            "page_ids": [page["id"]],
            "metrics": [unique_conversions(click)],
            "variations": [
                {"name": "Original", "weight": 5000},
                {"name": "Cats", "weight": 5000, "actions": [{"page_id": page["id"], "changes": [headline]}]},
            ],
        },
    )
    address = f"/experiments/{experiment['id']}"
    assert api.patch(address, {}, action="start")["status"] == "running"
    seen = visit(api, experiment, click, 60, project["account_id"])
    assert api.patch(address, {}, action="pause")["status"] == "paused"
    results = _from_browser(api, f"{address}/results")
    found = {key: (one["samples"], one["value"]) for key, one in results["metrics"][0]["results"].items()}
    assert found == seen


def _from_browser(api: Caller, path: str, **query: object) -> Json:
    response = api.send("GET", path, params=query, headers={"Origin": ORIGIN})
    assert response.status_code == 200, response.text
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    body: Json = response.json()
    return body
