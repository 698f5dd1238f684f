"""Idempotency keys in the projects service, and what both services make once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from optimizely_api.services.http import made_once
from optimizely_api.services.projects import idempotency
from optimizely_api.services.storage import rows
from optimizely_api.services.storage.database import Database
from tests.services.conftest import Caller

PATH = "/idempotency_keys"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def claim(key: str, request: str = "a", token_id: int = 1, lease_seconds: int = 60) -> dict[str, Any]:
    named = {"key_sha256": sha256(f"{token_id} {key}"), "request_sha256": sha256(request)}
    return {**named, "token_id": token_id, "lease_seconds": lease_seconds}


async def claimed(projects: Caller, key: str, **options: Any) -> Any:
    status, body = await projects.post(PATH, claim(key, **options))
    assert status == 200, body
    return body


async def aged(projects: Caller, by: timedelta) -> None:
    """Make every key so much older."""
    await _execute(projects, update(idempotency.KEYS).values(created=datetime.now(UTC) - by))


async def count(projects: Caller) -> int:
    return int((await _execute(projects, select(func.count()).select_from(idempotency.KEYS))).scalar_one())


async def _execute(caller: Caller, statement: Any) -> Any:
    database = Database(caller.database_url)
    try:
        async with database.transaction() as connection:
            return await connection.execute(statement)
    finally:
        await database.close()


async def test_one_of_many_at_once_has_the_key(projects: Caller) -> None:
    states = [
        answer["state"] for answer in await asyncio.gather(*(claimed(projects, "k") for _ in range(20)))
    ]
    assert sorted(states) == ["claimed", *["under_way"] * 19]


async def test_the_first_answer_stays(projects: Caller) -> None:
    operation = (await claimed(projects, "k"))["operation"]
    for body, status in ((b'{"id":1}', 201), (b'{"id":2}', 400)):
        query = {"status": str(status), "entity_tag": '"tag"'}
        assert (await projects.call("PUT", f"{PATH}/{operation}", params=query, data=body))[0] == 204
    answer = await claimed(projects, "k")
    assert (answer["state"], answer["status"], answer["entity_tag"]) == ("answered", 201, '"tag"')
    assert base64.b64decode(answer["body"]) == b'{"id":1}'


async def test_a_key_that_was_given_back_is_the_same_operation(projects: Caller) -> None:
    first = await claimed(projects, "k")
    assert (await claimed(projects, "k"))["state"] == "under_way"
    assert (await projects.delete(f"{PATH}/{first['operation']}"))[0] == 204
    assert await claimed(projects, "k") == first


async def test_another_request_never_gets_the_key(projects: Caller) -> None:
    first = await claimed(projects, "k")
    await projects.delete(f"{PATH}/{first['operation']}")
    assert (await claimed(projects, "k", request="b"))["state"] == "of_another_request"


async def test_after_a_day_a_key_is_new(projects: Caller) -> None:
    first = await claimed(projects, "k")
    await aged(projects, timedelta(hours=23, minutes=59))
    assert (await claimed(projects, "k"))["state"] == "under_way"
    await aged(projects, timedelta(hours=24, seconds=1))
    second = await claimed(projects, "k", request="b")
    assert (second["state"], second["operation"] != first["operation"]) == ("claimed", True)


async def test_old_keys_are_removed_as_new_ones_come(
    projects: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "REMOVED_AT_ONCE", 3)
    for number in range(5):
        await claimed(projects, f"old {number}")
    await aged(projects, timedelta(hours=25))
    for number, left in enumerate((3, 2)):
        await claimed(projects, f"new {number}")
        assert await count(projects) == left


async def test_a_token_keeps_its_newest_keys(projects: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MOST_KEYS_OF_A_TOKEN", 3)
    first = await claimed(projects, "0")
    await claimed(projects, "0", token_id=2)
    for number in range(1, 5):
        await claimed(projects, str(number))
    assert await count(projects) == 4
    assert (await claimed(projects, "4"))["state"] == "under_way"
    assert (await claimed(projects, "0"))["operation"] != first["operation"]


async def test_an_operation_makes_one_entity_of_many_requests_at_once(experiments: Caller) -> None:
    body = {"account_id": 1, "project_id": 2, "name": "Home", "edit_url": "https://shop.example/"}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    made = await asyncio.gather(*(experiments.made("/pages", body, headers=headers) for _ in range(20)))
    assert made == [made[0]] * 20
    assert (await experiments.get("/pages?account_id=1"))[1]["total"] == 1


async def test_an_operation_that_was_refused_may_succeed_later(experiments: Caller) -> None:
    body = {
        "account_id": 1,
        "project_id": 2,
        "key": "home",
        "name": "Home",
        "edit_url": "https://shop.example/",
    }
    page = await experiments.made("/pages", body)
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    assert (await experiments.post("/pages", body, headers=headers))[0] == 400
    await experiments.patch(f"/pages/{page['id']}", {"key": "away"})
    assert (await experiments.post("/pages", body, headers=headers))[0] == 201


async def test_what_was_made_is_forgotten_after_the_keys(experiments: Caller) -> None:
    body = {"account_id": 1, "project_id": 2, "name": "Home", "edit_url": "https://shop.example/"}
    first = {"Idempotency-Key": uuid.uuid4().hex}
    page = await experiments.made("/pages", body, headers=first)
    table, old = made_once._MADE, datetime.now(UTC) - made_once.KEPT - timedelta(seconds=1)
    await _execute(experiments, update(table).values(created=old))
    await experiments.made("/pages", body, headers={"Idempotency-Key": uuid.uuid4().hex})
    assert (await experiments.made("/pages", body, headers=first))["id"] != page["id"]
    assert made_once.KEPT > idempotency.KEPT
