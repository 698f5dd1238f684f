"""Feeds between services: in order, without gaps, and answered when there is news."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert

from optimizely_api.services.experiments.tables import changes
from optimizely_api.services.http import feeds
from optimizely_api.services.http.feeds import read_rows
from optimizely_api.services.http.server import SERVICES
from optimizely_api.services.storage.data_version import Version
from optimizely_api.services.storage.database import Database
from tests.services.conftest import Caller, Serve, running, session_with_key

OWNER = {"account_id": 11, "project_id": 22}
RECORD = {
    **OWNER,
    "entity_type": "attribute",
    "entity_id": 5,
    "change_type": "create",
    "revision": 1,
    "changes": [],
    "summary": "",
    "source": "api",
    "user_id": "1",
    "user_name": "",
    "created": datetime.now(UTC),
}


async def attribute(experiments: Caller, key: str) -> Any:
    return await experiments.made("/attributes", {**OWNER, "key": key})


async def feed(experiments: Caller, query: str = "") -> list[Any]:
    status, body = await experiments.get(f"/changes/feed?{query}")
    assert status == 200, body
    items: list[Any] = body["items"]
    return items


async def test_200_changes_come_in_the_order_in_which_they_were_made(experiments: Caller) -> None:
    made = [(await attribute(experiments, f"key-{number}"))["id"] for number in range(5)]
    everything = await feed(experiments)
    assert [item["entity"]["id"] for item in everything] == made
    assert await feed(experiments, f"after={everything[1]['id']}&limit=2") == everything[2:4]
    assert await feed(experiments, f"after={everything[-1]['id']}") == []


async def test_200_a_reader_that_waits_gets_a_change_at_once(experiments: Caller) -> None:
    reader = asyncio.create_task(feed(experiments, "wait=30"))
    await asyncio.sleep(0.1)  # so that the reader waits already
    made = await attribute(experiments, "plan")
    [item] = await asyncio.wait_for(reader, 10)  # of 30
    assert item["entity"]["id"] == made["id"]


async def test_while_a_reader_waits_sqlite_is_asked_for_rows_only_after_a_commit(
    experiments: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, looked = [], asyncio.Semaphore(0)
    may_have_changed = Database.may_have_changed

    async def read(*args: Any) -> Any:
        asked.append(args)
        return await read_rows(*args)

    def look(database: Database, since: Version) -> bool:
        looked.release()
        return may_have_changed(database, since)

    monkeypatch.setattr(feeds, "read_rows", read)
    monkeypatch.setattr(Database, "may_have_changed", look)
    monkeypatch.setattr(feeds, "LOOK_SECONDS", 0.01)
    reader = asyncio.create_task(feed(experiments, "wait=30"))
    async with asyncio.timeout(20):
        while not asked:
            await asyncio.sleep(0.01)
        for _ in range(20):
            await looked.acquire()
    if experiments.database_url.startswith("sqlite"):
        assert len(asked) == 1
    made = await attribute(experiments, "plan")
    [item] = await asyncio.wait_for(reader, 10)
    assert item["entity"]["id"] == made["id"]


async def test_200_a_reader_that_waits_does_not_hold_up_the_end_of_the_service(serve: Serve) -> None:
    experiments = await serve("experiments")
    application = SERVICES["experiments"].create_application(experiments.database_url)
    async with session_with_key() as session:
        async with running(application) as ending:
            url = f"{ending.url}/changes/feed?wait=30"
            reader = asyncio.create_task(session.get(url))
            await asyncio.sleep(0.1)  # so that the reader waits already
            began = time.monotonic()
        assert time.monotonic() - began < 5
        async with await reader as response:
            assert (response.status, await response.json()) == (200, {"items": []})


async def test_200_a_change_that_is_committed_late_is_not_passed_over(experiments: Caller) -> None:
    """PostgreSQL shows row 2 before row 1 when the writer of row 1 is slower."""
    database = Database(experiments.database_url)
    if database.is_sqlite:  # which has one writer at a time
        await database.close()
        return
    async with database.transaction() as slow:
        await slow.execute(insert(changes).values(**RECORD))
        quick = (await attribute(experiments, "quick"))["id"]
        reader = asyncio.create_task(feed(experiments, "wait=30"))
        done, _ = await asyncio.wait([reader], timeout=0.5)
        assert not done
    assert [item["entity"]["id"] for item in await reader] == [RECORD["entity_id"], quick]
    await database.close()
