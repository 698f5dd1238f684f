"""The datafile of an environment: what is in it, when its revision rises, and the feed of revisions."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import update

from optimizely_api.contract.times import read_time
from optimizely_api.services.experiments.datafiles import upkeep
from optimizely_api.services.experiments.datafiles.upkeep import build_due
from optimizely_api.services.experiments.tables import experiments
from optimizely_api.services.storage.database import Database
from tests.services.conftest import Serve
from tests.services.datafiles.conftest import (
    DEVELOPMENT,
    NOON,
    OWNER,
    PRODUCTION,
    DatafileCaller,
    environment,
)

GOLD = ["or", {"type": "custom_attribute", "name": "plan", "value": "gold"}]
BYTES_OF_A_PROJECT = "0e6b3150582fd89d0cc1823cc7f97d8ab070b42a4460831d414c4dda75caf590"  # their SHA-256
LATER = "2026-01-05T12:00:01.000000Z"


async def test_200_a_new_environment_has_a_datafile_of_revision_1(project: DatafileCaller) -> None:
    datafile = await project.datafile()
    assert (datafile["version"], datafile["revision"]) == ("4", "1")
    assert (datafile["projectId"], datafile["accountId"]) == ("22", "11")
    assert (datafile["sdkKey"], datafile["environmentKey"]) == ("sdk-31", "production")
    assert (datafile["anonymizeIP"], datafile["botFiltering"], datafile["sendFlagDecisions"]) == (
        True,
        False,
        False,
    )
    lists = ("experiments", "groups", "events", "audiences", "attributes", "featureFlags", "rollouts")
    assert all(datafile[name] == [] for name in lists)


async def test_200_an_experiment_is_in_it_from_its_start_on(project: DatafileCaller) -> None:
    experiment = await project.experiment(action="")
    assert (await project.datafile())["experiments"] == []
    await project.patched(f"/experiments/{experiment['id']}?action=start")
    (shown,) = (await project.datafile())["experiments"]
    control, treatment = (str(one["variation_id"]) for one in experiment["variations"])
    assert shown == {
        "id": str(experiment["id"]),
        "key": "checkout",
        "layerId": str(experiment["campaign_id"]),
        "status": "Running",
        "variations": [{"id": control, "key": "control"}, {"id": treatment, "key": "treatment"}],
        "trafficAllocation": [
            {"entityId": control, "endOfRange": 5000},
            {"entityId": treatment, "endOfRange": 10000},
        ],
        "audienceIds": [],
        "audienceConditions": [],
        "forcedVariations": {},
    }
    await project.patched(f"/experiments/{experiment['id']}?action=pause")
    assert (await project.datafile())["experiments"][0]["status"] == "Paused"
    assert (await project.caller.delete(f"/experiments/{experiment['id']}"))[0] == 204
    assert (await project.datafile())["experiments"] == []


async def test_200_an_experiment_is_in_the_datafiles_of_the_environments_where_it_runs(
    project: DatafileCaller,
) -> None:
    production = {"id": PRODUCTION, "is_primary": True}
    development = {"id": DEVELOPMENT, "is_primary": False, "status": "running"}
    await project.experiment(action="", environments={"production": production, "development": development})
    (shown,) = (await project.datafile(DEVELOPMENT))["experiments"]
    assert shown["status"] == "Running"
    assert (await project.datafile())["experiments"] == []
    await project.register(environment(DEVELOPMENT, "laptops", version=LATER))
    assert (await project.datafile(DEVELOPMENT))["experiments"] == [shown]


async def test_200_a_paused_variation_is_left_out_with_its_whitelist(project: DatafileCaller) -> None:
    experiment = await project.experiment()
    address = f"/experiments/{experiment['id']}"
    control, treatment = experiment["variations"]
    whitelist = [{"user_id": one["key"], "variation_id": one["variation_id"]} for one in (control, treatment)]
    await project.patched(address, whitelist=whitelist)
    (shown,) = (await project.datafile())["experiments"]
    assert shown["forcedVariations"] == {"control": "control", "treatment": "treatment"}
    await project.patched(address, variations=[control, {**treatment, "status": "paused"}])
    (paused,) = (await project.datafile())["experiments"]
    assert [one["key"] for one in paused["variations"]] == ["control"]
    assert paused["forcedVariations"] == {"control": "control"}
    assert paused["trafficAllocation"] == [{"entityId": str(control["variation_id"]), "endOfRange": 10000}]
    await project.patched(address, variations=[control, {**treatment, "status": "active"}])
    assert (await project.datafile())["experiments"] == [shown]


async def test_200_less_traffic_and_more_again_ends_where_it_began(project: DatafileCaller) -> None:
    experiment = await project.experiment(traffic_allocation=2000)
    first = (await project.datafile())["experiments"][0]["trafficAllocation"]
    for total, number_of_ranges in ((5000, 4), (10000, 6), (2000, 2)):
        await project.patched(f"/experiments/{experiment['id']}", traffic_allocation=total)
        last = (await project.datafile())["experiments"][0]["trafficAllocation"]
        assert len(last) == number_of_ranges
    assert last == first


async def test_200_audiences_come_with_typed_conditions(project: DatafileCaller) -> None:
    attribute = await project.made("/attributes", key="plan", name="The plan")
    unused = await project.made("/attributes", key="age")
    gold = await project.audience(GOLD, name="Gold")
    number = {"type": "custom_attribute", "name": "age", "match_type": "gt", "value": 17}
    adult = await project.audience(["and", ["not", number]], name="Adult")
    nobody = await project.audience([], name="Nobody")
    named = [{"audience_id": one["id"]} for one in (gold, adult, nobody)]
    text = json.dumps(["and", named[0], ["or", *named[1:]]])
    await project.experiment(audience_conditions=text)
    datafile = await project.datafile()
    ids = [str(one["id"]) for one in (gold, adult, nobody)]
    (experiment,) = datafile["experiments"]
    assert experiment["audienceIds"] == ids
    assert experiment["audienceConditions"] == ["and", ids[0], ["or", *ids[1:]]]
    typed = {one["name"]: one["conditions"] for one in datafile["typedAudiences"]}
    shown = {"type": "custom_attribute", "name": "age", "match": "gt", "value": 17}
    assert typed == {"Gold": GOLD, "Adult": ["and", ["not", shown]], "Nobody": ["or"]}
    untyped = {one["name"]: json.loads(one["conditions"]) for one in datafile["audiences"]}
    assert untyped["Gold"] == GOLD
    assert untyped["Adult"][1]["name"] == "$opt_dummy_attribute"
    assert datafile["attributes"] == [
        {"id": str(attribute["id"]), "key": "plan"},
        {"id": str(unused["id"]), "key": "age"},
    ]


@pytest.mark.parametrize(
    "value", ["\ud800", 10**400, -(10**400), 10**30], ids=["surrogate", "endless", "below", "large"]
)
async def test_200_every_reader_of_json_takes_the_values_of_conditions(
    project: DatafileCaller, value: Any
) -> None:
    await project.made("/attributes", key="plan")
    odd = await project.audience(["or", {"type": "custom_attribute", "name": "plan", "value": value}])
    await project.experiment(audience_conditions=json.dumps(["or", {"audience_id": odd["id"]}]))
    datafile = orjson.loads((await project.served())["content"])
    assert len(datafile["typedAudiences"]) == 1


async def test_200_conditions_follow_a_new_key_of_their_attribute(project: DatafileCaller) -> None:
    attribute = await project.made("/attributes", key="plan")
    gold = await project.audience(GOLD, name="Gold")
    await project.experiment(audience_conditions=json.dumps(["or", {"audience_id": gold["id"]}]))
    await project.patched(f"/attributes/{attribute['id']}", key="tariff")
    (audience,) = (await project.datafile())["typedAudiences"]
    assert audience["conditions"][1]["name"] == "tariff"


async def test_200_events_name_the_experiments_that_measure_them(project: DatafileCaller) -> None:
    order, idle = [await project.made("/events", key=key, event_type="custom") for key in ("order", "idle")]
    metric = {"aggregator": "unique", "event_id": order["id"], "scope": "visitor"}
    experiment = await project.experiment(metrics=[metric])
    assert (await project.datafile())["events"] == [
        {"id": str(order["id"]), "key": "order", "experimentIds": [str(experiment["id"])]},
        {"id": str(idle["id"]), "key": "idle", "experimentIds": []},
    ]
    for event in (order, idle):
        await project.patched(f"/events/{event['id']}", archived=True)
    assert [event["key"] for event in (await project.datafile())["events"]] == ["order"]


def of_the_project(rule: Any, **others: Any) -> dict[str, Any]:
    """The environments of a feature as the gateway names them, with this rule in production."""
    shown = {"production": PRODUCTION, "development": DEVELOPMENT}
    rules = {"production": rule, **others}
    return {
        key: {
            "id": one,
            "is_primary": key == "production",
            "rollout_rules": [rules[key]] if key in rules else [],
        }
        for key, one in shown.items()
    }


async def test_200_a_feature_is_a_flag_with_a_rollout(project: DatafileCaller) -> None:
    variables = [
        {"key": "limit", "type": "integer", "default_value": "10"},
        {"key": "texts", "type": "json", "default_value": "{}"},
    ]
    rule = {"enabled": True, "percentage_included": 500, "variable_values": {"limit": "25"}}
    feature = await project.made(
        "/features", key="search", variables=variables, environments=of_the_project(rule)
    )
    limit, texts = feature["variables"]
    datafile = await project.datafile()
    (flag,), (rollout,) = datafile["featureFlags"], datafile["rollouts"]
    assert flag == {
        "id": str(feature["id"]),
        "key": "search",
        "rolloutId": rollout["id"],
        "experimentIds": [],
        "variables": [
            {"id": str(limit["id"]), "key": "limit", "type": "integer", "defaultValue": "10"},
            {
                "id": str(texts["id"]),
                "key": "texts",
                "type": "string",
                "subType": "json",
                "defaultValue": "{}",
            },
        ],
    }
    (shown,) = rollout["experiments"]
    (variation,) = shown["variations"]
    assert shown["layerId"] == rollout["id"]
    assert variation["featureEnabled"] is True
    assert variation["variables"] == [{"id": str(limit["id"]), "value": "25"}]
    assert shown["trafficAllocation"] == [{"entityId": variation["id"], "endOfRange": 500}]
    (elsewhere,) = (await project.datafile(DEVELOPMENT))["rollouts"]
    assert elsewhere["experiments"][0]["trafficAllocation"] == []
    assert elsewhere["id"] != rollout["id"]


async def test_200_a_rollout_keeps_its_ids_when_its_share_rises(project: DatafileCaller) -> None:
    rule = {"enabled": True, "percentage_included": 500}
    feature = await project.made("/features", key="search", environments=of_the_project(rule))
    (before,) = (await project.datafile())["rollouts"]
    changed = {**rule, "percentage_included": 2500}
    await project.patched(f"/features/{feature['id']}", environments=of_the_project(changed))
    (after,) = (await project.datafile())["rollouts"]
    (share,) = after["experiments"][0]["trafficAllocation"]
    assert share.pop("endOfRange") == 2500
    assert before["experiments"][0]["trafficAllocation"].pop()["entityId"] == share["entityId"]
    assert before["experiments"][0]["id"] == after["experiments"][0]["id"]
    await project.patched(
        f"/features/{feature['id']}", environments=of_the_project({**changed, "enabled": False})
    )
    (off,) = (await project.datafile())["rollouts"]
    assert off["experiments"][0]["trafficAllocation"] == []


async def test_200_a_feature_test_is_named_by_its_flag(project: DatafileCaller) -> None:
    variables = [{"key": "limit", "type": "integer", "default_value": "10"}]
    feature = await project.made(
        "/features", key="search", variables=variables, environments=of_the_project({"enabled": False})
    )
    variations = [
        {"key": "off", "weight": 5000},
        {"key": "many", "weight": 5000, "variable_values": {"limit": "50"}},
    ]
    test = await project.experiment(feature_id=feature["id"], variations=variations)
    datafile = await project.datafile()
    assert datafile["featureFlags"][0]["experimentIds"] == [str(test["id"])]
    off, many = datafile["experiments"][0]["variations"]
    assert (off["featureEnabled"], off["variables"]) == (False, [])
    limit = str(feature["variables"][0]["id"])
    assert (many["featureEnabled"], many["variables"]) == (True, [{"id": limit, "value": "50"}])
    await project.patched(f"/experiments/{test['id']}?action=pause")
    await project.caller.delete(f"/experiments/{test['id']}")
    assert (await project.datafile())["featureFlags"][0]["experimentIds"] == []


async def test_200_a_grouped_experiment_is_in_its_group_alone(project: DatafileCaller) -> None:
    first, second, third = [
        await project.experiment(f"test-{n}", "start" if n < 3 else "") for n in (1, 2, 3)
    ]
    entities = [
        {"kind": "Experiment", "id": one["id"], "weight": weight}
        for one, weight in ((first, 3000), (third, 2000), (second, 4000))
    ]
    group = await project.made("/groups", name="Exclusive", entities=entities)
    datafile = await project.datafile()
    assert datafile["experiments"] == []
    (shown,) = datafile["groups"]
    assert (shown["id"], shown["policy"]) == (str(group["id"]), "random")
    assert [one["key"] for one in shown["experiments"]] == ["test-1", "test-2"]
    # The experiment that has not started keeps its place: nobody moves when it starts.
    assert shown["trafficAllocation"] == [
        {"entityId": str(first["id"]), "endOfRange": 3000},
        {"entityId": str(third["id"]), "endOfRange": 5000},
        {"entityId": str(second["id"]), "endOfRange": 9000},
    ]
    await project.caller.delete(f"/groups/{group['id']}")
    assert [one["key"] for one in (await project.datafile())["experiments"]] == ["test-1", "test-2"]


async def test_200_experiments_of_the_web_are_for_no_sdk(project: DatafileCaller) -> None:
    await project.experiment()
    both = environment(PRODUCTION, "production"), environment(DEVELOPMENT, "development")
    await project.register(*both, platform="web", anonymize_ip=False, project_version=LATER)
    datafile = await project.datafile()
    assert (datafile["experiments"], datafile["anonymizeIP"]) == ([], False)


async def test_the_revision_rises_by_one_with_each_change_of_content_alone(project: DatafileCaller) -> None:
    experiment = await project.experiment()
    before = await project.served()
    address = f"/experiments/{experiment['id']}"
    await project.patched(address, description="No SDK reads this.")
    await project.patched(address, traffic_allocation=10000)
    assert await project.served() == before
    await project.patched(address, traffic_allocation=5000)
    after = await project.served()
    assert after["revision"] == before["revision"] + 1
    assert read_time(after["last_modified"]) > read_time(before["last_modified"])


async def test_the_revision_is_that_of_the_environment_that_changed(project: DatafileCaller) -> None:
    rule = {"enabled": True, "percentage_included": 500}
    feature = await project.made("/features", key="search", environments=of_the_project(rule))
    before = [(await project.served(one))["revision"] for one in (PRODUCTION, DEVELOPMENT)]
    more = of_the_project({**rule, "percentage_included": 600})
    await project.patched(f"/features/{feature['id']}", environments=more)
    after = [(await project.served(one))["revision"] for one in (PRODUCTION, DEVELOPMENT)]
    assert after == [before[0] + 1, before[1]]


async def test_changes_of_one_second_have_different_times(project: DatafileCaller) -> None:
    times = set()
    for number in range(5):
        await project.made("/attributes", key=f"key-{number}")
        times.add((await project.served())["last_modified"])
    assert len(times) == 5
    assert all(read_time(time).microsecond == 0 for time in times)


async def test_changes_at_once_are_all_in_the_datafile(project: DatafileCaller) -> None:
    keys = [f"key-{number}" for number in range(20)]
    await asyncio.gather(*(project.made("/attributes", key=key) for key in keys))
    datafile = await project.datafile()
    assert sorted(one["key"] for one in datafile["attributes"]) == sorted(keys)
    assert datafile["revision"] == "21"


async def test_the_bytes_are_the_same_in_every_process(project: DatafileCaller, serve: Serve) -> None:
    await project.experiment()
    other = DatafileCaller(await serve("experiments", project.caller.database_url))
    assert await other.served() == await project.served()
    await other.experiment("second")
    assert await other.served() == await project.served()


async def test_the_bytes_are_the_same_on_every_database(project: DatafileCaller) -> None:
    await project.made("/attributes", key="plan")
    gold = await project.audience(GOLD, name="Gold ✓")
    await project.experiment(audience_conditions=json.dumps(["or", {"audience_id": gold["id"]}]))
    content = (await project.served())["content"]
    assert hashlib.sha256(content.encode()).hexdigest() == BYTES_OF_A_PROJECT


async def test_a_schedule_changes_the_datafile_when_its_time_has_come(project: DatafileCaller) -> None:
    start = (datetime.now(UTC) + timedelta(hours=1)).replace(second=0, microsecond=0)
    stop = start + timedelta(minutes=30)
    times = {"start_time": f"{start:%Y-%m-%dT%H:%M:00Z}", "stop_time": f"{stop:%Y-%m-%dT%H:%M:00Z}"}
    await project.experiment(schedule={"time_zone": "UTC", **times})
    database = Database(project.caller.database_url)
    statuses = []
    for now in (start - timedelta(seconds=1), start, stop - timedelta(seconds=1), stop):
        await build_due(database, now)
        statuses.append([one["status"] for one in (await project.datafile())["experiments"]])
    await database.close()
    assert statuses == [[], ["Running"], ["Running"], ["Paused"]]


async def test_schedules_are_looked_for_again_when_that_has_failed(
    project: DatafileCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(project.caller.database_url)
    looked: list[Database] = []

    async def fail_once(given: Database) -> None:
        if given is database:
            looked.append(given)
            if len(looked) == 1:
                raise OSError

    monkeypatch.setattr(upkeep, "_next_change", fail_once)
    following = asyncio.create_task(upkeep._follow_schedules(database))
    async with asyncio.timeout(30):
        while len(looked) < 2:
            await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.wait([following])
    await database.close()


async def test_a_datafile_that_cannot_be_built_holds_up_no_other(project: DatafileCaller) -> None:
    start = (datetime.now(UTC) + timedelta(hours=1)).replace(second=0, microsecond=0)
    schedule = {"time_zone": "UTC", "start_time": f"{start:%Y-%m-%dT%H:%M:00Z}"}
    broken = await project.experiment("broken", schedule=schedule)
    other = {"account_id": 11, "project_id": 23}
    await project.register(environment(33, "production", is_primary=True), **other)
    await project.experiment("whole", schedule=schedule, **other)
    database = Database(project.caller.database_url)
    async with database.transaction() as connection:
        without = (
            update(experiments)
            .where(experiments.c.id == broken["id"])
            .values(document={"schedule": schedule})
        )
        await connection.execute(without)
    with pytest.raises(ExceptionGroup):
        await build_due(database, start)
    await database.close()
    assert [one["key"] for one in (await project.datafile(33))["experiments"]] == ["whole"]


async def test_304_for_a_revision_that_the_gateway_has(project: DatafileCaller) -> None:
    async with project.caller.session.get(f"{project.caller.url}/datafiles/sdk-31") as response:
        tag = response.headers["ETag"]
    headers = {"If-None-Match": tag}
    assert await project.caller.get("/datafiles/sdk-31", headers=headers) == (304, None)
    await project.made("/attributes", key="plan")
    assert (await project.caller.get("/datafiles/sdk-31", headers=headers))[0] == 200


async def test_404_for_an_unknown_key_and_an_archived_environment(project: DatafileCaller) -> None:
    assert (await project.caller.get("/datafiles/unknown"))[0] == 404
    before = await project.served()
    await project.register(environment(PRODUCTION, "production", archived=True, version=LATER))
    assert (await project.caller.get("/datafiles/sdk-31"))[0] == 404
    back = "2026-01-05T12:00:02.000000Z"
    await project.register(environment(PRODUCTION, "production", version=back))
    assert await project.served() == before


async def test_200_an_environment_under_a_new_key_keeps_its_sdk_key(project: DatafileCaller) -> None:
    (item,) = await project.register(environment(PRODUCTION, "live", version=LATER))
    assert item["revision"] == 2
    assert (await project.datafile())["environmentKey"] == "live"
    # Read before the change, and late: it is of an earlier version.
    await project.register(environment(PRODUCTION, "production", version=NOON))
    assert (await project.datafile())["environmentKey"] == "live"


async def test_the_feed_has_every_revision_in_order(project: DatafileCaller) -> None:
    for number in range(3):
        await project.made("/attributes", key=f"key-{number}")
    status, body = await project.caller.get("/datafile-revisions?after=0&limit=100")
    assert status == 200
    items = body["items"]
    assert [item["id"] for item in items] == sorted({item["id"] for item in items})
    assert [(item["environment_key"], item["revision"]) for item in items] == [
        (key, revision) for revision in (1, 2, 3, 4) for key in ("production", "development")
    ]
    served = await project.served()
    last = items[-2]
    assert {name: last[name] for name in OWNER} == OWNER
    assert (last["sdk_key"], last["url"]) == ("sdk-31", "/datafiles/sdk-31.json")
    assert last["size"] == len(served["content"])
    _, rest = await project.caller.get(f"/datafile-revisions?after={items[5]['id']}&limit=1")
    assert rest["items"] == items[6:7]


async def test_400_for_environments_that_are_named_wrongly(project: DatafileCaller) -> None:
    status, body = await project.caller.post("/datafiles", {**OWNER, "environments": []})
    assert (status, body["code"]) == (400, "bad_request")
