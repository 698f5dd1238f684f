"""Writers of the experiments service at the same moment, of whom one must give way, on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.services.conftest import Caller
from tests.services.test_experiments import OWNER, feature, make, patched

ROUNDS = 8


async def test_of_a_page_and_an_event_that_take_one_key_at_once_exactly_one_gets_it(
    experiments: Caller,
) -> None:
    page = await experiments.made("/pages", {**OWNER, "name": "Home", "edit_url": "https://shop.example/"})
    event = await experiments.made("/events", {**OWNER, "key": "order", "event_type": "custom"})
    for number in range(ROUNDS):
        key = {"key": f"taken_{number}"}
        answers = await asyncio.gather(
            experiments.patch(f"/pages/{page['id']}", key), experiments.patch(f"/events/{event['id']}", key)
        )
        assert sorted(status for status, _ in answers) == [200, 400], number


async def a_page(experiments: Caller) -> tuple[str, dict[str, Any]]:
    page = await experiments.made("/pages", {**OWNER, "name": "Home", "edit_url": "https://shop.example/"})
    return f"/pages/{page['id']}", {"page_ids": [page["id"]]}


async def an_audience(experiments: Caller) -> tuple[str, dict[str, Any]]:
    audience = await experiments.made("/audiences", OWNER)
    conditions = f'["or", {{"audience_id": {audience["id"]}}}]'
    return f"/audiences/{audience['id']}", {"audience_conditions": conditions}


async def a_feature(experiments: Caller, key: str = "cart") -> tuple[str, dict[str, Any]]:
    made = await feature(experiments, key=key)
    return f"/features/{made['id']}", {"feature_id": made["id"]}


@pytest.mark.parametrize("used", [a_page, an_audience, a_feature])
async def test_an_experiment_starts_or_what_it_uses_is_archived_but_never_both(
    experiments: Caller, used: Any
) -> None:
    for number in range(ROUNDS):
        extra = (f"cart_{number}",) if used is a_feature else ()
        path, members = await used(experiments, *extra)
        made = await make(experiments, **members)
        start, archive = await asyncio.gather(
            experiments.patch(f"/experiments/{made['id']}?action=start", {}),
            experiments.patch(path, {"archived": True}),
        )
        assert sorted((start[0], archive[0])) == [200, 409], number
        _, now = await experiments.get(f"/experiments/{made['id']}")
        _, of_used = await experiments.get(path)
        assert (now["status"] == "running") != of_used["archived"]


async def test_of_two_new_groups_with_one_member_exactly_one_is_made(experiments: Caller) -> None:
    for number in range(ROUNDS):
        made = await make(experiments)
        member = {"kind": "Experiment", "id": made["id"], "weight": 5000}
        body = {**OWNER, "name": f"Group {number}", "entities": [member]}
        answers = await asyncio.gather(*(experiments.post("/groups", body) for _ in range(2)))
        assert sorted(status for status, _ in answers) == [201, 400], number


@pytest.mark.parametrize("used", [a_page, an_audience])
async def test_409_for_a_start_with_what_is_archived(experiments: Caller, used: Any) -> None:
    path, members = await used(experiments)
    made = await make(experiments, **members)
    await experiments.patch(path, {"archived": True})
    assert (await experiments.patch(f"/experiments/{made['id']}?action=start", {}))[0] == 409


async def test_a_new_key_and_name_of_a_feature_show_in_its_experiments_at_once(experiments: Caller) -> None:
    path, members = await a_feature(experiments)
    made = await make(experiments, **members)
    await experiments.patch(path, {"key": "basket", "name": "Basket"})
    _, now = await experiments.get(f"/experiments/{made['id']}")
    assert (now["feature_key"], now["feature_name"]) == ("basket", "Basket")
    listed = (await experiments.get("/experiments?project_id=22"))[1]["items"]
    assert [one["feature_key"] for one in listed] == ["basket"]
    assert await patched(experiments, made) == now
