"""Features and their rollouts, kept as code."""

from tests.support.whole_stack import Caller, Json, eventually
from tests.workflows.steps import halves, new_project

COLOUR = {"key": "colour", "type": "string", "default_value": "blue"}
LIMIT = {"key": "limit", "type": "integer", "default_value": "3"}


def test_a_feature_is_rolled_out_step_by_step(api: Caller) -> None:
    project = new_project(api, "custom")
    feature = _ensured(api, project, "search")
    assert _ensured(api, project, "search") == feature  # by a second run
    assert feature["name"] == "search"
    assert _rule(feature, "development") == _on(10000)
    assert _rule(feature, "production") == {**_on(0), "enabled": False}

    address = f"/features/{feature['id']}"
    for percentage in (500, 2500, 10000):
        changed = api.patch(address, {"environments": _in("production", _on(percentage))})
        assert _rule(changed, "production") == _on(percentage)
        assert _rule(changed, "development") == _on(10000)
        _assert_rolled_out(api, project, percentage)

    colour, limit = feature["variables"]
    variables = [{**colour, "default_value": "green"}, limit]
    assert api.patch(address, {"variables": variables})["variables"] == variables
    refused = api.patch(address, {"variables": [colour, {**limit, "default_value": "many"}]}, status=400)
    assert list(refused["messages"]) == ["/body/variables/1/default_value"]


def test_a_feature_test_and_the_emergency(api: Caller) -> None:
    project = new_project(api, "custom")
    feature = _ensured(api, project, "search")
    address = f"/features/{feature['id']}"
    test = api.post(
        "/experiments",
        {
            "project_id": project["id"],
            "key": "search_test",
            "feature_id": feature["id"],
            "variations": [
                {**variation, "variable_values": {"colour": colour}}
                for variation, colour in zip(halves("plain", "red"), ("blue", "red"), strict=True)
            ],
        },
        action="start",
    )
    assert (test["type"], test["status"], test["feature_key"]) == ("feature", "running", "search")
    assert [one["variable_values"] for one in test["variations"]] == [{"colour": "blue"}, {"colour": "red"}]

    off = api.patch(address, {"environments": _in("production", {**_on(10000), "enabled": False})})
    assert _rule(off, "production")["enabled"] is False
    _assert_rolled_out(api, project, 0)

    assert "archive" in api.delete(address, status=409)["message"] or str(test["id"])
    api.patch(f"/experiments/{test['id']}", {}, action="pause")
    api.delete(address)
    assert api.get(address)["archived"] is True
    assert api.delete(address, status=410)["code"] == "gone"
    refused = api.patch(f"/experiments/{test['id']}", {}, status=409, action="start")
    assert "feature" in refused["message"]


def _ensured(api: Caller, project: Json, key: str) -> Json:
    """The feature of this key, made unless it is there."""
    found = {one["key"]: one for one in api.all("/features", project_id=project["id"])}
    if key not in found:
        found[key] = api.post(
            "/features",
            {
                "project_id": project["id"],
                "key": key,
                "variables": [COLOUR, LIMIT],
                "environments": _in("development", _on(10000)),
            },
        )
    feature: Json = found[key]
    return feature


def _on(percentage: int) -> Json:
    return {"audience_conditions": "everyone", "enabled": True, "percentage_included": percentage}


def _in(environment: str, rule: Json) -> Json:
    return {environment: {"rollout_rules": [rule]}}


def _rule(feature: Json, environment: str) -> Json:
    (rule,) = feature["environments"][environment]["rollout_rules"]
    return dict(rule)


def _assert_rolled_out(api: Caller, project: Json, percentage: int) -> None:
    """SDKs in production soon have the feature on for this share of their users."""
    (production,) = (one for one in api.get("/environments", project_id=project["id"]) if one["is_primary"])
    path = f"/environments/{production['id']}/datafile"
    if not api.serves(path):
        return

    def is_there() -> bool:
        (rollout,) = api.get(path)["rollouts"]
        ranges = [one for rule in rollout["experiments"] for one in rule["trafficAllocation"]]
        return max((one["endOfRange"] for one in ranges if one["entityId"]), default=0) == percentage

    eventually(is_there, f"a rollout of {percentage} in the datafile")
