"""Attributes and audiences, kept as code by a provider that sends whole structures."""

from tests.support.whole_stack import Caller, Json
from tests.workflows.steps import attribute_is, conditions, history, new_project

ATTRIBUTES = ("plan", "country", "app_version")


def test_attributes_and_audiences_as_code(api: Caller) -> None:
    project = new_project(api, "custom")
    attributes = _applied_attributes(api, project)
    assert _applied_attributes(api, project) == attributes  # by a second run

    in_plan = conditions(attribute_is("plan", "gold"))
    audience = api.post("/audiences", {"project_id": project["id"], "name": "Gold", "conditions": in_plan})
    address = f"/audiences/{audience['id']}"
    whole = {
        **audience,
        "id": 0,
        "description": "",
        "created": "",
        "last_modified": "",
        "experiment_count": 0,
    }
    assert api.patch(address, whole) == audience
    changed = api.patch(address, {**whole, "description": "Those who pay"})
    assert changed["description"] == "Those who pay"
    assert {**changed, "description": "", "last_modified": ""} == {**audience, "last_modified": ""}
    records = history(api, "audience", audience)
    assert api.patch(address, {**whole, "description": "Those who pay"}) == changed
    assert history(api, "audience", audience) == records

    plan = attributes["plan"]
    api.delete(f"/attributes/{plan['id']}")
    assert api.get(f"/attributes/{plan['id']}")["archived"] is True
    assert api.patch(address, {"archived": True})["archived"] is True


def test_what_is_refused_says_why(api: Caller) -> None:
    project = new_project(api, "custom")
    attributes = _applied_attributes(api, project)
    body = {"project_id": project["id"], "name": "Who", "conditions": conditions(attribute_is("age", "9"))}
    unknown = api.post("/audiences", body, status=400)
    assert "Custom attribute 'age' does not exist" in unknown["message"]
    taken = api.post("/attributes", {"project_id": project["id"], "key": "plan"}, status=400)
    assert "already in use" in taken["message"]
    assert f"(id: {attributes['plan']['id']})" in taken["message"]


def _applied_attributes(api: Caller, project: Json) -> Json:
    """All attributes by their keys, those that were missing made."""
    found = {one["key"]: one for one in api.get("/attributes", project_id=project["id"], per_page=100)}
    for key in ATTRIBUTES:
        if key not in found:
            found[key] = api.post("/attributes", {"project_id": project["id"], "key": key})
    return found
