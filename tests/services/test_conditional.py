"""Conditional requests: a definition has a strong ETag, and whoever has it already is told so with a 304."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.conftest import Caller

Answer = tuple[int, str | None, bytes]

EXPERIMENT = {
    "account_id": 1,
    "project_id": 2,
    "name": "Checkout",
    "metrics": [],
    "changes": [],
    "url_targeting": {"edit_url": "https://shop.example/"},
    "variations": [{"name": "Original", "weight": 10000}],
}


async def conditional(service: Caller, path: str, known: str | None = None) -> Answer:
    headers = {} if known is None else {"If-None-Match": known}
    async with service.session.get(f"{service.url}{path}", headers=headers) as response:
        return response.status, response.headers.get("ETag"), await response.read()


async def make_experiment(experiments: Caller) -> dict[str, Any]:
    made: dict[str, Any] = await experiments.made("/experiments", EXPERIMENT)
    return made


async def test_a_definition_has_a_strong_entity_tag(experiments: Caller) -> None:
    made = await make_experiment(experiments)
    status, tag, body = await conditional(experiments, f"/experiments/{made['id']}")
    assert (status, bool(body)) == (200, True)
    assert tag is not None
    assert (tag[0], tag[-1]) == ('"', '"')


@pytest.mark.parametrize("known", ["{}", "W/{}", '"other", {}', "*"])
async def test_304_without_a_body_for_what_the_caller_has(experiments: Caller, known: str) -> None:
    made = await make_experiment(experiments)
    path = f"/experiments/{made['id']}"
    _, tag, _ = await conditional(experiments, path)
    assert await conditional(experiments, path, known.format(tag)) == (304, tag, b"")


@pytest.mark.parametrize("known", ['"other"', "nonsense", ""])
async def test_200_for_what_the_caller_does_not_have(experiments: Caller, known: str) -> None:
    made = await make_experiment(experiments)
    assert (await conditional(experiments, f"/experiments/{made['id']}", known))[0] == 200


async def test_a_change_gives_another_tag(experiments: Caller) -> None:
    made = await make_experiment(experiments)
    path = f"/experiments/{made['id']}"
    _, tag, _ = await conditional(experiments, path)
    await experiments.patch(path, {"name": "Basket"})
    status, other, _ = await conditional(experiments, path, tag)
    assert status == 200
    assert other != tag


async def test_a_change_of_what_it_shows_of_others_gives_another_tag_too(experiments: Caller) -> None:
    made = await make_experiment(experiments)
    path = f"/layers/{made['layer_id']}"
    _, tag, _ = await conditional(experiments, path)
    await experiments.patch(f"/experiments/{made['id']}", {}, params={"action": "start"})
    assert (await conditional(experiments, path, tag))[0] == 200


async def test_an_event_has_one(experiments: Caller) -> None:
    event = await experiments.made("/events", {"account_id": 1, "project_id": 2, "key": "purchase"})
    _, tag, _ = await conditional(experiments, f"/events/{event['id']}")
    assert (await conditional(experiments, f"/events/{event['id']}", tag))[0] == 304


async def test_accounts_and_projects_have_one(projects: Caller) -> None:
    account = await projects.made("/accounts", {"name": "Shop"})
    project = {"account_id": account["id"], "name": "Web", "platform": "web"}
    made = await projects.made("/projects", project)
    for path in (f"/accounts/{account['id']}", f"/projects/{made['id']}"):
        _, tag, _ = await conditional(projects, path)
        assert (await conditional(projects, path, tag))[0] == 304


async def test_what_is_not_there_is_a_404_whatever_the_caller_has(experiments: Caller) -> None:
    assert (await conditional(experiments, "/experiments/99", "*"))[:2] == (404, None)
