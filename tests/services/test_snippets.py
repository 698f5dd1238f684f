"""What is in the snippet of a project for the web: when its revision rises, and how large it is, on both databases."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from optimizely_api.services.experiments.snippets.build import build
from optimizely_api.services.experiments.snippets.content import content
from optimizely_api.services.experiments.tables import snippets
from optimizely_api.services.storage.database import Database
from tests.services.conftest import Caller
from tests.services.test_experiments import OWNER, SOMEWHERE, TWO, make, patched

PROJECT = OWNER["project_id"]
NOON, LATER = "2026-01-05T12:00:00Z", "2026-01-05T13:00:00Z"


async def snippet(experiments: Caller, version: str = NOON, **settings: Any) -> Any:
    """What the service says of the project's snippet; the settings count the first time, and with a later version."""
    project = {**OWNER, "version": version, "settings": settings}
    status, body = await experiments.post("/snippets", {"projects": [project]})
    assert status == 200, body
    (one,) = body["items"]
    assert one["project_id"] == PROJECT
    return one


async def revision(experiments: Caller) -> int:
    return int((await snippet(experiments))["revision"])


async def in_use(experiments: Caller) -> dict[str, Any]:
    """What a new experiment uses: a page, an audience and an extension."""
    address = {"name": "Cart", "edit_url": "https://shop.example/cart"}
    banner = {**address, "fields": [], "implementation": {"html": "<b></b>"}}
    return {
        "page": await experiments.made("/pages", {**OWNER, **address}),
        "audience": await experiments.made("/audiences", {**OWNER, "name": "Shoppers"}),
        "extension": await experiments.made("/extensions", {**OWNER, **banner}),
    }


async def using(experiments: Caller, used: dict[str, Any], **given: Any) -> Any:
    changes = [{"type": "extension", "extension_id": str(used["extension"]["id"])}]
    actions = [{"page_id": used["page"]["id"], "changes": changes}]
    return await make(
        experiments,
        page_ids=[used["page"]["id"]],
        audience_conditions=json.dumps(["or", {"audience_id": used["audience"]["id"]}]),
        variations=[{"name": "Banner", "weight": 10000, "actions": actions}],
        **given,
    )


async def test_200_the_first_revision_is_1(experiments: Caller) -> None:
    made = await snippet(experiments)
    assert (made["revision"], made["size"] > 0) == (1, True)
    assert await snippet(experiments) == made


async def test_200_the_size_is_in_bytes(experiments: Caller) -> None:
    one = await snippet(experiments, project_javascript="x")
    other = await snippet(experiments, LATER, project_javascript="x" * 101)
    assert (other["revision"], other["size"]) == (2, one["size"] + 100)


async def test_200_settings_of_an_earlier_version_are_ignored(experiments: Caller) -> None:
    latest = await snippet(experiments, LATER, project_javascript="new")
    assert await snippet(experiments, NOON, project_javascript="old and longer") == latest


@pytest.mark.parametrize("settings", [{"ip_filter": "^192"}, {"exclude_names": True}], ids=str)
async def test_settings_that_no_browser_needs_make_no_revision(
    experiments: Caller, settings: dict[str, Any]
) -> None:
    before = await snippet(experiments)
    assert await snippet(experiments, LATER, **settings) == before


async def test_every_action_that_moves_the_status_makes_a_revision(experiments: Caller) -> None:
    await snippet(experiments)
    made = await make(experiments)
    assert await revision(experiments) == 2
    for number, action in enumerate(("start", "pause", "resume"), 3):
        await patched(experiments, made, f"?action={action}")
        assert await revision(experiments) == number, action
    await experiments.delete(f"/experiments/{made['id']}")
    assert await revision(experiments) == 6
    await patched(experiments, made, "?action=unarchive")
    assert await revision(experiments) == 7
    for nothing in ("?action=publish", "?action=pause", ""):
        await patched(experiments, made, nothing)
        assert await revision(experiments) == 7, nothing


async def test_a_change_of_what_is_in_use_makes_a_revision(experiments: Caller) -> None:
    await snippet(experiments)
    used = await in_use(experiments)
    made = await using(experiments, used)
    before = await revision(experiments)
    changes: list[tuple[str, dict[str, Any]]] = [
        (f"/pages/{used['page']['id']}", {"conditions": '["and", ["or"]]'}),
        (f"/audiences/{used['audience']['id']}", {"conditions": '["or", {"type": "first_session"}]'}),
        (f"/extensions/{used['extension']['id']}", {"implementation": {"html": "<i></i>"}}),
        (f"/experiments/{made['id']}", {"holdback": 500}),
    ]
    for number, (path, body) in enumerate(changes, before + 1):
        status, answer = await experiments.patch(path, body)
        assert (status, await revision(experiments)) == (200, number), answer


async def test_a_change_of_what_is_not_used_makes_none(experiments: Caller) -> None:
    used = await in_use(experiments)
    before = await snippet(experiments)
    for path, body in (
        (f"/audiences/{used['audience']['id']}", {"conditions": '["or", {"type": "first_session"}]'}),
        (f"/extensions/{used['extension']['id']}", {"implementation": {"html": "<i></i>"}}),
        (f"/pages/{used['page']['id']}", {"name": "Basket"}),
    ):
        assert (await experiments.patch(path, body))[0] == 200
    assert await snippet(experiments) == before


async def test_names_count_where_the_settings_do_not_leave_them_out(experiments: Caller) -> None:
    made = await make(experiments)
    without = await snippet(experiments)
    await patched(experiments, made, name="Cart")
    assert await snippet(experiments) == without
    named = await snippet(experiments, LATER, exclude_names=False)
    assert named["size"] > without["size"]
    await patched(experiments, made, name="Basket")
    assert await revision(experiments) == named["revision"] + 1


async def test_drafts_and_paused_experiments_can_be_left_out(experiments: Caller) -> None:
    before = await snippet(experiments, exclude_disabled_experiments=True)
    body = {**OWNER, "type": "personalization", "page_ids": []}
    campaign = await experiments.made("/layers", body)
    made = await experiments.made("/experiments", {**OWNER, "variations": TWO, "campaign_id": campaign["id"]})
    assert await snippet(experiments) == before
    await experiments.patch(f"/layers/{campaign['id']}?action=start", {"url_targeting": SOMEWHERE})
    of_campaign = await snippet(experiments)
    assert of_campaign["revision"] > before["revision"]
    await patched(experiments, made, "?action=start")
    assert await revision(experiments) == of_campaign["revision"] + 1


async def test_a_schedule_makes_a_revision_when_its_time_has_come(experiments: Caller) -> None:
    stop = datetime.now(UTC) + timedelta(days=1)
    schedule = {"stop_time": f"{stop:%Y-%m-%dT%H:%M:00Z}"}
    await make(experiments, "?action=start", schedule=schedule)
    before = await revision(experiments)
    database = Database(experiments.database_url)
    try:
        for moment, expected in ((datetime.now(UTC), before), (stop, before + 1)):
            async with database.transaction() as connection:
                await build(connection, PROJECT, moment)
                query = select(snippets.c.revision).where(snippets.c.project_id == PROJECT)
                assert (await connection.execute(query)).scalar_one() == expected
    finally:
        await database.close()


async def test_changes_between_two_questions_are_one_revision(experiments: Caller) -> None:
    before = await snippet(experiments)
    for _ in range(3):
        await make(experiments)
    assert await revision(experiments) == before["revision"] + 1


async def revisions(experiments: Caller, *project_ids: int) -> list[tuple[int, int]]:
    """The feed that webhooks are called for: (project, revision) in order."""
    status, body = await experiments.post("/snippet-revisions?after=0", {"project_ids": project_ids})
    assert status == 200, body
    return [(item["project_id"], item["revision"]) for item in body["items"]]


async def test_200_the_feed_has_each_revision_once_and_builds_what_is_due(experiments: Caller) -> None:
    await snippet(experiments)
    assert await revisions(experiments, PROJECT) == [(PROJECT, 1)]
    await make(experiments)
    assert await revisions(experiments, PROJECT) == [(PROJECT, 1), (PROJECT, 2)]
    assert await revision(experiments) == 2
    await make(experiments)
    assert await revision(experiments) == 3
    assert await revisions(experiments, PROJECT) == [(PROJECT, 1), (PROJECT, 2), (PROJECT, 3)]


async def test_200_the_feed_has_every_row_before_its_last_whatever_projects_are_asked_for(
    experiments: Caller,
) -> None:
    """A webhook of another project may be made while a question is under way, and its row come before the last."""
    others = {**OWNER, "project_id": PROJECT + 1, "version": NOON, "settings": {}}
    assert (await experiments.post("/snippets", {"projects": [others]}))[0] == 200
    await snippet(experiments)
    assert await revisions(experiments, PROJECT) == [(PROJECT + 1, 1), (PROJECT, 1)]


async def test_200_the_feed_builds_nothing_of_other_projects(experiments: Caller) -> None:
    await snippet(experiments)
    await make(experiments)
    assert await revisions(experiments, PROJECT + 1) == [(PROJECT, 1)]
    assert await revisions(experiments) == [(PROJECT, 1)]
    database = Database(experiments.database_url)
    try:
        async with database.snapshot() as connection:
            assert (await connection.execute(select(snippets.c.revision))).scalar_one() == 1
    finally:
        await database.close()


async def test_200_the_feed_goes_on_where_a_snippet_cannot_be_built(
    experiments: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def content_of_others(project_id: int, *of_project: Any) -> Any:
        if project_id == PROJECT:
            raise ValueError("a shape that nobody expected")
        return content(project_id, *of_project)

    other = {**OWNER, "project_id": PROJECT + 1}
    body = {"projects": [{**owner, "version": NOON, "settings": {}} for owner in (OWNER, other)]}
    assert (await experiments.post("/snippets", body))[0] == 200
    for owner in (OWNER, other):
        await experiments.made("/pages", {**owner, "name": "Cart", "edit_url": "https://shop.example/cart"})
    both = (PROJECT, PROJECT + 1)
    with monkeypatch.context() as broken:
        broken.setattr("optimizely_api.services.experiments.snippets.build.content", content_of_others)
        for _ in range(2):
            assert await revisions(experiments, *both) == [(PROJECT, 1), (PROJECT + 1, 1), (PROJECT + 1, 2)]
    logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert logged == [f"the snippet of project {PROJECT} cannot be built"]
    await make(experiments)
    assert (await revisions(experiments, *both))[-1] == (PROJECT, 2)
