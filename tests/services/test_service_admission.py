"""A service that is overloaded refuses requests early, the least important ones first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from optimizely_api.services.http.admission import ADMISSION, ServiceAdmission, class_of, is_bulk
from optimizely_api.services.http.application import DATABASE, make_application
from optimizely_api.services.http.questions import only_asks
from optimizely_api.serving.admission import BULK, ORDINARY, PEOPLE
from tests.services.conftest import Caller, running

SOON_SECONDS = 10


def handler(held: asyncio.Event | None = None) -> Any:
    async def respond(request: web.Request) -> web.Response:
        if held is not None:
            await held.wait()
        sum(range(200_000))  # the CPU that makes a loop late
        return web.json_response(class_of(request))

    return respond


@asynccontextmanager
async def served(
    database_url: str, overload_wait_seconds: float = 0.0
) -> AsyncIterator[tuple[Caller, asyncio.Event]]:
    """A service, and the event that its GET /held waits for."""
    held = asyncio.Event()
    routes = [
        web.get("/entities", handler()),
        web.get("/entities/{entity_id}", handler()),
        web.patch("/entities/{entity_id}", handler()),
        web.post("/question", only_asks(handler())),
        web.post("/batches", is_bulk(handler())),
        web.get("/held", handler(held)),
    ]
    application = make_application("sample", database_url=database_url, routes=routes)
    admission = application[ADMISSION] = ServiceAdmission(overload_wait_seconds)
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
        ("POST", "/batches", BULK),
    ],
)
async def test_what_matters_more(database_url: str, method: str, path: str, kind: int) -> None:
    async with served(database_url) as (service, _):
        assert await service.call(method, path) == (200, kind)


async def test_503_with_retry_after_while_the_loop_is_late_but_health_answers(database_url: str) -> None:
    async with (
        served(database_url, overload_wait_seconds=0.0005) as (service, held),
        asyncio.timeout(SOON_SECONDS),
    ):
        under_way = asyncio.create_task(service.get("/held"))  # an idle service refuses nothing
        while (answered := await service.post("/batches"))[0] == 200:
            pass
        assert answered == (
            503,
            {"code": "overloaded", "message": "the service is overloaded; send the request again"},
        )
        async with service.session.post(f"{service.url}/batches") as response:
            assert response.headers["Retry-After"] in ("1", "2", "3")
        assert (await service.get("/healthz"))[0] == 200
        held.set()
        assert (await under_way) == (200, ORDINARY)  # what was admitted is served
