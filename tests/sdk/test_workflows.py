"""What users of SDKs see of changes over REST: an A/B test from nothing to the archive, and a rollout bit by bit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sdk.conftest import Api
from tests.sdk.driven import Driven

pytestmark = [pytest.mark.registries, pytest.mark.slow]

USERS = 1000
GOLD = json.dumps(["and", ["or", ["or", {"type": "custom_attribute", "name": "plan", "value": "gold"}]]])


def users(**attributes: Any) -> list[Any]:
    return [{"id": f"user-{number}", "attributes": attributes} for number in range(USERS)]


def test_an_experiment_from_nothing_to_the_archive(api: Api, sdk: Driven) -> None:
    project = api.project()
    production, of_project = project["environments"]["production"], {"project_id": project["id"]}
    api.made("/attributes", key="plan", **of_project)
    gold = api.made("/audiences", name="Gold", conditions=GOLD, **of_project)
    order = api.made(f"/projects/{project['id']}/custom_events", key="order")
    experiment = api.made(
        "/experiments",
        **of_project,
        key="checkout",
        audience_conditions=json.dumps(["or", {"audience_id": gold["id"]}]),
        variations=[{"key": key, "weight": 5000} for key in ("control", "treatment")],
        metrics=[{"event_id": order["id"], "aggregator": "unique"}],
    )
    address = f"/experiments/{experiment['id']}"

    sdk.open(api.url, production["datafile"]["sdk_key"])

    def entered(**attributes: Any) -> list[str | None]:
        sdk.wait(api.revision(production))
        return [one["experiments"]["checkout"] for one in sdk.decide(users(**attributes), ["checkout"])]

    assert set(entered(plan="gold")) == {None}
    api.patched(f"{address}?action=start")
    began = entered(plan="gold")
    assert 400 < began.count("control") < 600
    assert began.count("control") + began.count("treatment") == USERS
    for attributes in ({}, {"plan": "silver"}, {"plan": 7}):
        assert set(entered(**attributes)) == {None}
    api.patched(f"{address}?action=pause")
    assert set(entered(plan="gold")) == {None}
    api.patched(f"{address}?action=resume")
    assert entered(plan="gold") == began
    api.call("DELETE", f"/v2{address}", 204)
    assert set(entered(plan="gold")) == {None}
    api.call("DELETE", f"/v2{address}", 410)
    api.patched(f"{address}?action=unarchive")
    assert set(entered(plan="gold")) == {None}
    api.patched(f"{address}?action=start")
    assert entered(plan="gold") == began


def test_users_of_a_rollout_stay_in_it_while_it_grows(api: Api, sdk: Driven) -> None:
    project = api.project()
    production = project["environments"]["production"]
    everybody = {"rollout_rules": [{"enabled": True, "percentage_included": 10000}]}
    feature = api.made(
        "/features",
        project_id=project["id"],
        key="search",
        variables=[{"key": "limit", "type": "integer", "default_value": "10"}],
        environments={"development": everybody},
    )
    address = f"/features/{feature['id']}"

    sdk.open(api.url, production["datafile"]["sdk_key"])

    def decided() -> list[Any]:
        sdk.wait(api.revision(production))
        return [one["flags"]["search"] for one in sdk.decide(users(), flags=["search"])]

    def changed(**rule: Any) -> list[Any]:
        api.patched(address, environments={"production": {"rollout_rules": [rule]}})
        return decided()

    assert not any(enabled for _, _, enabled, _ in decided())
    before: set[int] = set()
    for share in (500, 2500, 10000):
        found = changed(enabled=True, percentage_included=share)
        on = {number for number, (_, _, enabled, _) in enumerate(found) if enabled}
        assert before <= on
        assert abs(len(on) / USERS - share / 10000) < 0.05
        before = on
    assert before == set(range(USERS))
    found = changed(enabled=True, percentage_included=10000, variable_values={"limit": "25"})
    assert all(variables == {"limit": 25} for _, _, _, variables in found)

    test = api.made(
        "/experiments?action=start",
        project_id=project["id"],
        key="how_many",
        feature_id=feature["id"],
        variations=[
            {"key": "off", "weight": 5000, "feature_enabled": False},
            {"key": "many", "weight": 5000, "variable_values": {"limit": "50"}},
        ],
    )
    outcomes = {(key, rule, enabled, variables["limit"]) for key, rule, enabled, variables in decided()}
    assert outcomes == {("off", "how_many", False, 10), ("many", "how_many", True, 50)}
    api.patched(f"/experiments/{test['id']}?action=pause")
    assert all(variables == {"limit": 25} for _, _, _, variables in decided())
    found = changed(enabled=False, percentage_included=10000)
    assert not any(enabled for _, _, enabled, _ in found)
    api.call("DELETE", f"/v2{address}", 204)
    assert api.datafile(production)["featureFlags"] == []
