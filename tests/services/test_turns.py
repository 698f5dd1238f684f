"""The line for the database."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web

from optimizely_api.services.http.application import DATABASE, make_application
from optimizely_api.services.storage.database import Database, is_unavailable
from optimizely_api.services.storage.deadlines import DEADLINE, DeadlinePassed
from optimizely_api.services.storage.turns import LONGEST_WAIT_SECONDS, DatabaseBusy, Turns
from tests.services.conftest import running


class Guests:
    """Tasks that take turns, and hold them until they are let go."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.entered, self.go = turns, list[int](), asyncio.Event()

    async def come(self, number: int) -> None:
        async with self.turns.turn():
            self.entered.append(number)
            await self.go.wait()


async def started(*coroutines: Any) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(each) for each in coroutines]
    await asyncio.sleep(0)
    return tasks


async def test_turns_come_in_order() -> None:
    guests = Guests(Turns(2))
    tasks = await started(*(guests.come(number) for number in range(5)))
    assert guests.entered == [0, 1]
    guests.go.set()
    await asyncio.gather(*tasks)
    assert guests.entered == [0, 1, 2, 3, 4]


async def test_whoever_comes_when_the_line_is_full_is_refused_at_once() -> None:
    guests = Guests(Turns(1, most_waiting=2))
    tasks = await started(*(guests.come(number) for number in range(4)))
    with pytest.raises(DatabaseBusy):
        await tasks[3]
    guests.go.set()
    await asyncio.gather(*tasks[:3])
    assert guests.entered == [0, 1, 2]


async def test_nobody_waits_longer_than_its_client() -> None:
    guests = Guests(Turns(1))
    tasks = await started(guests.come(0))
    DEADLINE.set(time.monotonic() + 0.05)
    async with asyncio.timeout(LONGEST_WAIT_SECONDS / 2):
        with pytest.raises(DeadlinePassed):
            await guests.come(1)
    guests.go.set()
    await asyncio.gather(*tasks)


async def test_nobody_waits_longer_than_the_limit_and_the_turn_goes_to_the_next() -> None:
    guests = Guests(Turns(1, longest_wait_seconds=0.05))
    tasks = await started(guests.come(0), guests.come(1))
    with pytest.raises(DatabaseBusy):
        await tasks[1]
    guests.go.set()
    await tasks[0]
    await guests.come(2)
    assert guests.entered == [0, 2]


async def test_whoever_leaves_the_line_takes_no_turn() -> None:
    guests = Guests(Turns(1, most_waiting=1))
    holder, leaver = await started(guests.come(0), guests.come(1))
    leaver.cancel()
    await asyncio.wait([leaver])
    (next_one,) = await started(guests.come(2))
    guests.go.set()
    await asyncio.gather(holder, next_one)
    assert guests.entered == [0, 2]


def test_a_busy_database_is_unavailable() -> None:
    assert is_unavailable(DatabaseBusy())


async def test_503_with_retry_after_when_too_many_wait_for_the_database(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hold(request: web.Request) -> web.Response:
        async with request.app[DATABASE].snapshot():
            return web.Response()

    application = make_application("sample", database_url=database_url, routes=[web.get("/held", hold)])
    async with running(application) as service:
        line = Turns(1, most_waiting=0)
        monkeypatch.setattr(application[DATABASE], "_reads", line)
        async with line.turn(), service.session.get(f"{service.url}/held") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert (await response.json())["code"] == "overloaded"
        assert (await service.get("/held"))[0] == 200


async def test_readers_leave_sqlites_writer_a_connection(tmp_path: Any) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.sqlite3", pool_size=2, max_overflow=0)
    async with database.snapshot(), asyncio.timeout(5), database.transaction():
        pass
    await database.close()
