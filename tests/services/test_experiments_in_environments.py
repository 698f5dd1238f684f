"""Experiments in the environments of a project: a status in each, of which the primary one's is the experiment's."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from optimizely_api.services.experiments import shapes, tables
from optimizely_api.services.storage.database import Database
from tests.services.conftest import Caller
from tests.services.test_experiments import OWNER, make, patched

PRODUCTION = {"id": 1, "is_primary": True}
STAGING = {"id": 2, "is_primary": False}
BOTH = {"production": PRODUCTION, "staging": STAGING}
START, STOP = "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"


async def made(experiments: Caller, query: str = "", **given: Any) -> Any:
    return await make(experiments, query, platform="custom", environments=BOTH, **given)


def statuses(experiment: Any) -> tuple[str, ...]:
    """The experiment's, production's and staging's."""
    in_each = [experiment["environments"][key]["status"] for key in BOTH]
    return (experiment["status"], *in_each)


def in_staging(status: str) -> Any:
    return {"environments": {**BOTH, "staging": {**STAGING, "status": status}}}


def in_production(status: str) -> Any:
    return {"environments": {**BOTH, "production": {**PRODUCTION, "status": status}}}


async def test_201_every_environment_begins_as_not_started(experiments: Caller) -> None:
    assert statuses(await made(experiments)) == ("not_started", "not_started", "not_started")


async def test_201_a_new_experiment_may_run_in_one_environment_at_once(experiments: Caller) -> None:
    begun = await make(experiments, **in_staging("running"))
    assert statuses(begun) == ("not_started", "not_started", "running")
    assert "earliest" not in begun


async def test_200_an_action_is_for_the_primary_environment(experiments: Caller) -> None:
    one = await made(experiments)
    assert statuses(await patched(experiments, one, "?action=start")) == ("running", "running", "not_started")
    assert statuses(await patched(experiments, one, "?action=pause")) == ("paused", "paused", "not_started")


async def test_200_a_body_sets_the_status_in_an_environment(experiments: Caller) -> None:
    one = await made(experiments)
    begun = await patched(experiments, one, **in_staging("running"))
    assert statuses(begun) == ("not_started", "not_started", "running")
    assert statuses(await patched(experiments, one, **in_staging("paused"))) == (
        "not_started",
        "not_started",
        "paused",
    )


async def test_200_a_body_that_sets_the_status_in_the_primary_environment_is_an_action(
    experiments: Caller,
) -> None:
    one = await made(experiments)
    started = await patched(experiments, one, **in_production("running"))
    assert statuses(started) == ("running", "running", "not_started")
    assert (len(started["runs"]), started["earliest"]) == (1, started["runs"][0]["start_time"])
    assert started["stats_config"]["confidence_level"] == 0.9


async def test_200_the_statuses_that_are_there_change_nothing(experiments: Caller) -> None:
    one = await make(experiments, "?action=start", **in_staging("running"))
    assert await patched(experiments, one, environments=one["environments"]) == one


@pytest.mark.parametrize(
    ("former", "status"),
    [((), "paused"), (("running",), "not_started"), (("running", "paused"), "not_started"), ((), "archived")],
)
async def test_409_for_a_status_that_an_environment_cannot_have_next(
    experiments: Caller, former: tuple[str, ...], status: str
) -> None:
    one = await made(experiments)
    for each in former:
        one = await patched(experiments, one, **in_staging(each))
    code, body = await experiments.patch(f"/experiments/{one['id']}", in_staging(status))
    assert (code, "environment staging" in body["message"]) == (409, True)
    assert await experiments.get(f"/experiments/{one['id']}") == (200, one)


async def test_409_for_an_experiment_without_variations_in_any_environment(experiments: Caller) -> None:
    one = await made(experiments, variations=[])
    assert (await experiments.patch(f"/experiments/{one['id']}", in_staging("running")))[0] == 409


async def test_400_for_environments_that_are_none_of_the_project(experiments: Caller) -> None:
    one = await made(experiments)
    unknown = {"environments": {**BOTH, "no/such": {"status": "running"}}}
    for answer in (
        await experiments.patch(f"/experiments/{one['id']}", unknown),
        await experiments.post("/experiments", {**OWNER, "variations": [], **unknown}),
    ):
        assert (answer[0], answer[1]["messages"]) == (
            400,
            {"/body/environments/no~1such": "is no environment of this project"},
        )


async def test_archiving_is_for_all_and_what_never_ran_comes_back_as_not_started(experiments: Caller) -> None:
    never, ran = await made(experiments), await make(experiments, "?action=start", **in_staging("running"))
    for one, restored in ((never, "not_started"), (ran, "paused")):
        assert (await experiments.delete(f"/experiments/{one['id']}"))[0] == 204
        _, archived = await experiments.get(f"/experiments/{one['id']}")
        assert statuses(archived) == ("archived", "archived", "archived")
        back = await patched(experiments, one, "?action=unarchive")
        assert statuses(back) == ("paused", "paused", restored)


async def test_200_an_environment_is_known_by_its_id_under_another_key(experiments: Caller) -> None:
    one = await make(experiments, **in_staging("running"))
    renamed = {"production": PRODUCTION, "qa": STAGING, "staging": {"id": 3, "is_primary": False}}
    renamed["staging"]["status"] = "running"
    changed = await patched(experiments, one, environments=renamed)
    of_key = {key: value["status"] for key, value in changed["environments"].items()}
    assert of_key == {"production": "not_started", "qa": "running", "staging": "running"}
    changed = await patched(
        experiments, one, environments={**renamed, "staging": {**renamed["staging"], "status": "paused"}}
    )
    assert changed["environments"]["qa"]["status"] == "running"


async def test_409_for_archiving_a_page_of_what_runs_in_another_environment_alone(
    experiments: Caller,
) -> None:
    page = await experiments.made("/pages", {**OWNER, "name": "Home", "edit_url": "https://shop.example/"})
    one = await make(experiments, page_ids=[page["id"]], **in_staging("running"))
    assert (await experiments.delete(f"/pages/{page['id']}"))[0] == 409
    await patched(experiments, one, **in_staging("paused"))
    assert (await experiments.delete(f"/pages/{page['id']}"))[0] == 204


async def test_a_variation_that_ran_in_another_environment_is_archived_when_it_is_left_out(
    experiments: Caller,
) -> None:
    one = await make(experiments, **in_staging("running"))
    kept = {**one["variations"][0], "weight": 10_000}
    changed = await patched(experiments, one, variations=[kept])
    assert [variation["archived"] for variation in changed["variations"]] == [False, True]


async def row_of(experiments: Caller, experiment: Any) -> Any:
    database = Database(experiments.database_url)
    try:
        async with database.snapshot() as connection:
            query = select(tables.experiments).where(tables.experiments.c.id == experiment["id"])
            return (await connection.execute(query)).one()
    finally:
        await database.close()


async def test_the_schedule_counts_in_every_environment_before_a_request_has_stored_its_effects(
    experiments: Caller,
) -> None:
    schedule = {"start_time": START, "stop_time": STOP}
    one = await make(
        experiments, "?action=start&at=2026-01-01T00:00:00Z", schedule=schedule, **in_staging("running")
    )
    row = await row_of(experiments, one)
    start, stop = datetime.fromisoformat(START), datetime.fromisoformat(STOP)
    for at, status in (
        (start - timedelta(hours=1), "not_started"),
        (start, "running"),
        (stop - timedelta(seconds=1), "running"),
        (stop, "paused"),
    ):
        assert [shapes.status_in(row, key, at) for key in BOTH] == [status, status], at


async def test_the_status_in_an_environment_follows_its_id_and_is_not_started_in_a_new_one(
    experiments: Caller,
) -> None:
    now = datetime.now(UTC)
    row = await row_of(experiments, await make(experiments, **in_staging("running")))
    assert shapes.status_in(row, "staging", now) == "running"
    assert shapes.status_in(row, "qa", now, environment_id=2) == "running"
    assert shapes.status_in(row, "staging", now, environment_id=3) == "not_started"
    assert shapes.status_in(row, "qa", now) == "not_started"


# Renamed environments


def named(key: str, version: str) -> Any:
    """The environment of the id 2 as the gateway names it."""
    environment = {"id": 2, "key": key, "sdk_key": "sdk-2", "is_primary": False, "archived": False}
    project = {"platform": "custom", "anonymize_ip": True, "project_version": "2026-01-05T12:00:00Z"}
    return {**OWNER, **project, "environments": [{**environment, "version": f"2026-01-05T12:00:0{version}Z"}]}


async def on_in_staging(experiments: Caller) -> tuple[Any, Any]:
    """An experiment that runs, and a feature that is on, in the environment that is called staging."""
    await experiments.post("/datafiles", named("staging", "0"))
    entry = {"id": 2, "is_primary": False}
    known = {"production": PRODUCTION, "staging": {**entry, "status": "running"}}
    experiment = await make(experiments, platform="custom", environments=known)
    rule = {"audience_conditions": "everyone", "enabled": True}
    body = {"key": "basket", "environments": {"staging": {**entry, "rollout_rules": [rule]}}}
    return experiment, await experiments.made("/features", {**OWNER, **body})


async def found_in(experiments: Caller, key: str) -> set[int]:
    _, found = await experiments.get(f"/search?account_id=11&environment_key={key}")
    return {one["id"] for one in found["items"]}


async def test_a_renamed_environment_is_searched_and_shown_by_its_new_key(experiments: Caller) -> None:
    made = {one["id"] for one in await on_in_staging(experiments)}
    assert await found_in(experiments, "staging") == made
    await experiments.post("/datafiles", named("acceptance", "1"))
    assert (await found_in(experiments, "acceptance"), await found_in(experiments, "staging")) == (
        made,
        set(),
    )
    for kind in ("experiments", "features"):
        _, listed = await experiments.get(f"/{kind}?project_id=22")
        (shown,) = (one["environments"] for one in listed["items"])
        assert "staging" not in shown
        assert shown["acceptance"]["id"] == 2


async def test_an_earlier_name_that_comes_later_changes_nothing(experiments: Caller) -> None:
    made = {one["id"] for one in await on_in_staging(experiments)}
    await experiments.post("/datafiles", named("acceptance", "2"))
    await experiments.post("/datafiles", named("trial", "1"))
    assert (await found_in(experiments, "acceptance"), await found_in(experiments, "trial")) == (made, set())


async def test_many_renamings_at_once_among_changes_end_with_the_last(experiments: Caller) -> None:
    experiment, feature = await on_in_staging(experiments)
    renamings = [experiments.post("/datafiles", named(f"name_{n}", f"{n}")) for n in range(1, 9)]
    changes = [
        experiments.patch(path, {"name": f"Name {number}"})
        for number in range(4)
        for path in (f"/experiments/{experiment['id']}", f"/features/{feature['id']}")
    ]
    answers = await asyncio.gather(*renamings, *changes)
    assert {status for status, _ in answers} == {200}
    assert await found_in(experiments, "name_8") == {experiment["id"], feature["id"]}
