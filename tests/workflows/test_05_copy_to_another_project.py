"""An experiment is copied to another project."""

import json
from typing import Any

from tests.support.whole_stack import Caller, Json
from tests.workflows.steps import audiences, conditions, new_project, without

SERVER_SAYS = ("id", "created", "last_modified", "project_id", "campaign_id", "status", "earliest", "latest")


def test_a_copy_equals_the_original_but_for_ids_times_and_status(api: Caller) -> None:
    source, target = new_project(api, "web", name="Source"), new_project(api, "web", name="Target")
    experiment = api.post("/experiments", _original(api, source), action="start")
    assert experiment["status"] == "running"

    original = api.get(f"/experiments/{experiment['id']}")
    mapped = {
        "page": {one: _copied(api, "pages", one, target) for one in original["page_ids"]},
        "audience": {one: _copied(api, "audiences", one, target) for one in _audience_ids(original)},
    }
    copy = api.post("/experiments", _mapped(original, target, mapped))
    assert copy["status"] == "not_started"
    assert copy["project_id"] == target["id"]
    assert _without_ids(copy) == _without_ids(_mapped(original, target, mapped))
    assert not {one["variation_id"] for one in copy["variations"]}.intersection(
        one["variation_id"] for one in original["variations"]
    )
    assert api.get(f"/experiments/{experiment['id']}") == original


def test_an_experiment_with_url_targeting_is_copied_whole(api: Caller) -> None:
    source, target = new_project(api, "web", name="Source"), new_project(api, "web", name="Target")
    body = {
        "project_id": source["id"],
        "name": "By its address",
        "url_targeting": {"edit_url": "https://shop.example/sale"},
        "variations": [{"name": name, "weight": 5000} for name in ("Original", "Red")],
    }
    original = api.post("/experiments", body)
    copy = api.post("/experiments", {**without(original, "campaign_id"), "project_id": target["id"]})
    assert copy["url_targeting"]["edit_url"] == "https://shop.example/sale"
    assert _without_ids(without(copy, "url_targeting")) == _without_ids(without(original, "url_targeting"))


def _original(api: Caller, project: Json) -> Json:
    body = {"project_id": project["id"], "name": "Home", "edit_url": "https://shop.example/"}
    page = api.post("/pages", body)
    on_phones = conditions({"type": "device", "value": "iphone"})
    audience = api.post(
        "/audiences", {"project_id": project["id"], "name": "Phones", "conditions": on_phones}
    )
    change = {"type": "custom_code", "value": "window.isNew = true;"}
    return {
        "project_id": project["id"],
        "name": "Buy button",
        "description": "Green sells",
        "page_ids": [page["id"]],
        "audience_conditions": audiences(audience["id"]),
        "traffic_allocation": 8000,
        "metrics": [{"aggregator": "sum", "field": "revenue"}],
        "variations": [
            {"name": "Original", "weight": 2500},
            {"name": "Green", "weight": 7500, "actions": [{"page_id": page["id"], "changes": [change]}]},
        ],
    }


def _copied(api: Caller, kind: str, entity_id: int, target: Json) -> int:
    """The id of the copy: the whole entity is sent, read-only members and all."""
    entity = api.get(f"/{kind}/{entity_id}")
    return int(api.post(f"/{kind}", {**entity, "project_id": target["id"]})["id"])


def _audience_ids(experiment: Json) -> list[int]:
    _, *leaves = json.loads(experiment["audience_conditions"])
    return [leaf["audience_id"] for leaf in leaves]


def _mapped(experiment: Json, target: Json, mapped: dict[str, dict[int, int]]) -> Json:
    """The body of the copy: foreign ids replaced or removed, the rest as it was read."""
    variations = []
    for variation in experiment["variations"]:
        actions = [{**one, "page_id": mapped["page"][one["page_id"]]} for one in variation["actions"]]
        variations.append({**without(variation, "variation_id"), "actions": actions})
    return {
        **without(experiment, "campaign_id"),
        "project_id": target["id"],
        "page_ids": [mapped["page"][one] for one in experiment["page_ids"]],
        "audience_conditions": audiences(*(mapped["audience"][one] for one in _audience_ids(experiment))),
        "variations": variations,
    }


def _without_ids(experiment: Json) -> Any:
    variations = [
        {
            **without(one, "variation_id"),
            "actions": [without(action, "share_link") for action in one["actions"]],
        }
        for one in experiment["variations"]
    ]
    return {**without(experiment, *SERVER_SAYS), "variations": variations}
