"""Features, groups and sections in the experiments service: audiences, environments, and writers at the same moment."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from optimizely_api.services.storage.database import Database
from tests.services.conftest import Caller
from tests.services.test_experiments import OWNER, TWO, make

HERE, THERE = "production", "staging"
PRODUCTION = "/body/environments/production/rollout_rules/0/audience_conditions"
STAGING = "/body/environments/staging/rollout_rules/0/audience_conditions"


def environments(**rules: dict[str, Any]) -> dict[str, Any]:
    """As the gateway marks them; production is the primary one."""
    return {key: {"is_primary": key == HERE, "rollout_rules": [rule]} for key, rule in rules.items()}


async def feature(experiments: Caller, key: str = "checkout", **rules: dict[str, Any]) -> Any:
    given = environments(**{HERE: {}, THERE: {}, **rules})
    return await experiments.made("/features", {**OWNER, "key": key, "environments": given})


async def changed(experiments: Caller, made: Any, **rules: dict[str, Any]) -> tuple[int, Any]:
    return await experiments.patch(f"/features/{made['id']}", {"environments": environments(**rules)})


def conditions_of(made: Any) -> list[str]:
    return [
        environment["rollout_rules"][0]["audience_conditions"]
        for environment in made["environments"].values()
    ]


async def audience(experiments: Caller, audience_id: int, **members: Any) -> str:
    """An audience in the service's table; returns conditions that name it."""
    row = {
        "id": audience_id,
        "account_id": OWNER["account_id"],
        "project_id": OWNER["project_id"],
        "archived": False,
        **members,
    }
    database = Database(experiments.database_url)
    try:
        async with database.transaction() as connection:
            await connection.exec_driver_sql(
                "INSERT INTO audiences (id, account_id, project_id, archived, document, created, last_modified) VALUES "
                f"({row['id']}, {row['account_id']}, {row['project_id']}, {str(row['archived']).lower()}, '{{}}', "
                "'2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00')"
            )
    finally:
        await database.close()
    return json.dumps(["or", {"audience_id": audience_id}])


async def test_200_the_primary_environments_audiences_become_those_of_all(experiments: Caller) -> None:
    conditions = await audience(experiments, 7)
    made = await feature(experiments, staging={"enabled": True})
    status, body = await changed(experiments, made, production={"audience_conditions": conditions})
    assert (status, conditions_of(body)) == (200, [conditions, conditions])
    assert body["environments"][THERE]["rollout_rules"][0]["enabled"]


async def test_200_conditions_are_answered_with_sorted_keys_and_plain_separators(experiments: Caller) -> None:
    await audience(experiments, 7)
    made = await feature(experiments, production={"audience_conditions": '[ "or",{"audience_id":7} ]'})
    assert conditions_of(made)[0] == '["or", {"audience_id": 7}]'


async def test_400_for_audiences_that_differ_from_those_of_the_primary_environment(
    experiments: Caller,
) -> None:
    conditions = await audience(experiments, 7)
    made = await feature(experiments)
    status, body = await changed(experiments, made, staging={"audience_conditions": conditions})
    assert (status, list(body["messages"])) == (400, [STAGING])


async def test_400_for_an_audience_in_the_archive_or_of_another_project(experiments: Caller) -> None:
    made = await feature(experiments)
    archived = await audience(experiments, 7, archived=True)
    foreign = await audience(experiments, 8, project_id=99)
    for conditions in (archived, foreign):
        status, body = await changed(experiments, made, production={"audience_conditions": conditions})
        assert (status, list(body["messages"])) == (400, [PRODUCTION])


async def test_200_an_audience_archived_later_stays(experiments: Caller) -> None:
    made = await feature(experiments, production={"audience_conditions": await audience(experiments, 7)})
    database = Database(experiments.database_url)
    async with database.transaction() as connection:
        await connection.exec_driver_sql("UPDATE audiences SET archived = true")
    await database.close()
    status, body = await changed(experiments, made, production={"enabled": True})
    assert (status, conditions_of(body)) == (200, conditions_of(made))


async def test_200_an_environment_that_a_change_does_not_name_stays(experiments: Caller) -> None:
    made = await feature(experiments, production={"percentage_included": 100})
    _, body = await changed(experiments, made, staging={"enabled": True})
    assert body["environments"][HERE] == made["environments"][HERE]


async def test_409_the_type_of_a_variable_is_fixed_once_it_was_on(experiments: Caller) -> None:
    given = [{"key": "count", "type": "integer", "default_value": "1"}]
    body = {
        **OWNER,
        "key": "checkout",
        "variables": given,
        "environments": environments(staging={"enabled": True}),
    }
    made = await experiments.made("/features", body)
    status, _ = await experiments.patch(
        f"/features/{made['id']}", {"variables": [{**given[0], "type": "double"}]}
    )
    assert status == 409


async def test_409_a_started_test_fixes_the_type_of_a_variable_from_the_archive_too(
    experiments: Caller,
) -> None:
    given = [{"key": "count", "type": "integer", "default_value": "1"}]
    tested = await experiments.made("/features", {**OWNER, "key": "checkout", "variables": given})
    test = await make(experiments, "?action=start", feature_id=tested["id"])
    await experiments.delete(f"/experiments/{test['id']}")
    status, _ = await experiments.patch(
        f"/features/{tested['id']}", {"variables": [{**given[0], "type": "double"}]}
    )
    assert status == 409


async def test_one_of_two_groups_gets_an_experiment_that_both_want_at_once(experiments: Caller) -> None:
    wanted = {"kind": "Experiment", "id": (await make(experiments))["id"], "weight": 1}
    made = [await experiments.made("/groups", {**OWNER, "name": str(number)}) for number in range(2)]
    body = {"entities": [wanted]}
    answers = await asyncio.gather(
        *(experiments.patch(f"/groups/{group['id']}", body) for group in made),
        *(experiments.post("/groups", {**OWNER, "name": "New", **body}) for _ in range(2)),
    )
    assert sorted(status >= 400 for status, _ in answers) == [False, True, True, True]


@pytest.mark.parametrize("key", ["a/b", "~"])
async def test_400_names_an_unknown_environment_by_its_escaped_key(experiments: Caller, key: str) -> None:
    body = {**OWNER, "key": "checkout", "environments": {key: {"rollout_rules": []}}}
    status, answer = await experiments.post("/features", body)
    pointer = f"/body/environments/{key.replace('~', '~0').replace('/', '~1')}"
    assert (status, answer["messages"]) == (400, {pointer: "is no environment of this project"})


async def test_400_for_a_section_without_an_experiment(experiments: Caller) -> None:
    status, body = await experiments.post("/sections", {**OWNER, "variations": TWO})
    assert (status, body["messages"]) == (400, {"/body/experiment_id": "is required"})


async def test_sections_and_their_experiment_can_be_changed_at_once(experiments: Caller) -> None:
    made = await make(experiments, type="multivariate", variations=[])
    section = {**OWNER, "experiment_id": made["id"], "variations": TWO}
    answers = await asyncio.gather(
        *(experiments.post("/sections", section) for _ in range(3)),
        *(experiments.patch(f"/experiments/{made['id']}", {"name": str(number)}) for number in range(3)),
    )
    assert {status for status, _ in answers} == {200, 201}
    _, experiment = await experiments.get(f"/experiments/{made['id']}")
    assert sum(one["weight"] for one in experiment["variations"]) == 10_000
    assert len(experiment["variations"]) == 8
