"""The proxy between gateway and service: what it passes on, and what each fault makes of a response."""

import asyncio
import random

import aiohttp
import pytest
from aiohttp import web

from optimizely_api.proof.faults import KINDS, Fault
from optimizely_api.proof.proxy import FaultProxy
from tests.support.ports import free_port

BODY = {"id": 1, "name": "Ana", "archived": False}


@pytest.fixture
async def service():
    async def answer(request):
        more = {"path": request.path, "sent": (await request.text()) or None}
        return web.json_response({**BODY, **more}, dumps=compact)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port
    await runner.cleanup()


def compact(value):
    import json

    return json.dumps(value, separators=(",", ":"))


@pytest.fixture
async def proxy(service):
    proxy = FaultProxy(free_port(), service, random.Random(1))
    await proxy.listen()
    yield proxy
    proxy.refuse()


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


def fault(kind, **more):
    return Fault(kind, at=0.0, seconds=1.0, target="projects", **more)


async def get(session, proxy, path="/a", body=None):
    async with session.request("GET", f"http://127.0.0.1:{proxy.port}{path}", data=body) as response:
        return response.status, await response.read()


async def test_without_a_fault_it_passes_everything_on(proxy, session):
    for path in ("/a", "/b"):
        status, body = await get(session, proxy, path, b"x" * 200_000)
        assert status == 200
        assert f'"path":"{path}"'.encode() in body
        assert b"x" * 200_000 in body
    assert proxy.counts == {}


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("error", 500, b"fault\n"),
        ("off-contract", 200, b'{"id":"text","name":7,"archived":"text","path":7,"sent":7}'),
        ("forged", 200, b'{"id":1,"name":"Not Ana","archived":false,"path":"/a","sent":null}'),
    ],
)
async def test_a_falsified_response_is_whole(proxy, session, kind, status, expected):
    proxy.on(fault(kind))
    assert await get(session, proxy) == (status, expected)
    assert proxy.counts == {kind: 1}


async def test_bad_json_has_the_length_that_it_says(proxy, session):
    proxy.on(fault("bad-json"))
    assert (await get(session, proxy))[1].endswith(b"\x00}")


async def test_swapped_is_the_response_to_another_call(proxy, session):
    await get(session, proxy, "/other")
    proxy.on(fault("swapped"))
    assert b'"path":"/other"' in (await get(session, proxy, "/a"))[1]


@pytest.mark.parametrize("kind", ["reset", "truncated"])
async def test_a_cut_response_fails_in_the_client(proxy, session, kind):
    proxy.on(fault(kind))
    with pytest.raises(aiohttp.ClientError):
        await get(session, proxy)


async def test_a_slow_response_comes_whole_after_its_delay(proxy, session):
    proxy.on(fault("slow", delay=0.2))
    began = asyncio.get_running_loop().time()
    assert (await get(session, proxy))[0] == 200
    assert asyncio.get_running_loop().time() - began >= 0.2


async def test_a_fault_that_is_over_does_nothing(proxy, session):
    for kind in (name for name, each in KINDS.items() if each.of_responses):
        one = fault(kind)
        proxy.on(one)
        proxy.off(one)
    assert (await get(session, proxy))[0] == 200
    assert proxy.counts == {}


async def test_it_refuses_connections_as_where_nothing_listens(proxy, session):
    await get(session, proxy)
    proxy.refuse()
    with pytest.raises(aiohttp.ClientError):
        await get(session, proxy)
    await proxy.listen()
    assert (await get(session, proxy))[0] == 200
