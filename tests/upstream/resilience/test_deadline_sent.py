"""What a service is told about the time that its caller has left."""

import asyncio
import re
import time

import pytest

from optimizely_api.upstream.caching.caching_client import CachingOptions
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import CallContext
from tests.upstream.scripted_service import CACHES_NOTHING, CALL, CLOSE, OK, client_of, scripted


def milliseconds_told(head):
    return int(re.search(rb"X-Envoy-Expected-Rq-Timeout-Ms: (\d+)\r\n", head)[1])


def context(seconds):
    return CallContext("8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", time.monotonic() + seconds)


@pytest.fixture
async def service():
    async with scripted() as service:
        yield service


@pytest.fixture(params=[None, CACHES_NOTHING], ids=["plain", "caching"])
async def client(service, request):
    async with client_of(service.url, seconds=2.0, caching=request.param) as client:
        yield client


@pytest.mark.parametrize(("left", "least", "most"), [(0.5, 300, 498), (60, 1800, 1998)])
async def test_it_is_told_the_smaller_limit_less_two_milliseconds(client, service, left, least, most):
    service.script.append([OK])
    await client.fetch(CALL, context(left))
    assert least <= milliseconds_told(service.heads[0]) <= most


async def test_a_repeated_call_is_told_what_is_left_then(client, service):
    service.script += [[CLOSE], [OK]]
    await client.fetch(CALL, context(1.0))
    first, second = map(milliseconds_told, service.heads)
    assert first - 500 < second <= first - 10  # the shortest pause before it


async def test_a_shared_call_is_repeated_for_whoever_joined_it_and_waits_longer(service):
    call = Call("results", "/things/1", "Thing")
    async with client_of(service.url, seconds=2.0, caching=CachingOptions()) as client:
        hasty = asyncio.create_task(client.fetch(call, context(0.5)))
        await service.until(lambda: len(service.heads) == 1)
        patient = asyncio.create_task(client.fetch(call, context(2.0)))
        await asyncio.sleep(0)
        service.script.append([OK])
        service.writers[0].write(b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n")
        assert await patient == await hasty == {"status": "ok"}
    first, second = map(milliseconds_told, service.heads)
    assert first <= 498 < second
