"""The experiments service: layers, experiments, events."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from optimizely_api.services.http.addresses import PROJECTS_URL
from optimizely_api.services.storage.database import Database
from tests.services.conftest import Caller, Serve, migrate_to
from tests.support.ports import free_port

OWNER = {"account_id": 11, "project_id": 22}
TWO = [{"name": "Original", "key": "control", "weight": 5000}, {"name": "New", "key": "new", "weight": 5000}]
SOMEWHERE = {"edit_url": "https://shop.example/"}


async def event(experiments: Caller, key: str = "buy", **given: Any) -> Any:
    return await experiments.made("/events", {**OWNER, "key": key, "name": f"{key} it", **given})


async def make(experiments: Caller, query: str = "", **given: Any) -> Any:
    """An experiment for the web, which runs on a page of its own unless another one is given."""
    where = {} if "page_ids" in given else {"url_targeting": SOMEWHERE}
    body = {**OWNER, "name": "Checkout", "variations": TWO, **where, **given}
    return await experiments.made(f"/experiments{query}", body)


async def patched(experiments: Caller, made: Any, query: str = "", **changes: Any) -> Any:
    status, body = await experiments.patch(f"/experiments/{made['id']}{query}", changes)
    assert status == 200, body
    return body


# Creating and reading


async def test_201_an_experiment_has_the_contracts_defaults_and_internal_keys(experiments: Caller) -> None:
    made = await make(experiments)
    assert (made["status"], made["type"], made["audience_conditions"]) == ("not_started", "a/b", "everyone")
    assert made["campaign_id"] == made["layer_id"] != made["id"]
    assert made["stats_config"] == {"difference_type": "relative", "epoch_enabled": True}
    assert made["baseline_variation_id"] == str(made["variations"][0]["variation_id"])
    assert made["metric_names"] == []
    assert not {"earliest", "latest", "key"} & set(made)
    assert None not in made.values()
    assert await experiments.get(f"/experiments/{made['id']}") == (200, made)


async def test_ids_are_large_distinct_and_below_2_53(experiments: Caller) -> None:
    made = await make(experiments)
    ids = [made["id"], made["layer_id"], *(variation["variation_id"] for variation in made["variations"])]
    assert len(set(ids)) == 4
    assert all(10**9 < one < 2**53 for one in ids)


async def test_metrics_get_defaults_and_names(experiments: Caller) -> None:
    buy = await event(experiments)
    metrics = [{"event_id": buy["id"]}, {"aggregator": "sum", "field": "revenue"}]
    made = await make(experiments, metrics=metrics)
    assert made["metric_names"] == ["buy it", "Overall revenue"]
    assert made["metrics"][0] == {
        "event_id": buy["id"],
        "aggregator": "unique",
        "scope": "visitor",
        "winning_direction": "increasing",
    }


NO_CONDITIONS = '/audience_conditions: must be "everyone" or the text of a JSON list'
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"variations": [{"weight": 4000}, {"weight": 5000}]}, "/variations: the weights add up to 9000"),
    ({"variations": [{"weight": 10001}]}, "/variations/0/weight: "),
    ({"variations": [{"name": "no weight"}]}, "/variations/0: "),
    (
        {"variations": [{"weight": 5000, "key": "a"}, {"weight": 5000, "key": "a"}]},
        "/variations: the same key",
    ),
    ({"key": "no spaces"}, "/key: "),
    ({"type": "a/b/c"}, "/type: "),
    ({"holdback": -1}, "/holdback: "),
    ({"metrics": [{"aggregator": "sum"}]}, "/metrics/0/field: "),
    ({"metrics": [{"aggregator": "count", "field": "revenue"}]}, "/metrics/0/field: is not possible"),
    ({"metrics": [{}]}, "/metrics/0/event_id: is required with the aggregator unique"),
    ({"holdback": 1, "traffic_allocation": 1}, "/traffic_allocation: must be 9999"),
    ({"page_ids": [5], "url_targeting": {"edit_url": "https://a.b/"}}, "/url_targeting: "),
    ({"page_ids": [5]}, "/page_ids/0: is no page of this project"),
    ({"audience_conditions": "someone"}, NO_CONDITIONS),
    ({"audience_conditions": '["xor"]'}, NO_CONDITIONS),
    ({"audience_conditions": '["or"]'}, NO_CONDITIONS),
    ({"audience_conditions": '["not"]'}, NO_CONDITIONS),
    ({"audience_conditions": '[{"audience_id": 7, "x": 1}]'}, NO_CONDITIONS),
    ({"audience_conditions": f'[{{"audience_id": {10**30}}}]'}, NO_CONDITIONS),
    (
        {"audience_conditions": json.dumps([{"audience_id": n} for n in range(1, 40_001)])},
        "/audience_conditions: names more than 10000 audiences",
    ),
    ({"page_ids": list(range(1, 40_001))}, "/page_ids/39999: is one of more than 10000 ids"),
    (
        {"audience_conditions": '[{"audience_id": 1}, {"audience_id": 20000000001}]'},
        "/audience_conditions: is no audience",
    ),
    ({"audience_conditions": '["or", {"audience_id": 7}]'}, "/audience_conditions: is no audience"),
    ({"metrics": [{"event_id": 5}]}, "/metrics/0/event_id: is no event of this project"),
    ({"metrics": [{"aggregator": "ratio", "metrics": [{"event_id": 5}]}]}, "/metrics/0/metrics/0/event_id: "),
    ({"schedule": {"start_time": "2026-02-30"}}, "/schedule/start_time: "),
    ({"schedule": {"time_zone": "No/Where"}}, "/schedule/time_zone: "),
    ({"url_targeting": {}}, "/url_targeting: "),
    ({"whitelist": [{"user_id": "a", "variation_id": 1}]}, "/whitelist/0/variation_id: "),
    ({"environments": {"production": {"status": "on"}}}, "/environments/production/status: "),
    ({"description": None}, "/description: "),
    # What results could not be given for must not be frozen by a start.
    ({"stats_config": {"confidence_level": 1}}, "/stats_config/confidence_level: "),
    ({"variations": [{"weight": 0}] * 100 + [{"weight": 10000}]}, "/variations: "),
    ({"metrics": [{"aggregator": "count"}] * 101}, "/metrics: "),
    # Never a kind that is accepted and does nothing.
    ({"type": "multiarmed_bandit"}, "/type: is multiarmed_bandit, which this release does not have"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[message for _, message in WRONG])
async def test_400_names_the_field_and_nothing_is_written(
    experiments: Caller, given: dict[str, Any], message: str
) -> None:
    made = await make(experiments)
    status, error = await experiments.post("/experiments", {**OWNER, "variations": TWO, **given})
    assert (status, error["message"].startswith(message)) == (400, True), error
    assert (await experiments.get("/experiments"))[1]["total"] == 1
    assert (await experiments.get("/layers"))[1]["total"] == 1
    changes = {"name": "half", **{k: v for k, v in given.items() if k != "type"}}
    if len(changes) > 1:
        assert (await experiments.patch(f"/experiments/{made['id']}", changes))[0] == 400
    assert await experiments.get(f"/experiments/{made['id']}") == (200, made)


async def test_400_for_what_is_newly_named_and_archived(experiments: Caller) -> None:
    page = await experiments.made("/pages", {**OWNER, "name": "Cart", "edit_url": "https://shop.example/"})
    buy = await event(experiments)
    named = {"page_ids": [page["id"]], "metrics": [{"event_id": buy["id"]}]}
    made = await make(experiments, **named)
    for path in (f"/pages/{page['id']}", f"/events/{buy['id']}"):
        assert (await experiments.delete(path))[0] == 204
    assert (await patched(experiments, made, name="kept", page_ids=[page["id"]]))["name"] == "kept"
    status, error = await experiments.post("/experiments", {**OWNER, **named})
    assert (status, error["messages"]) == (
        400,
        {"/body/page_ids/0": "is an archived page", "/body/metrics/0/event_id": "is an archived event"},
    )


async def test_400_for_an_extension_that_a_change_cannot_insert(experiments: Caller) -> None:
    address = "https://shop.example/"
    body = {**OWNER, "name": "Banner", "edit_url": address, "fields": [], "implementation": {}}
    there, off, gone, foreign = [
        (await experiments.made("/extensions", {**body, **given}))["id"]
        for given in ({}, {"enabled": False}, {}, {"project_id": 99})
    ]
    assert (await experiments.delete(f"/extensions/{gone}"))[0] == 204
    page = await experiments.made("/pages", {**OWNER, "name": "Cart", "edit_url": address})

    def variations(*extension_ids: int) -> Any:
        changes = [{"type": "extension", "extension_id": str(one)} for one in extension_ids]
        actions = [{"page_id": page["id"], "changes": changes}]
        return [{"name": "a", "weight": 10000, "actions": actions}]

    made = await make(experiments, page_ids=[page["id"]], variations=variations(there))
    wrong = {"variations": variations(there, off, gone, foreign, 9999999999999999)}
    status, error = await experiments.patch(f"/experiments/{made['id']}", wrong)
    place = "/body/variations/0/actions/0/changes"
    assert (status, error["messages"]) == (
        400,
        {
            f"{place}/1/extension_id": "is a disabled extension",
            f"{place}/2/extension_id": "is an archived extension",
            f"{place}/3/extension_id": "is no extension of this project",
            f"{place}/4/extension_id": "is no extension of this project",
        },
    )
    assert (await experiments.patch(f"/extensions/{there}", {"enabled": False}))[0] == 200
    assert (await patched(experiments, made, variations=variations(there)))["variations"][0]["name"] == "a"


async def test_audience_conditions_are_kept_in_one_spelling(experiments: Caller) -> None:
    database = Database(experiments.database_url)
    async with database.transaction() as connection:
        values = "(7, 11, 22, false, '{}', '2026-01-01', '2026-01-01')"
        columns = "(id, account_id, project_id, archived, document, created, last_modified)"
        await connection.execute(text(f"INSERT INTO audiences {columns} VALUES {values}"))
    await database.close()
    made = await make(experiments, audience_conditions='["or",{"audience_id":7}]')
    assert made["audience_conditions"] == '["or", {"audience_id": 7}]'


async def test_a_page_is_an_event_too(experiments: Caller) -> None:
    page = await experiments.made("/pages", {**OWNER, "name": "Cart", "edit_url": "https://shop.example/"})
    metrics = [{"event_id": page["id"]}, {"event_id": page["id"], "aggregator": "bounce"}]
    assert (await make(experiments, metrics=metrics))["metric_names"] == ["Cart", "Cart"]


async def test_400_for_a_change_of_a_page_that_the_experiment_does_not_run_on(experiments: Caller) -> None:
    body = {**OWNER, "name": "Cart", "edit_url": "https://shop.example/"}
    here, there = [(await experiments.made("/pages", body))["id"] for _ in range(2)]
    variations = [{"key": "a", "weight": 10000, "actions": [{"page_id": there}]}]
    given = {**OWNER, "page_ids": [here], "variations": variations}
    status, error = await experiments.post("/experiments", given)
    assert (status, list(error["messages"])) == (400, ["/body/variations/0/actions/0/page_id"])


async def test_holdback_and_traffic_allocation_are_the_rest_of_each_other(experiments: Caller) -> None:
    made = await make(experiments, holdback=1000)
    assert (made["holdback"], made["traffic_allocation"]) == (1000, 9000)
    changed = await patched(experiments, made, holdback=1000, traffic_allocation=4000)
    assert (changed["holdback"], changed["traffic_allocation"]) == (6000, 4000)


async def test_pages_and_addresses_replace_each_other(experiments: Caller) -> None:
    made = await make(experiments, url_targeting={"edit_url": "https://shop.example/"})
    page = await experiments.made("/pages", {**OWNER, "name": "Cart", "edit_url": "https://shop.example/"})
    changed = await patched(experiments, made, page_ids=[page["id"]])
    assert (changed["page_ids"], "url_targeting" in changed) == ([page["id"]], False)


async def test_variations_without_a_name_are_numbered_by_key_where_the_experiment_has_one(
    experiments: Caller,
) -> None:
    halves = [{"weight": 5000}, {"weight": 5000}]
    keyed = await make(experiments, key="checkout", variations=halves)
    assert [one["key"] for one in keyed["variations"]] == ["variation_1", "variation_2"]
    named = await make(experiments, variations=halves)
    assert [one["name"] for one in named["variations"]] == ["Variation #1", "Variation #2"]


async def test_weights_may_add_up_over_the_active_variations_alone(experiments: Caller) -> None:
    made = await make(experiments)
    control, new = made["variations"]
    paused = [{**control, "weight": 10000}, {**new, "status": "paused"}]
    assert (await patched(experiments, made, variations=paused))["variations"][1]["weight"] == 5000


async def test_400_for_an_event_of_another_project(experiments: Caller) -> None:
    foreign = await event(experiments, project_id=99)
    body = {**OWNER, "metrics": [{"event_id": foreign["id"]}]}
    assert (await experiments.post("/experiments", body))[0] == 400


async def test_400_for_a_key_that_is_taken_names_its_holder(experiments: Caller) -> None:
    holder = await make(experiments, key="checkout")
    status, error = await experiments.post("/experiments", {**OWNER, "key": "checkout"})
    assert (status, error["message"]) == (400, f"/key: is already in use (id: {holder['id']})")
    assert (await experiments.get("/layers"))[1]["total"] == 1
    await make(experiments, key="checkout", project_id=23)


async def test_404_for_what_does_not_exist(experiments: Caller) -> None:
    for path in ("/experiments/1", "/layers/1"):
        assert (await experiments.get(path))[0] == 404
        assert (await experiments.patch(path, {}))[0] == 404
        assert (await experiments.delete(path))[0] == 404
    assert (await experiments.get("/events/1"))[0] == 404


async def test_lists_filter_and_page_in_the_order_of_ids(experiments: Caller) -> None:
    first, second = await make(experiments), await make(experiments, project_id=23)
    third = await make(experiments, account_id=12, is_classic=True)

    async def ids(query: str) -> list[int]:
        _, found = await experiments.get(f"/experiments{query}")
        return [item["id"] for item in found["items"]]

    assert await ids("") == [first["id"], second["id"]]
    assert await ids("?include_classic=True") == [first["id"], second["id"], third["id"]]
    assert await ids("?project_id=22") == [first["id"]]
    assert await ids("?account_id=11&per_page=1&page=2") == [second["id"]]
    assert await ids(f"?campaign_id={second['campaign_id']}") == [second["id"]]
    assert await ids("?project_id=&campaign_id=") == [first["id"], second["id"]]
    assert await ids("?page=9") == []
    _, found = await experiments.get("/experiments?page=9")
    assert found["total"] == 2


# Changing


async def test_200_a_whole_experiment_can_be_sent_back(experiments: Caller) -> None:
    buy = await event(experiments)
    made = await make(
        experiments,
        key="checkout",
        metrics=[{"event_id": buy["id"]}],
        changes=[{"type": "custom_css", "value": "a{}"}],
        environments={"production": {"is_primary": True, "status": "paused"}},
        schedule={"time_zone": "UTC"},
    )
    echoed = {**made, "status": "archived", "from_a_newer_contract": {"x": 1}}
    same = await patched(experiments, made, **echoed)
    assert {**same, "last_modified": 0} == {**made, "last_modified": 0}


async def test_variation_ids_never_change(experiments: Caller) -> None:
    made = await make(experiments)
    control, new = made["variations"]
    by_key = [
        {"key": "new", "weight": 4000},
        {"key": "control", "weight": 4000},
        {"key": "third", "weight": 2000},
    ]
    changed = await patched(experiments, made, variations=by_key)
    ids = [variation["variation_id"] for variation in changed["variations"]]
    assert ids[:2] == [new["variation_id"], control["variation_id"]]
    assert ids[2] not in ids[:2]
    assert changed["variations"][1]["name"] == "Original"
    by_id = [{"variation_id": ids[1], "key": "renamed", "weight": 10000}]
    (only,) = (await patched(experiments, made, variations=by_id))["variations"]
    assert (only["variation_id"], only["key"], only["name"]) == (
        control["variation_id"],
        "renamed",
        "Original",
    )


async def test_400_for_a_variation_of_another_experiment(experiments: Caller) -> None:
    made, other = await make(experiments), await make(experiments)
    changes = {"variations": other["variations"]}
    status, error = await experiments.patch(f"/experiments/{made['id']}", changes)
    assert (status, error["message"]) == (400, "/variations/0/variation_id: is not of this experiment")


async def test_a_variation_left_out_is_archived_once_the_experiment_has_started(experiments: Caller) -> None:
    made = await make(experiments)
    control, new = made["variations"]
    only = [{**control, "weight": 10000}]
    assert (await patched(experiments, made, variations=only))["variations"] == only
    made = await make(experiments, "?action=start")
    control, new = made["variations"]
    changed = await patched(experiments, made, variations=[{**control, "weight": 10000}])
    assert changed["variations"] == [
        {**control, "weight": 10000},
        {**new, "weight": 0, "status": "archived", "archived": True},
    ]
    back = {"variations": made["variations"]}
    assert (await experiments.patch(f"/experiments/{made['id']}", back))[0] == 409


async def test_the_variations_of_a_multivariate_experiment_follow_its_sections_alone(
    experiments: Caller,
) -> None:
    made = await make(experiments, type="multivariate")
    only = [{**made["variations"][0], "weight": 10000}]
    assert await patched(experiments, made, variations=only) == made


async def test_400_for_what_the_variations_of_a_section_cannot_refer_to(experiments: Caller) -> None:
    action = {"page_id": 1, "changes": [{"type": "extension", "extension_id": "1"}]}
    variations = [{"name": "a", "weight": 5000, "actions": [action]}, {"name": "b", "weight": 5000}]
    status, error = await experiments.post(
        "/experiments", {**OWNER, "type": "multivariate", "variations": variations}
    )
    place = "/body/variations/0/actions/0"
    assert (status, sorted(error["messages"])) == (
        400,
        [f"{place}/changes/0/extension_id", f"{place}/page_id"],
    )


async def test_the_baseline_is_the_first_variation_unless_set(experiments: Caller) -> None:
    made = await make(experiments)
    second = str(made["variations"][1]["variation_id"])
    changed = await patched(experiments, made, baseline_variation_id=second)
    assert changed["baseline_variation_id"] == second
    assert changed["results_settings"]["baseline_variation_id"] == second
    assert (await experiments.patch(f"/experiments/{made['id']}", {"baseline_variation_id": "1"}))[0] == 400


# Tests of features


async def feature(experiments: Caller, key: str = "cart", **given: Any) -> Any:
    return await experiments.made("/features", {**OWNER, "key": key, "name": f"The {key}", **given})


async def test_a_test_of_a_feature_has_its_type_and_the_features_key_and_name(experiments: Caller) -> None:
    cart, search = await feature(experiments), await feature(experiments, "search")
    forged = {"type": "a/b", "feature_key": "forged", "feature_name": "forged"}
    made = await make(experiments, feature_id=cart["id"], **forged)
    assert (made["type"], made["feature_key"], made["feature_name"]) == ("feature", "cart", "The cart")
    by_key = await make(experiments, feature_key="cart")
    assert (by_key["type"], by_key["feature_id"]) == ("feature", cart["id"])
    plain = await make(experiments, feature_name="forged")
    assert (plain["type"], "feature_name" in plain) == ("a/b", False)
    changed = await patched(experiments, plain, feature_id=search["id"])
    assert (changed["type"], changed["feature_key"]) == ("feature", "search")


async def test_400_for_a_feature_that_cannot_be_tested(experiments: Caller) -> None:
    made = await make(experiments)
    foreign, gone = await feature(experiments, project_id=99), await feature(experiments, "gone")
    assert (await experiments.delete(f"/features/{gone['id']}"))[0] == 204
    for feature_id, problem in (
        (12345, "is no feature of this project"),
        (foreign["id"], "is no feature of this project"),
        (gone["id"], "is an archived feature"),
    ):
        wrong = (400, {"/body/feature_id": problem})
        status, error = await experiments.post("/experiments", {**OWNER, "feature_id": feature_id})
        assert (status, error["messages"]) == wrong
        status, error = await experiments.patch(f"/experiments/{made['id']}", {"feature_id": feature_id})
        assert (status, error["messages"]) == wrong
    status, error = await experiments.post("/experiments", {**OWNER, "feature_key": "cart"})
    assert (status, list(error["messages"])) == (400, ["/body/feature_key"])


async def test_409_for_another_feature_once_the_experiment_has_started(experiments: Caller) -> None:
    cart, search = await feature(experiments), await feature(experiments, "search")
    made = await make(experiments, "?action=start", feature_id=cart["id"])
    path = f"/experiments/{made['id']}"
    assert (await experiments.patch(path, {"feature_id": search["id"]}))[0] == 409
    assert (await experiments.patch(path, {"feature_id": cart["id"], "name": "x"}))[0] == 200


async def test_400_for_values_that_do_not_fit_the_features_variables(experiments: Caller) -> None:
    count = {"key": "a/b", "type": "integer", "default_value": "1"}
    cart = await feature(experiments, variables=[count])

    def variations(values: dict[str, str]) -> Any:
        return [{"key": "a", "weight": 10000, "variable_values": values}]

    made = await make(experiments, feature_id=cart["id"], variations=variations({"a/b": "2"}))
    for values, place in (({"a/b": "two"}, "a~1b"), ({"size": "2"}, "size")):
        status, error = await experiments.patch(
            f"/experiments/{made['id']}", {"variations": variations(values)}
        )
        assert (status, list(error["messages"])) == (400, [f"/body/variations/0/variable_values/{place}"])


# The life of an experiment


async def test_actions_move_the_status(experiments: Caller) -> None:
    made = await make(experiments)
    statuses = [
        (await patched(experiments, made, f"?action={action}"))["status"]
        for action in ("publish", "start", "pause", "resume", "start")
    ]
    assert statuses == ["not_started", "running", "paused", "running", "running"]


async def test_204_delete_archives_and_410_the_second_time(experiments: Caller) -> None:
    made = await make(experiments, "?action=start")
    path = f"/experiments/{made['id']}"
    assert await experiments.delete(path) == (204, None)
    status, error = await experiments.delete(path)
    assert (status, error["code"]) == (410, "gone")
    archived = (await experiments.get(path))[1]
    assert archived["status"] == "archived"
    assert archived["latest"] >= archived["earliest"]
    assert (await experiments.get(f"/layers/{made['layer_id']}"))[1]["status"] == "archived"
    assert (await experiments.patch(path, {"name": "x"}))[0] == 409
    assert (await patched(experiments, made, "?action=unarchive"))["status"] == "paused"


async def test_409_for_an_action_that_makes_no_sense(experiments: Caller) -> None:
    made = await make(experiments)
    status, error = await experiments.patch(f"/experiments/{made['id']}?action=resume", {"name": "half"})
    assert status == 409
    assert error["message"] == "action resume is not possible: the experiment is not_started"
    assert (await experiments.get(f"/experiments/{made['id']}"))[1] == made


async def test_409_for_a_start_without_variations(experiments: Caller) -> None:
    made = await make(experiments, variations=[])
    assert (await experiments.patch(f"/experiments/{made['id']}?action=start", {}))[0] == 409


async def test_409_for_a_start_without_active_variations(experiments: Caller) -> None:
    paused = [{**variation, "status": "paused"} for variation in TWO]
    made = await make(experiments, variations=paused)
    assert (await experiments.patch(f"/experiments/{made['id']}?action=start", {}))[0] == 409
    started = await make(experiments, "?action=start")
    paused = [{**variation, "status": "paused"} for variation in started["variations"]]
    again = await patched(experiments, started, "?action=start", variations=paused)
    assert again["status"] == "running"


NOWHERE = "the experiment has no page to run on: give it page_ids or url_targeting, then start it"


@pytest.mark.parametrize("action", ["start", "publish"])
async def test_409_for_a_start_on_no_page(experiments: Caller, action: str) -> None:
    ahead = {"schedule": {"start_time": "2099-01-01"}} if action == "publish" else {}
    made = await make(experiments, page_ids=[], **ahead)
    path = f"/experiments/{made['id']}?action={action}"
    status, error = await experiments.patch(path, {})
    assert (status, error["code"], error["message"]) == (409, "conflict", NOWHERE)
    assert await experiments.get(f"/experiments/{made['id']}") == (200, made)
    assert (await experiments.patch(path, {"url_targeting": SOMEWHERE}))[0] == 200


async def test_409_for_a_new_experiment_that_is_to_run_on_no_page(experiments: Caller) -> None:
    body = {**OWNER, "variations": TWO}
    assert (await experiments.post("/experiments?action=start", body))[0] == 409
    assert (await experiments.get("/experiments"))[1]["total"] == 0
    assert (await experiments.post("/experiments?action=pause", body))[0] == 201


async def test_409_for_resuming_what_has_lost_its_page_and_200_for_pausing_it(experiments: Caller) -> None:
    page = await experiments.made("/pages", {**OWNER, "name": "Cart", **SOMEWHERE})
    made = await make(experiments, "?action=start", page_ids=[page["id"]])
    assert (await patched(experiments, made, "?action=pause", page_ids=[]))["status"] == "paused"
    assert (await experiments.patch(f"/experiments/{made['id']}?action=resume", {}))[0] == 409


def without_a_page(experiment: Any, owner: str = "it") -> tuple[int, str]:
    return 409, (
        f"experiment {experiment['id']}, which runs, would have no page to run on: pause it first,"
        f" or give {owner} page_ids or url_targeting"
    )


@pytest.mark.parametrize("action", ["start", "publish"])
async def test_409_for_taking_the_last_page_from_what_runs_or_is_to_run(
    experiments: Caller, action: str
) -> None:
    page = await experiments.made("/pages", {**OWNER, "name": "Cart", **SOMEWHERE})
    ahead = {"schedule": {"start_time": "2099-01-01"}} if action == "publish" else {}
    made = await make(experiments, f"?action={action}", page_ids=[page["id"]], **ahead)
    path = f"/experiments/{made['id']}"
    status, error = await experiments.patch(path, {"page_ids": []})
    assert (status, error["message"]) == without_a_page(made)
    assert await experiments.get(path) == (200, made)
    assert (await experiments.patch(path, {"url_targeting": SOMEWHERE}))[0] == 200


async def test_409_for_taking_the_last_page_from_what_runs_in_an_environment(experiments: Caller) -> None:
    page = await experiments.made("/pages", {**OWNER, "name": "Cart", **SOMEWHERE})
    running = {"staging": {"is_primary": False, "status": "running"}}
    made = await make(experiments, page_ids=[page["id"]], environments=running)
    assert made["status"] == "not_started"
    status, error = await experiments.patch(f"/experiments/{made['id']}", {"page_ids": []})
    assert (status, error["message"]) == without_a_page(made)


async def test_what_does_not_run_can_lose_its_last_page(experiments: Caller) -> None:
    page = await experiments.made("/pages", {**OWNER, "name": "Cart", **SOMEWHERE})
    for action in ("", "?action=pause"):
        made = await make(experiments, action, page_ids=[page["id"]])
        assert (await patched(experiments, made, page_ids=[]))["page_ids"] == []


async def test_409_for_taking_from_a_campaign_the_last_page_of_an_experience_that_runs(
    experiments: Caller,
) -> None:
    page = await experiments.made("/pages", {**OWNER, "name": "Cart", **SOMEWHERE})
    body = {**OWNER, "type": "personalization", "page_ids": [page["id"]]}
    campaign = await experiments.made("/layers", body)
    path = f"/layers/{campaign['id']}"
    one = {**OWNER, "variations": TWO, "campaign_id": campaign["id"]}
    made = await experiments.made("/experiments?action=start", one)
    status, error = await experiments.patch(path, {"page_ids": []})
    assert (status, error["message"]) == without_a_page(made, "it or its campaign")
    assert (await experiments.get(path))[1]["page_ids"] == [page["id"]]
    await patched(experiments, made, page_ids=[page["id"]])
    assert (await experiments.patch(path, {"page_ids": []}))[0] == 200
    status, error = await experiments.patch(f"/experiments/{made['id']}", {"page_ids": []})
    assert (status, error["message"]) == without_a_page(made, "it or its campaign")
    await patched(experiments, made, "?action=pause", page_ids=[])


async def test_an_experience_runs_on_the_pages_of_its_campaign(experiments: Caller) -> None:
    campaign = await experiments.made("/layers", {**OWNER, "type": "personalization"})
    body = {**OWNER, "variations": TWO, "campaign_id": campaign["id"]}
    made = await experiments.made("/experiments", body)
    path = f"/experiments/{made['id']}?action=start"
    status, error = await experiments.patch(path, {})
    assert (status, error["message"]) == (409, NOWHERE.replace("it page_ids", "it or its campaign page_ids"))
    status, _ = await experiments.patch(f"/layers/{campaign['id']}", {"url_targeting": SOMEWHERE})
    assert (status, (await experiments.patch(path, {}))[0]) == (200, 200)


async def test_only_on_the_web_an_experiment_needs_a_page(experiments: Caller) -> None:
    body = {**OWNER, "variations": TWO, "platform": "custom"}
    assert (await experiments.made("/experiments?action=start", body))["status"] == "running"


async def test_409_for_a_start_with_an_archived_feature(experiments: Caller) -> None:
    cart = await feature(experiments)
    made = await make(experiments, feature_id=cart["id"])
    assert (await experiments.delete(f"/features/{cart['id']}"))[0] == 204
    status, error = await experiments.patch(f"/experiments/{made['id']}?action=start", {})
    assert (status, error["message"]) == (
        409,
        f"the feature {cart['id']} is archived: an experiment with it cannot start",
    )


async def test_400_for_an_unknown_action(experiments: Caller) -> None:
    made = await make(experiments)
    assert (await experiments.patch(f"/experiments/{made['id']}?action=explode", {}))[0] == 400
    assert (await experiments.post("/experiments?action=resume", OWNER))[0] == 400


async def test_an_experiment_can_be_made_started_or_paused(experiments: Caller) -> None:
    assert (await make(experiments, "?action=start"))["status"] == "running"
    assert (await make(experiments, "?action=pause"))["status"] == "paused"


async def test_at_loads_history(experiments: Caller) -> None:
    made = await make(experiments, "?at=2026-01-01T00:00:00Z")
    started = await patched(experiments, made, "?action=start&at=2026-01-02T00:00:00Z")
    assert (started["created"], started["earliest"]) == ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    assert "latest" not in started
    paused = await patched(experiments, made, "?action=pause&at=2026-01-05T00:00:00Z")
    assert (paused["earliest"], paused["latest"]) == ("2026-01-02T00:00:00Z", "2026-01-05T00:00:00Z")
    early = await experiments.patch(f"/experiments/{made['id']}?at=2025-01-01T00:00:00Z", {})
    assert early[0] == 400


async def test_a_schedule_that_has_passed_concludes(experiments: Caller) -> None:
    schedule = {"stop_time": "2026-01-09T00:00:00Z"}
    made = await make(experiments, "?action=start&at=2026-01-01T00:00:00Z", schedule=schedule)
    now = (await experiments.get(f"/experiments/{made['id']}"))[1]
    assert (now["status"], now["latest"]) == ("concluded", "2026-01-09T00:00:00Z")
    assert (await experiments.patch(f"/experiments/{made['id']}?action=start", {}))[0] == 409
    assert await experiments.delete(f"/experiments/{made['id']}") == (204, None)


async def test_a_concluded_experiment_runs_again_with_a_new_schedule(experiments: Caller) -> None:
    schedule = {"stop_time": "2026-01-09T00:00:00Z"}
    made = await make(experiments, "?action=start&at=2026-01-01T00:00:00Z", schedule=schedule)
    again = await patched(
        experiments, made, "?action=start&at=2026-01-11T00:00:00Z", schedule={"time_zone": "UTC"}
    )
    assert (again["status"], again["earliest"], "latest" in again) == ("running", made["earliest"], False)
    assert [(run["start_time"], run["end_time"]) for run in again["runs"]] == [
        ("2026-01-01T00:00:00Z", "2026-01-09T00:00:00Z"),
        ("2026-01-11T00:00:00Z", None),
    ]


async def test_publish_waits_for_the_start_of_the_schedule(experiments: Caller) -> None:
    schedule = {"start_time": "2026-01-03T00:00:00Z"}
    made = await make(experiments, "?action=publish&at=2026-01-01T00:00:00Z", schedule=schedule)
    later = await make(experiments, "?at=2026-01-01T00:00:00Z", schedule=schedule)
    await patched(experiments, later, "?action=publish&at=2026-01-02T00:00:00Z")
    for one in (made, later):
        _, now = await experiments.get(f"/experiments/{one['id']}")
        assert (now["status"], now["earliest"]) == ("running", "2026-01-03T00:00:00Z")
        assert now["stats_config"]["confidence_level"] == 0.9


async def test_409_for_publishing_what_its_schedule_could_not_start(experiments: Caller) -> None:
    schedule = {"start_time": "2030-01-01T00:00:00Z"}
    made = await make(experiments, variations=[], schedule=schedule)
    assert (await experiments.patch(f"/experiments/{made['id']}?action=publish", {}))[0] == 409


# What results are computed by


async def test_level_kind_of_difference_and_baseline_freeze_at_the_first_start(experiments: Caller) -> None:
    made = await make(experiments, stats_config={"confidence_level": 0.95})
    await patched(experiments, made, stats_config={"confidence_level": 0.8})
    frozen = (await patched(experiments, made, "?action=start"))["results_settings"]
    assert frozen["stats_config"]["confidence_level"] == 0.8

    edited = await patched(
        experiments,
        made,
        stats_config={"confidence_level": 0.99, "difference_type": "absolute"},
        baseline_variation_id=str(made["variations"][1]["variation_id"]),
    )
    await patched(experiments, made, "?action=pause")
    resumed = await patched(experiments, made, "?action=start")
    assert resumed["results_settings"] == edited["results_settings"] == frozen
    assert resumed["stats_config"] == frozen["stats_config"]
    assert resumed["baseline_variation_id"] == frozen["baseline_variation_id"]


async def test_a_metrics_title_is_its_name_in_results(experiments: Caller) -> None:
    buy = await experiments.made("/events", {**OWNER, "key": "buy", "event_type": "custom"})
    titled, plain = (
        {"event_id": buy["id"], "display_title": "Orders"},
        {"event_id": buy["id"], "scope": "event"},
    )
    made = await make(experiments, "?action=start", metrics=[titled, plain])
    assert made["metrics"][0]["display_title"] == "Orders"
    assert made["results_settings"]["metric_names"] == ["Orders", "buy"]


@pytest_asyncio.fixture
async def both(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> tuple[Caller, Caller, Any]:
    """A projects service, an experiments service that knows it, and a project whose threshold is 0.95."""
    projects = await serve("projects")
    account = await projects.made("/accounts", {"name": "Shop"})
    given = {"account_id": account["id"], "name": "Web", "confidence_threshold": 0.95}
    project = await projects.made("/projects", given)
    monkeypatch.setenv(PROJECTS_URL, projects.url)
    return projects, await serve("experiments"), project


def level(experiment: Any) -> float | None:
    found: float | None = experiment["results_settings"]["stats_config"].get("confidence_level")
    return found


async def test_an_experiment_without_a_level_has_that_of_its_project_at_the_first_start(
    both: tuple[Caller, Caller, Any],
) -> None:
    projects, experiments, project = both
    of_project = {"account_id": project["account_id"], "project_id": project["id"]}
    waiting = await make(experiments, **of_project)
    own = await make(experiments, **of_project, stats_config={"confidence_level": 0.8})
    started = await make(experiments, "?action=start", **of_project)
    assert [level(one) for one in (waiting, own, started)] == [None, 0.8, 0.95]
    assert (await projects.patch(f"/projects/{project['id']}", {"confidence_threshold": 0.99}))[0] == 200
    after = [await patched(experiments, one, "?action=start") for one in (waiting, own, started)]
    assert [level(one) for one in after] == [0.99, 0.8, 0.95]


async def test_503_for_a_start_while_the_project_cannot_be_asked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROJECTS_URL, f"http://127.0.0.1:{free_port()}")
    experiments = await serve("experiments")
    made = await make(experiments)
    status, error = await experiments.patch(f"/experiments/{made['id']}?action=start", {})
    assert (status, error["code"]) == (503, "unavailable")
    assert (await experiments.get(f"/experiments/{made['id']}"))[1]["status"] == "not_started"
    await make(experiments, "?action=start", stats_config={"confidence_level": 0.9})


async def test_without_the_address_of_the_projects_service_the_level_is_90_percent(
    experiments: Caller,
) -> None:
    assert level(await make(experiments, "?action=start")) == 0.9


async def test_results_settings_follow_the_present_variations_and_metrics(experiments: Caller) -> None:
    buy, look = await event(experiments), await event(experiments, "look")
    made = await make(experiments, "?action=start", metrics=[{"event_id": buy["id"]}])
    third = [{**made["variations"][0], "weight": 4000, "name": "X"}, made["variations"][1], {"weight": 1000}]
    added = [{"event_id": look["id"], "aggregator": "count"}, {"event_id": buy["id"]}]
    settings = (await patched(experiments, made, metrics=added, variations=third))["results_settings"]
    assert settings["metric_names"] == ["look it", "buy it"]
    assert [metric["event_id"] for metric in settings["metrics"]] == [look["id"], buy["id"]]
    assert [variation["name"] for variation in settings["variations"]] == ["X", "New", "Variation #3"]


async def test_a_metric_means_in_results_what_it_meant_at_the_first_start(experiments: Caller) -> None:
    buy = await event(experiments)
    made = await make(experiments, "?action=start", metrics=[{"event_id": buy["id"]}])
    turned = [{"event_id": buy["id"], "winning_direction": "decreasing"}]
    edited = await patched(experiments, made, metrics=turned)
    assert edited["metrics"][0]["winning_direction"] == "decreasing"
    assert edited["results_settings"]["metrics"] == made["metrics"]


async def test_an_edit_after_a_scheduled_start_does_not_change_the_level(experiments: Caller) -> None:
    made = await make(
        experiments, "?action=start&at=2026-01-01T00:00:00Z", schedule={"start_time": "2026-01-03T00:00:00Z"}
    )
    assert made["status"] == "not_started"
    now = (await experiments.get(f"/experiments/{made['id']}"))[1]
    assert (now["status"], now["earliest"]) == ("running", "2026-01-03T00:00:00Z")
    level = {"confidence_level": 0.95}
    before = await patched(experiments, made, "?at=2026-01-02T00:00:00Z", stats_config=level)
    assert before["results_settings"]["stats_config"]["confidence_level"] == 0.95
    after = await patched(experiments, made, stats_config={"confidence_level": 0.8})
    assert after["results_settings"]["stats_config"]["confidence_level"] == 0.95


# When it ran


def times(experiment: Any) -> list[tuple[str, str | None]]:
    """Start and end of each run, in hours of the first of January."""
    found = [(run["start_time"], run["end_time"]) for run in experiment["runs"]]
    return [(start[11:13], end and end[11:13]) for start, end in found]


def at(hour: int, action: str = "") -> str:
    return f"?at=2026-01-01T{hour:02}:00:00Z" + (f"&action={action}" if action else "")


async def test_runs_begin_with_each_start_and_end_with_each_pause(experiments: Caller) -> None:
    made = await make(experiments, at(1))
    assert made["runs"] == []
    assert times(await patched(experiments, made, at(2, "start"))) == [("02", None)]
    assert times(await patched(experiments, made, at(3, "pause"))) == [("02", "03")]
    assert times(await patched(experiments, made, at(5, "resume"))) == [("02", "03"), ("05", None)]
    assert times(await patched(experiments, made, at(6, "start"))) == [("02", "03"), ("05", None)]
    assert (await experiments.delete(f"/experiments/{made['id']}{at(7)}"))[0] == 204
    archived = (await experiments.get(f"/experiments/{made['id']}"))[1]
    assert times(archived) == [("02", "03"), ("05", "07")]


async def test_a_change_of_weights_begins_a_run_while_it_runs_only(experiments: Caller) -> None:
    made = await make(experiments, at(1, "start"))
    control, new = (variation["variation_id"] for variation in made["variations"])
    more = [{"variation_id": control, "weight": 9000}, {"variation_id": new, "weight": 1000}]
    changed = await patched(experiments, made, at(2), variations=more)
    assert times(changed) == [("01", "02"), ("02", None)]
    assert [run["weights"] for run in changed["runs"]] == [
        {str(control): 5000, str(new): 5000},
        {str(control): 9000, str(new): 1000},
    ]
    assert times(await patched(experiments, made, at(3), name="Another", variations=more)) == times(changed)
    await patched(experiments, made, at(4, "pause"))
    paused = await patched(experiments, made, at(5), variations=made["variations"])
    assert times(paused) == [("01", "02"), ("02", "04")]
    resumed = await patched(experiments, made, at(6, "start"))
    assert resumed["runs"][-1]["weights"] == {str(control): 5000, str(new): 5000}


async def test_a_variation_that_is_not_active_has_no_weight_in_a_run(experiments: Caller) -> None:
    made = await make(experiments, at(1, "start"))
    control, new = made["variations"]
    changed = await patched(experiments, made, at(2), variations=[control, {**new, "status": "paused"}])
    assert changed["runs"][-1]["weights"][str(new["variation_id"])] == 0


async def test_runs_follow_the_schedule(experiments: Caller) -> None:
    schedule = {"start_time": "2026-01-01T02:00:00Z", "stop_time": "2026-01-01T04:00:00Z"}
    made = await make(experiments, at(1, "start"), schedule=schedule)
    assert made["runs"] == []
    assert times((await experiments.get(f"/experiments/{made['id']}"))[1]) == [("02", "04")]
    assert times(await patched(experiments, made, name="Saved")) == [("02", "04")]


async def test_an_experiment_does_not_run_while_its_campaign_is_paused(experiments: Caller) -> None:
    layer = await experiments.made("/layers" + at(0, "start"), {**OWNER, "name": "Visitors from search"})
    made = await make(experiments, at(1, "start"), type="personalization", campaign_id=layer["id"])
    path = f"/layers/{layer['id']}"

    async def after(hour: int, action: str) -> list[tuple[str, str | None]]:
        assert (await experiments.patch(path + at(hour, action), {}))[0] == 200
        return times((await experiments.get(f"/experiments/{made['id']}"))[1])

    assert await after(2, "pause") == [("01", "02")]
    assert await after(3, "resume") == [("01", "02"), ("03", None)]
    assert await after(4, "pause") == [("01", "02"), ("03", "04")]
    assert (await experiments.delete(path + at(5)))[0] == 204
    archived = (await experiments.get(f"/experiments/{made['id']}"))[1]
    assert times(archived) == [("01", "02"), ("03", "04")]


async def test_experiments_of_an_earlier_release_ran_from_their_first_start_to_their_last_end(
    experiments: Caller,
) -> None:
    running = await make(experiments, at(1, "start"))
    paused = await make(experiments, at(1, "start"))
    await patched(experiments, paused, at(2, "pause"))
    new = await make(experiments)
    await migrate_to(experiments.database_url, "experiments", "0001")
    await migrate_to(experiments.database_url, "experiments", "head")
    found = [(await experiments.get(f"/experiments/{one['id']}"))[1] for one in (running, paused, new)]
    assert [times(one) for one in found] == [[("01", None)], [("01", "02")], []]
    assert found[0]["runs"] == running["runs"]


async def test_experiments_of_an_earlier_release_need_a_page_on_the_web_alone(experiments: Caller) -> None:
    environment = {"id": 5, "key": "production", "sdk_key": "s", "is_primary": True, "archived": False}
    noon = "2026-01-05T12:00:00Z"
    project = {**OWNER, "platform": "custom", "anonymize_ip": True, "project_version": noon}
    named = {**project, "environments": [{**environment, "version": noon}]}
    assert (await experiments.post("/datafiles", named))[0] == 200
    in_code, on_a_site = [
        await experiments.made("/experiments", {**OWNER, "project_id": project_id, "variations": TWO})
        for project_id in (OWNER["project_id"], 99)
    ]
    await migrate_to(experiments.database_url, "experiments", "0010")
    await migrate_to(experiments.database_url, "experiments", "head")
    started = [
        (await experiments.patch(f"/experiments/{one['id']}?action=start", {}))[0]
        for one in (in_code, on_a_site)
    ]
    assert started == [200, 409]


# Layers


async def campaign(experiments: Caller, **given: Any) -> Any:
    return await experiments.made("/layers", {**OWNER, "name": "Visitors from search", **given})


async def test_a_lone_experiments_layer_shares_its_name_metrics_and_status(experiments: Caller) -> None:
    buy = await event(experiments)
    made = await make(experiments, "?action=start", metrics=[{"event_id": buy["id"]}])
    layer = (await experiments.get(f"/layers/{made['layer_id']}"))[1]
    assert (layer["type"], layer["name"], layer["status"]) == ("other", "Checkout", "running")
    assert (layer["metrics"], layer["metric_names"]) == (made["metrics"], ["buy it"])
    assert (layer["experiment_ids"], layer["earliest"]) == ([made["id"]], made["earliest"])


async def test_the_metrics_of_a_campaign_count_for_its_experiences_which_have_none(
    experiments: Caller,
) -> None:
    buy = await event(experiments)
    layer = await campaign(experiments, metrics=[{"event_id": buy["id"]}])
    own = [{"aggregator": "sum", "field": "revenue"}]
    made = await make(experiments, "?action=start", campaign_id=layer["id"], metrics=own)
    assert (made["type"], made["metrics"]) == ("personalization", [])
    assert made["results_settings"]["metrics"] == layer["metrics"]
    assert made["results_settings"]["metric_names"] == ["buy it"]
    assert (await patched(experiments, made, metrics=own))["metrics"] == []
    found = (await experiments.get(f"/layers/{layer['id']}"))[1]
    assert found["experiment_ids"] == [made["id"]]
    assert found["experiment_priorities"] == [[made["id"]]]


async def test_a_campaign_and_its_experiences_run_when_both_are_started(experiments: Caller) -> None:
    layer = await campaign(experiments)
    running = await make(experiments, "?action=start", campaign_id=layer["id"])
    waiting = await make(experiments, campaign_id=layer["id"])
    by_hand = await make(experiments, campaign_id=layer["id"])
    path = f"/layers/{layer['id']}"
    await experiments.delete(f"/experiments/{by_hand['id']}")

    async def statuses(action: str) -> list[str]:
        assert (await experiments.patch(f"{path}?action={action}", {}))[0] == 200
        found = [
            (await experiments.get(f"/experiments/{one['id']}"))[1] for one in (running, waiting, by_hand)
        ]
        return [(await experiments.get(path))[1]["status"], *(one["status"] for one in found)]

    assert running["status"] == "campaign_paused"
    assert await statuses("publish") == ["not_started", "campaign_paused", "not_started", "archived"]
    assert await statuses("start") == ["running", "running", "not_started", "archived"]
    assert await statuses("pause") == ["paused", "campaign_paused", "not_started", "archived"]
    assert await statuses("resume") == ["running", "running", "not_started", "archived"]
    assert await experiments.delete(path) == (204, None)
    assert (await experiments.get(f"/experiments/{waiting['id']}"))[1]["status"] == "archived"
    assert (await experiments.delete(path))[0] == 410
    assert (await experiments.patch(f"{path}?action=pause", {}))[0] == 409
    assert await statuses("unarchive") == ["paused", "campaign_paused", "not_started", "archived"]
    assert await statuses("start") == ["running", "running", "not_started", "archived"]


async def test_409_for_bringing_back_an_experience_of_an_archived_campaign(experiments: Caller) -> None:
    layer = await campaign(experiments)
    made = await make(experiments, campaign_id=layer["id"])
    path, its_path = f"/layers/{layer['id']}", f"/experiments/{made['id']}"
    assert (await experiments.delete(path))[0] == 204
    assert (await experiments.patch(f"{its_path}?action=unarchive", {}))[0] == 409
    found = [(await experiments.get(one))[1]["status"] for one in (path, its_path)]
    assert found == ["archived", "archived"]
    assert (await experiments.patch(f"{path}?action=unarchive", {}))[0] == 200
    assert (await experiments.delete(its_path))[0] == 204
    assert (await patched(experiments, made, "?action=unarchive"))["status"] == "paused"


@pytest.mark.parametrize(("returns", "starts"), [(3, "05"), (6, "06")], ids=["before", "after"])
async def test_an_experience_that_waits_for_its_schedule_waits_on_after_the_archive(
    experiments: Caller, returns: int, starts: str
) -> None:
    layer = await experiments.made("/layers" + at(0, "start"), {**OWNER, "name": "Visitors from search"})
    schedule = {"start_time": "2026-01-01T05:00:00Z"}
    made = await make(experiments, at(1, "start"), campaign_id=layer["id"], schedule=schedule)
    path = f"/layers/{layer['id']}"
    assert (await experiments.delete(path + at(2)))[0] == 204
    for hour, action in ((returns, "unarchive"), (returns, "start")):
        assert (await experiments.patch(path + at(hour, action), {}))[0] == 200
    found = (await experiments.get(f"/experiments/{made['id']}"))[1]
    assert (found["status"], times(found)) == ("running", [(starts, None)])


async def test_campaigns_of_an_earlier_release_run_when_one_of_their_experiences_has_started(
    experiments: Caller,
) -> None:
    started, empty = await campaign(experiments), await campaign(experiments)
    made = await make(experiments, "?action=start", campaign_id=started["id"])
    await experiments.patch(f"/layers/{started['id']}?action=start", {})
    await migrate_to(experiments.database_url, "experiments", "0002")
    await migrate_to(experiments.database_url, "experiments", "head")
    found = [(await experiments.get(f"/layers/{one['id']}"))[1] for one in (started, empty)]
    assert [one["status"] for one in found] == ["running", "not_started"]
    assert found[0]["earliest"] == made["earliest"]
    assert (await experiments.get(f"/experiments/{made['id']}"))[1]["status"] == "running"


async def test_a_campaign_made_with_start_runs_and_with_publish_is_paused(experiments: Caller) -> None:
    started = await experiments.made("/layers?action=start", OWNER)
    assert (started["status"], "earliest" in started, "latest" in started) == ("running", True, False)
    assert (await experiments.made("/layers?action=publish", OWNER))["status"] == "paused"
    paused = (await experiments.patch(f"/layers/{started['id']}?action=pause", {}))[1]
    assert paused["latest"] >= paused["earliest"]


async def test_200_a_whole_campaign_can_be_sent_back(experiments: Caller) -> None:
    layer = await campaign(experiments)
    await make(experiments, campaign_id=layer["id"])
    before = (await experiments.get(f"/layers/{layer['id']}"))[1]
    status, same = await experiments.patch(f"/layers/{layer['id']}", {**before, "newer": 1})
    assert status == 200
    assert {**same, "last_modified": 0} == {**before, "last_modified": 0}


async def test_a_campaign_has_defaults(experiments: Caller) -> None:
    layer = await experiments.made("/layers", OWNER)
    assert layer["name"] == f"Campaign {layer['id']}"
    assert (layer["holdback"], layer["description"]) == (500, "")
    assert all(layer[name] == [] for name in ("changes", "metrics", "page_ids", "experiment_priorities"))
    assert (await experiments.post("/layers", {**OWNER, "type": "other"}))[0] == 400


async def test_priorities_hold_every_experience_once(experiments: Caller) -> None:
    layer = await campaign(experiments)
    first, second, third = [(await make(experiments, campaign_id=layer["id"]))["id"] for _ in range(3)]
    path = f"/layers/{layer['id']}"

    async def order(**changes: Any) -> Any:
        return (await experiments.patch(path, changes))[1].get("experiment_priorities")

    assert await order() == [[first], [second], [third]]
    assert await order(experiment_priorities=[[third]]) == [[third], [first, second]]
    assert await order(experiment_priorities=[[third], [third]]) is None
    await experiments.delete(f"/experiments/{third}")
    fourth = (await make(experiments, campaign_id=layer["id"]))["id"]
    assert await order() == [[first, second], [fourth]]


async def test_409_for_changing_the_campaign_of_a_single_experiment(experiments: Caller) -> None:
    made = await make(experiments)
    path = f"/layers/{made['layer_id']}"
    assert (await experiments.patch(path, {"name": "x"}))[0] == 409
    assert (await experiments.delete(path))[0] == 409
    assert (await experiments.get("/layers?type=personalization"))[1]["total"] == 0
    await patched(experiments, made, name="Renamed")
    assert (await experiments.get(path))[1]["name"] == "Renamed"


async def test_400_for_an_experience_without_a_campaign_and_for_the_campaign_of_another(
    experiments: Caller,
) -> None:
    made = await make(experiments)
    for given in ({"type": "personalization"}, {"campaign_id": made["campaign_id"]}):
        status, error = await experiments.post("/experiments", {**OWNER, **given})
        assert (status, list(error["messages"])) == (400, ["/body/campaign_id"])


async def test_400_for_a_campaign_that_an_experiment_cannot_join(experiments: Caller) -> None:
    layer = await campaign(experiments, project_id=99)
    status, error = await experiments.post("/experiments", {**OWNER, "campaign_id": layer["id"]})
    assert (status, error["message"]) == (400, "/campaign_id: is no campaign of this project")
    own = await campaign(experiments)
    body = {**OWNER, "campaign_id": own["id"], "type": "a/b"}
    assert (await experiments.post("/experiments", body))[0] == 400
    priorities = {"experiment_priorities": [[12345]]}
    assert (await experiments.patch(f"/layers/{own['id']}", priorities))[0] == 400
    await experiments.delete(f"/layers/{own['id']}")
    status, error = await experiments.post("/experiments", {**OWNER, "campaign_id": own["id"]})
    assert (status, list(error["messages"])) == (400, ["/body/campaign_id"])


# Events


async def test_201_an_event_has_the_contracts_defaults(experiments: Caller) -> None:
    made = await experiments.made("/events", {**OWNER, "key": "buy"})
    assert (made["name"], made["event_type"], made["category"]) == ("buy", "custom", "other")
    assert (made["archived"], made["is_classic"], made["is_editable"]) == (False, False, True)
    assert await experiments.get(f"/events/{made['id']}") == (200, made)


async def test_400_for_an_event_without_name_and_key_and_for_a_taken_key(experiments: Caller) -> None:
    status, error = await experiments.post("/events", OWNER)
    assert (status, error["message"]) == (400, "/name: an event needs a name or a key")
    assert (await experiments.post("/events", {**OWNER, "key": "k", "category": "fun"}))[0] == 400
    await event(experiments)
    status, error = await experiments.post("/events", {**OWNER, "key": "buy"})
    assert (status, error["message"].startswith("/key: is already in use (id: ")) == (400, True)


async def test_lists_of_events_leave_out_classic_ones_unless_asked(experiments: Caller) -> None:
    plain, classic = await event(experiments), await event(experiments, "old", is_classic=True)
    assert classic["is_editable"] is False
    _, found = await experiments.get("/events?project_id=22")
    assert [item["id"] for item in found["items"]] == [plain["id"]]
    assert (await experiments.get("/events?project_id=22&include_classic=true"))[1]["total"] == 2
    assert (await experiments.get("/events?project_id=23"))[1]["total"] == 0


# Many at once, and again later


async def test_concurrent_actions_leave_one_consistent_state(experiments: Caller) -> None:
    made = await make(experiments)
    path = f"/experiments/{made['id']}"
    answers = await asyncio.gather(
        *(experiments.patch(f"{path}?action=start", {"description": str(n)}) for n in range(10)),
        *(experiments.delete(path) for _ in range(5)),
    )
    statuses = sorted(status for status, _ in answers)
    assert statuses.count(204) == 1
    assert statuses.count(410) == 4
    assert set(statuses) <= {200, 204, 409, 410}
    assert (await experiments.get(path))[1]["status"] == "archived"


async def test_a_restart_keeps_everything(serve: Serve, experiments: Caller) -> None:
    made = await make(experiments, "?action=start")
    again = await serve("experiments", experiments.database_url)
    assert await again.get(f"/experiments/{made['id']}") == (200, made)


# Names and states, for the usage of an account


async def test_labels_are_the_names_and_states_of_an_accounts_experiments(experiments: Caller) -> None:
    campaign = await experiments.made("/layers?action=start", {**OWNER, "type": "personalization"})
    first = await make(experiments, "?action=start", campaign_id=campaign["id"], type="personalization")
    second = await make(experiments, name="", key="cart")
    others, _ = await make(experiments, account_id=12), await make(experiments)
    await experiments.patch(f"/layers/{campaign['id']}?action=pause", {})
    asked = "&".join(f"id={one['id']}" for one in (first, second, others))
    status, listed = await experiments.get(f"/experiment_labels?account_id=11&{asked}")
    labels = [(one["id"], one["name"], one["status"]) for one in listed["items"]]
    assert (status, listed["total"]) == (200, 2)
    assert labels == [
        (first["id"], "Checkout", "campaign_paused"),
        (second["id"], "cart", "not_started"),
    ]
    assert all((one["account_id"], one["project_id"]) == (11, 22) for one in listed["items"])


@pytest.mark.parametrize("query", ["", "?account_id=11", "?id=12"])
async def test_400_for_labels_without_an_account_or_ids(experiments: Caller, query: str) -> None:
    assert (await experiments.get(f"/experiment_labels{query}"))[0] == 400
