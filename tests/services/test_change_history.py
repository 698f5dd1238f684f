"""Pages of a long history of changes are found by the days' numbers of records, on both databases."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from optimizely_api.services.http.addresses import PROJECTS_URL
from tests.services.conftest import Caller, Serve, migrate_to
from tests.services.test_experiments import OWNER
from tests.support.ports import free_port

KINDS = ("attribute", "event", "page")
USERS = ("ann@example.com", "bob@example.com")
DAYS = 9


def moment(days: float) -> str:
    return f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%dT%H:%M:%S.%fZ}"


async def history(experiments: Caller, number: int) -> None:
    """Changes of three kinds of entities by two users, at any times of the last days, in no order."""
    chance = random.Random(4)
    for index in range(number):
        kind = chance.choice(KINDS)
        own = {"page": {"edit_url": "https://shop.example"}, "event": {"event_type": "custom"}}.get(kind, {})
        body = {**OWNER, "key": f"{kind}_{index}", "name": "One", **own}
        headers = {"X-User": f"7 {chance.choice(USERS)}"} if chance.random() < 0.8 else {}
        await experiments.made(f"/{kind}s?at={moment(chance.uniform(0.1, DAYS))}", body, headers=headers)


async def pages(experiments: Caller, size: int, **filters: Any) -> tuple[int, list[int]]:
    """The total, and the ids of all pages until one is empty."""
    ids: list[int] = []
    page = 1
    while True:
        query = {"project_id": OWNER["project_id"], **filters, "per_page": size, "page": page}
        status, body = await experiments.get(f"/changes?{urlencode(query, doseq=True)}")
        assert status == 200, body
        if not body["items"]:
            return body["total"], ids
        ids += [item["id"] for item in body["items"]]
        page += 1


async def test_every_page_of_every_filter_is_that_of_the_records_themselves(experiments: Caller) -> None:
    await history(experiments, 60)
    for filters in (
        {},
        {"user": USERS[0]},
        {"user": [*USERS, USERS[0]]},
        {"entity_type": ["page", "event"]},
        {"entity_type": "page", "user": USERS[1]},
        {"user": "nobody@example.com"},
        {"start_time": moment(5)},
        {"end_time": moment(2.3)},
        {"start_time": moment(6.2), "end_time": moment(1.7), "user": USERS[0]},
        {"start_time": moment(3.2), "end_time": moment(3.1)},
    ):
        # With a source the records are counted one by one.
        expected = await pages(experiments, 1000, source="api", **filters)
        assert expected[0] == len(expected[1])
        assert await pages(experiments, 7, **filters) == expected, filters


async def test_records_of_an_earlier_release_are_counted(experiments: Caller) -> None:
    await history(experiments, 12)
    before = await pages(experiments, 5), await pages(experiments, 5, user=USERS[0], entity_type="page")
    await migrate_to(experiments.database_url, "experiments", "0007")
    await migrate_to(experiments.database_url, "experiments", "head")
    after = await pages(experiments, 5), await pages(experiments, 5, user=USERS[0], entity_type="page")
    assert after == before
    assert after[0][0] == 12


@pytest_asyncio.fixture
async def both(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> tuple[Caller, Caller]:
    """A projects service, and an experiments service that knows it."""
    projects = await serve("projects")
    monkeypatch.setenv(PROJECTS_URL, projects.url)
    return projects, await serve("experiments")


async def project_with_environments(projects: Caller, number: int) -> dict[str, int]:
    """A project whose creation is `number` records."""
    account = await projects.made("/accounts", {"name": "Shop"})
    made = await projects.made("/projects", {"account_id": account["id"], "name": "Web"})
    owner = {"account_id": account["id"], "project_id": made["id"]}
    for index in range(number - 2):
        await projects.made("/environments", {**owner, "key": f"qa_{index}", "name": "QA"})
    return owner


async def test_readers_at_once_receive_each_record_of_the_other_service_once(
    both: tuple[Caller, Caller],
) -> None:
    projects, experiments = both
    owner = await project_with_environments(projects, 12)
    address = f"/changes?project_id={owner['project_id']}&per_page=100"
    answers = await asyncio.gather(*(experiments.get(address) for _ in range(6)))
    assert {status for status, _ in answers} == {200}
    _, body = await experiments.get(address)
    environments = [item["entity"]["id"] for item in body["items"] if item["entity"]["type"] == "environment"]
    assert (body["total"], len(body["items"]), len(set(environments))) == (12, 12, 11)
    assert await pages(experiments, 5, project_id=owner["project_id"]) == (
        12,
        [item["id"] for item in body["items"]],
    )


async def test_received_records_are_counted_with_the_services_own(both: tuple[Caller, Caller]) -> None:
    projects, experiments = both
    owner = await project_with_environments(projects, 4)
    await experiments.made("/attributes", {**owner, "key": "plan"})
    project_id = owner["project_id"]
    for filters, number in (({}, 5), ({"entity_type": "environment"}, 3), ({"entity_type": "attribute"}, 1)):
        expected = await pages(experiments, 100, source="api", project_id=project_id, **filters)
        assert expected[0] == number
        assert await pages(experiments, 2, project_id=project_id, **filters) == expected, filters


async def test_webhooks_get_received_records_from_their_own_service_only(both: tuple[Caller, Caller]) -> None:
    projects, experiments = both
    owner = await project_with_environments(projects, 3)
    await experiments.made("/attributes", {**owner, "key": "plan"})
    assert (await pages(experiments, 100, project_id=owner["project_id"]))[0] == 4
    assert [item["summary"] for item in (await experiments.get("/changes/feed"))[1]["items"]] == [
        "Created attribute plan"
    ]
    assert len((await projects.get("/changes/feed"))[1]["items"]) == 3


async def test_an_earlier_release_has_neither_received_records_nor_their_numbers(
    both: tuple[Caller, Caller],
) -> None:
    projects, experiments = both
    owner = await project_with_environments(projects, 3)
    await experiments.made("/attributes", {**owner, "key": "plan"})
    before = [
        await pages(experiments, 2, project_id=owner["project_id"], **filters)
        for filters in ({}, {"entity_type": "environment"})
    ]
    await migrate_to(experiments.database_url, "experiments", "0008")
    await migrate_to(experiments.database_url, "experiments", "head")
    after = [
        await pages(experiments, 2, project_id=owner["project_id"], **filters)
        for filters in ({}, {"entity_type": "environment"})
    ]
    assert [total for total, _ in before] == [total for total, _ in after] == [4, 2]
    assert [len(ids) for _, ids in after] == [4, 2]


async def test_503_while_the_other_service_does_not_give_its_records(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROJECTS_URL, f"http://127.0.0.1:{free_port()}")
    experiments = await serve("experiments")
    status, error = await experiments.get("/changes?project_id=22")
    assert (status, error["code"]) == (503, "unavailable")


async def test_what_is_refused_is_not_counted(experiments: Caller) -> None:
    await history(experiments, 1)
    assert (await experiments.post("/attributes", {**OWNER, "name": "without a key"}))[0] == 400
    body = {**OWNER, "key": "plan", "name": "Plan"}
    assert [(await experiments.post("/attributes", body))[0] for _ in range(2)] == [201, 400]
    assert (await pages(experiments, 5))[0] == 2
