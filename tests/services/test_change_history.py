"""Pages of a long history of changes are found by the days' numbers of records, on both databases."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from tests.services.conftest import Caller, migrate_to
from tests.services.test_experiments import OWNER

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


async def test_what_is_refused_is_not_counted(experiments: Caller) -> None:
    await history(experiments, 1)
    assert (await experiments.post("/attributes", {**OWNER, "name": "without a key"}))[0] == 400
    body = {**OWNER, "key": "plan", "name": "Plan"}
    assert [(await experiments.post("/attributes", body))[0] for _ in range(2)] == [201, 400]
    assert (await pages(experiments, 5))[0] == 2
