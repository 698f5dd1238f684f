"""Events that are named by their key alone count for the metrics that name the event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, insert, select

from optimizely_api.services.http.addresses import EXPERIMENTS_URL
from optimizely_api.services.http.server import EVENTS
from optimizely_api.services.results.ingest.group_commit import GroupCommit
from optimizely_api.services.results.tables import EVENT, EVENT_KEY
from optimizely_api.services.storage.database import Database
from tests.services.conftest import Caller, Serve, running
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    PROJECT,
    PURCHASE,
    SIGNUP,
    Entry,
    batch,
    conversion,
    impression,
    metric,
    parsed,
    question,
    the_event,
)

OWNER = {"account_id": 77, "project_id": PROJECT}


class Shop:
    """A results service that follows the keys of an experiments service."""

    def __init__(self, experiments: Caller, results: Caller) -> None:
        self.experiments, self.results = experiments, results

    async def event(self, key: str, path: str = "/events", **members: Any) -> int:
        """A new event; returns when the results service knows it."""
        made = await self.experiments.made(path, {**OWNER, "key": key, "name": key, **members})
        await self.knows(key, made["id"])
        return int(made["id"])

    async def knows(self, key: str, event_id: int) -> None:
        """Wait until the results service takes the key for this event."""
        database = Database(self.results.database_url)
        query = select(EVENT_KEY.c.event_id).where(EVENT_KEY.c.project_id == PROJECT, EVENT_KEY.c.key == key)
        async with asyncio.timeout(20):
            while True:
                async with database.snapshot() as connection:
                    if (await connection.execute(query)).scalar_one_or_none() == event_id:
                        break
                await asyncio.sleep(0.02)
        await database.close()

    async def send(self, *entries: Entry, port: Caller | None = None) -> None:
        """Send a batch."""
        status, body = await (port or self.results).post("/v1/events", batch(*entries))
        assert status == 204, body

    async def count(self, event_id: int | None) -> Any:
        """How many conversions count for a metric about the event."""
        body = question(metric("count", event_id))
        status, answer = await self.results.post(f"/results/{EXPERIMENT}", body)
        assert status == 200, answer
        return answer["metrics"][0]["results"][str(CONTROL)]["value"]


@pytest_asyncio.fixture
async def shop(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Shop:
    experiments = await serve("experiments")
    monkeypatch.setenv(EXPERIMENTS_URL, experiments.url)
    return Shop(experiments, await serve("results"))


def by_key(key: str, entity_id: Any = ..., **members: Any) -> Entry:
    """A conversion whose event has a key, and no usable id."""
    entry = conversion("ann", **members)
    the_event(entry).update(key=key, entity_id=entity_id)
    if entity_id is ...:
        del the_event(entry)["entity_id"]
    return entry


async def test_a_key_names_its_event_where_the_id_is_missing_null_or_no_number(shop: Shop) -> None:
    order = await shop.event("order")
    entries = [by_key("order"), by_key("order", None), by_key("order", "order"), by_key("order", str(order))]
    await shop.send(impression("ann"), *entries, by_key("unknown"))
    assert await shop.count(order) == len(entries)


async def test_the_public_port_knows_the_keys_too(shop: Shop) -> None:
    order = await shop.event("order")
    async with running(EVENTS.create_application(shop.results.database_url)) as public:
        await shop.send(impression("ann"), by_key("order"), port=public)
    assert await shop.count(order) == 1


async def test_a_page_is_an_event_with_a_key(shop: Shop) -> None:
    page = await shop.event("home", "/pages", edit_url="https://shop.example/")
    await shop.send(impression("ann"), by_key("home"))
    assert await shop.count(page) == 1


async def test_an_id_goes_before_a_key(shop: Shop) -> None:
    order = await shop.event("order")
    await shop.send(impression("ann"), by_key("order", str(SIGNUP)))
    assert (await shop.count(order), await shop.count(SIGNUP)) == (0, 1)


async def test_a_key_that_was_changed_names_the_same_event(shop: Shop) -> None:
    order = await shop.event("order")
    await shop.experiments.patch(f"/events/{order}", {"key": "purchase"})
    await shop.knows("purchase", order)
    await shop.send(impression("ann"), by_key("purchase"), by_key("order"))
    assert await shop.count(order) == 2


async def test_an_event_that_was_sent_before_its_key_was_known_counts_once(shop: Shop) -> None:
    early = by_key("order")
    await shop.send(impression("ann"), early)
    await shop.event("order")
    await shop.send(early)
    assert await shop.count(None) == 1


async def test_an_event_that_was_sent_before_its_key_was_known_counts_once_when_its_batch_is_stored_apart(
    database: Database,
) -> None:
    early, bad = by_key("order"), parsed(impression("bad"))
    bad.events[0].happened = 2**70  # no database stores this: the two batches are tried again, one by one
    async with GroupCommit(database).running() as commits:
        await commits.store(parsed(early))
        async with database.transaction() as connection:
            row = {"project_id": PROJECT, "key": "order", "event_id": PURCHASE}
            await connection.execute(insert(EVENT_KEY).values(row))
        again = (commits.store(parsed(early)), commits.store(bad))
        outcomes = await asyncio.gather(*again, return_exceptions=True)
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True]
    async with database.snapshot() as connection:
        stored = (await connection.execute(select(func.count()).select_from(EVENT))).scalar_one()
    assert stored == 1
