"""Audiences in the experiments service: what depends on the database, on each of the two."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from optimizely_api.services.experiments.running import READ_AT_ONCE
from tests.services.conftest import Caller
from tests.services.test_experiments import OWNER, make

TWO = [{"name": name, "key": name, "weight": 5000} for name in ("old", "new")]


def naming(*keys: str) -> str:
    return json.dumps(["or", *({"name": key, "type": "custom_attribute", "value": "x"} for key in keys)])


async def attribute(experiments: Caller, key: str) -> Any:
    return await experiments.made("/attributes", {**OWNER, "key": key, "name": f"The {key}"})


async def test_a_renamed_attribute_is_renamed_in_conditions(experiments: Caller) -> None:
    plan, _ = await attribute(experiments, "plan"), await attribute(experiments, "country")
    audience = await experiments.made("/audiences", {**OWNER, "conditions": naming("plan", "country")})
    await experiments.patch(f"/attributes/{plan['id']}", {"key": "tariff"})
    _, found = await experiments.get(f"/audiences/{audience['id']}")
    assert found["conditions"] == naming("tariff", "country")


async def test_audiences_that_are_made_during_a_renaming_follow_it_or_are_refused(
    experiments: Caller,
) -> None:
    plan = await attribute(experiments, "plan")
    body = {**OWNER, "conditions": naming("plan")}
    posts = [experiments.post("/audiences", body) for _ in range(6)]
    posts.insert(3, experiments.patch(f"/attributes/{plan['id']}", {"key": "tariff"}))
    statuses = {status for status, _ in await asyncio.gather(*posts)}
    assert statuses <= {200, 201, 400}
    _, listed = await experiments.get("/audiences?project_id=22")
    assert {audience["conditions"] for audience in listed["items"]} <= {naming("tariff")}


async def test_experiments_are_counted_until_they_are_archived(experiments: Caller) -> None:
    audience = await experiments.made("/audiences", {**OWNER})
    conditions = json.dumps(["or", ["not", {"audience_id": audience["id"]}]])
    made = [
        await experiments.made("/experiments", {**OWNER, "variations": TWO, **extra})
        for extra in ({}, {"audience_conditions": conditions}, {"audience_conditions": conditions})
    ]
    await experiments.delete(f"/experiments/{made[-1]['id']}")
    _, found = await experiments.get(f"/audiences/{audience['id']}")
    assert found["experiment_count"] == 1


def feature(key: str, audience: Any, **rule: Any) -> Any:
    rules = [{"audience_conditions": json.dumps(["or", {"audience_id": audience["id"]}]), **rule}]
    environments = {"production": {"is_primary": True, "rollout_rules": rules}}
    return {**OWNER, "key": key, "environments": environments}


async def test_features_are_counted_once_each_until_they_are_archived(experiments: Caller) -> None:
    audience = await experiments.made("/audiences", {**OWNER})
    made = [await experiments.made("/features", feature(key, audience)) for key in ("one", "two")]
    await experiments.made("/features", {**OWNER, "key": "for_everyone"})
    _, found = await experiments.get(f"/audiences/{audience['id']}")
    assert found["experiment_count"] == 2
    await experiments.delete(f"/features/{made[0]['id']}")
    _, listed = await experiments.get("/audiences?project_id=22")
    assert [one["experiment_count"] for one in listed["items"]] == [1]


async def test_409_while_a_running_experiment_uses_it_also_in_a_paused_campaign(experiments: Caller) -> None:
    audience = await experiments.made("/audiences", {**OWNER})
    conditions = json.dumps(["or", {"audience_id": audience["id"]}])
    running = await make(experiments, "?action=start", audience_conditions=conditions)
    await experiments.patch(f"/layers/{running['layer_id']}?action=pause", {})
    status, error = await experiments.patch(f"/audiences/{audience['id']}", {"archived": True})
    assert (status, error["code"]) == (409, "conflict")
    await experiments.patch(f"/experiments/{running['id']}?action=pause", {})
    status, _ = await experiments.patch(f"/audiences/{audience['id']}", {"archived": True})
    assert status == 200


async def test_409_while_an_enabled_rollout_rule_of_a_feature_uses_it(experiments: Caller) -> None:
    audience = await experiments.made("/audiences", {**OWNER})
    address = f"/audiences/{audience['id']}"
    made = await experiments.made("/features", feature("checkout", audience, enabled=True))
    status, error = await experiments.patch(address, {"archived": True})
    assert (status, error["code"]) == (409, "conflict")
    assert f"feature {made['id']} " in error["message"]
    off = feature("checkout", audience, enabled=False)["environments"]
    await experiments.patch(f"/features/{made['id']}", {"environments": off})
    assert (await experiments.patch(address, {"archived": True}))[0] == 200


async def test_names_of_two_audiences_that_are_made_at_once_differ(experiments: Caller) -> None:
    body = {**OWNER, "name": "Gold"}
    answers = await asyncio.gather(*(experiments.post("/audiences", body) for _ in range(4)))
    assert sorted(status for status, _ in answers) == [201, 400, 400, 400]


async def test_changes_of_an_audience_during_a_renaming_follow_it(experiments: Caller) -> None:
    plan = await attribute(experiments, "plan")
    audience = await experiments.made("/audiences", {**OWNER, "conditions": naming("plan")})
    address, nested = f"/audiences/{audience['id']}", json.dumps([json.loads(naming("plan"))])
    answers = await asyncio.gather(
        experiments.patch(address, {"description": "Paid"}),
        experiments.patch(f"/attributes/{plan['id']}", {"key": "tariff"}),
        experiments.patch(address, {"segmentation": True}),
        experiments.patch(address, {"conditions": nested}),
    )
    _, found = await experiments.get(address)
    assert (found["description"], found["segmentation"]) == ("Paid", True)
    assert '"tariff"' in found["conditions"]
    assert [status for status, _ in answers[:3]] == [200, 200, 200]


async def test_409_for_the_first_that_runs_of_many_that_use_it(experiments: Caller) -> None:
    """Those before it await their schedule."""
    audience = await experiments.made("/audiences", {**OWNER})
    conditions = json.dumps(["or", {"audience_id": audience["id"]}])
    later = {"start_time": "2100-01-01T00:00:00Z", "time_zone": "UTC"}
    for _ in range(READ_AT_ONCE):
        await make(experiments, "?action=publish", audience_conditions=conditions, schedule=later)
    last = await make(experiments, "?action=start", audience_conditions=conditions)
    status, error = await experiments.patch(f"/audiences/{audience['id']}", {"archived": True})
    assert (status, f"experiment {last['id']}, which runs" in error["message"]) == (409, True)
