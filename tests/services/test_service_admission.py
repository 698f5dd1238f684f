"""A service that is overloaded refuses requests early, the least important ones first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from optimizely_api.http.deadlines import EXPECTED_TIMEOUT
from optimizely_api.services.http.admission import ADMISSION, ServiceAdmission, Turn, class_of, takes_events
from optimizely_api.services.http.application import DATABASE, make_application
from optimizely_api.services.http.questions import only_asks
from optimizely_api.serving.admission import FEWEST, WAIT, Admission
from optimizely_api.serving.line import EVENTS, ORDINARY, PEOPLE
from tests.services.conftest import Caller, running

SOON_SECONDS = 10


class Held(asyncio.Event):
    """Holds the requests for GET /held until it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[str] = []  # the method of each request
        self.began: list[str] = []
        self.admission: Admission

    @web.middleware
    async def note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.came.append(request.method)
        response: web.StreamResponse = await handler(request)
        return response


def handler(held: Held | None = None) -> Any:
    async def respond(request: web.Request) -> web.Response:
        if held is not None:
            held.began.append(request.method)
            await held.wait()
        sum(range(200_000))  # the CPU that makes a loop late
        return web.json_response(class_of(request))

    return respond


@asynccontextmanager
async def served(
    database_url: str, overload_wait_seconds: float = 0.0, connections: int = 1000
) -> AsyncIterator[tuple[Caller, Held]]:
    """A service, and what holds the requests for its GET /held."""
    held = Held()
    routes = [
        web.get("/entities", handler()),
        web.get("/entities/{entity_id}", handler()),
        web.patch("/entities/{entity_id}", handler()),
        web.post("/question", only_asks(handler())),
        web.post("/batches", takes_events(handler())),
        web.get("/held", handler(held)),
        web.put("/held", handler(held)),
    ]
    application = make_application("sample", database_url=database_url, routes=routes)
    application.middlewares.insert(0, held.note)
    admission = application[ADMISSION] = ServiceAdmission(overload_wait_seconds, connections)
    held.admission = admission._admission
    held.admission._busy_clock = time.monotonic  # whatever other programs take of the processors
    async with running(application) as service:
        await application[DATABASE].ping()  # which makes the file that health looks at
        admission.meter.start(asyncio.get_running_loop())
        try:
            yield service, held
        finally:
            held.set()
            admission.meter.stop()


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/entities/1", PEOPLE),
        ("PATCH", "/entities/1", PEOPLE),
        ("GET", "/entities", ORDINARY),
        ("POST", "/question", ORDINARY),
        ("POST", "/batches", EVENTS),
    ],
)
async def test_what_matters_more(database_url: str, method: str, path: str, kind: int) -> None:
    async with served(database_url) as (service, _):
        assert await service.call(method, path) == (200, kind)


@asynccontextmanager
async def full(
    database_url: str, overload_wait_seconds: float, connections: int = 1000
) -> AsyncIterator[tuple[Caller, Held]]:
    """A service without room, whose loop is always late, and what holds its requests."""
    serving = served(database_url, overload_wait_seconds, connections)
    async with serving as (service, held), asyncio.TaskGroup() as group:
        under_way = [group.create_task(service.get("/held")) for _ in range(FEWEST + 1)]
        while len(held.began) <= FEWEST:
            await asyncio.sleep(0.01)
        group.create_task(keep_busy(held))
        while not held.admission.is_watching:
            await asyncio.sleep(0.01)
        yield service, held
        held.set()
        assert all([await each == (200, ORDINARY) for each in under_way])  # what has begun is served


async def keep_busy(until: Held) -> None:
    while not until.is_set():
        ends = time.process_time() + 0.03
        while time.process_time() < ends:
            pass
        await asyncio.sleep(0)


async def test_503_with_retry_after_when_a_line_stands_but_health_answers(database_url: str) -> None:
    async with full(database_url, overload_wait_seconds=0.01) as (service, _), asyncio.timeout(SOON_SECONDS):
        while (answered := await service.get("/entities"))[0] == 200:
            pass
        assert answered == (
            503,
            {"code": "overloaded", "message": "the service is overloaded; send the request again"},
        )
        async with service.session.get(f"{service.url}/entities") as response:
            assert response.headers["Retry-After"] in ("1", "2", "3")
        assert (await service.get("/healthz"))[0] == 200


async def test_what_waits_is_served_when_there_is_room_whoever_left_the_line_before(
    database_url: str,
) -> None:
    async with full(database_url, overload_wait_seconds=60) as (service, held), asyncio.timeout(SOON_SECONDS):
        gone = asyncio.create_task(service.get("/entities"))
        waits = asyncio.create_task(service.post("/batches"))
        done, _ = await asyncio.wait((gone, waits), timeout=0.3)
        assert not done
        gone.cancel()
        held.set()
        assert await waits == (200, EVENTS)


async def test_503_for_a_batch_of_events_when_batches_wait_on_half_of_the_connections(
    database_url: str,
) -> None:
    serving = full(database_url, overload_wait_seconds=60, connections=4)
    async with serving as (service, held), asyncio.timeout(SOON_SECONDS):
        waiting = [asyncio.create_task(service.post("/batches")) for _ in range(3)]
        (refused, *_), waits = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert (await refused)[0] == 503
        assert len(waits) == 2
        held.set()
        assert [await each for each in waits] == [(200, EVENTS)] * 2


async def test_504_in_the_line_for_a_question_and_after_it_for_a_write_whose_client_waits_no_longer(
    database_url: str,
) -> None:
    async with full(database_url, overload_wait_seconds=60) as (service, held), asyncio.timeout(SOON_SECONDS):
        write = asyncio.create_task(service.call("PUT", "/held", headers={EXPECTED_TIMEOUT: "50"}))
        while "PUT" not in held.came:
            await asyncio.sleep(0.01)
        status, body = await service.get("/entities", headers={EXPECTED_TIMEOUT: "200"})
        assert (status, body["code"]) == (504, "deadline_passed")
        held.set()
        status, body = await write
        assert (status, body["code"]) == (504, "deadline_passed")
        assert "PUT" not in held.began


async def waiting(admission: Admission, number: int) -> list[tuple[Turn, asyncio.Task[bool]]]:
    """So many requests in the line of a worker without room, each with its wait."""
    admission.sample(late_seconds=1.0)
    for _ in range(FEWEST):
        admission.begin()
    turns = [Turn(admission) for _ in range(number)]
    assert {admission.ask(ORDINARY, 0, turn) for turn in turns} == {WAIT}
    waits = [asyncio.create_task(turn.begins()) for turn in turns]
    await asyncio.sleep(0)
    return list(zip(turns, waits, strict=True))


async def test_the_room_goes_to_the_next_in_the_line_in_the_moment_when_a_client_goes() -> None:
    admission = Admission(longest_wait_seconds=60)
    (_, gone), (_, waits) = await waiting(admission, 2)
    gone.cancel()
    admission.end()  # before the cancelled request has left the line
    assert await waits
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert admission.under_way == FEWEST


async def test_a_request_whose_client_goes_may_be_refused_in_that_moment() -> None:
    admission = Admission(longest_wait_seconds=60)
    ((turn, gone),) = await waiting(admission, 1)
    gone.cancel()
    turn.refuse()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert admission.under_way == FEWEST
