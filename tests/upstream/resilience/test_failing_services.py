"""The policies together, with the client that callers use, before services that fail in every way."""

import asyncio
import contextlib
import dataclasses
import time

import pytest

from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.caching_client import CachingOptions, open_caching_client
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import CallContext, Limits, Upstream
from optimizely_api.upstream.errors import NeverSent, UpstreamError, UpstreamTimeout
from optimizely_api.upstream.resilience.policies import PolicyOptions
from tests.support.ports import free_port
from tests.upstream.scripted_service import CLOSE, OK, scripted
from tests.upstream.versioned_service import versioned

ALONE = CachingOptions(coalesce=False, definition_bytes=0, results_bytes=0)
CALL = Call("results", "/things/1", "Thing", entity="thing 1")
SHAPES = {"Thing": lambda _value: None, "Project": lambda _value: None}
NUMBER = 300
GOOD = {"status": "ok"}


def context(seconds=5.0):
    return CallContext("8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", time.monotonic() + seconds)


@contextlib.asynccontextmanager
async def client_of(urls, *, seconds=2.0, **policies):
    limits = Limits(connections=1000, connect_timeout_seconds=0.5, response_bytes=50_000, echo_required=False)
    upstreams = {name: Upstream(url=url, timeout_seconds=seconds) for name, url in urls.items()}
    options = PolicyOptions(**policies)
    async with open_caching_client(upstreams, limits, SHAPES, ALONE, policy_options=options) as client:
        yield client


async def outcome(client, call=CALL, seconds=5.0):
    try:
        return await client.fetch(call, context(seconds))
    except UpstreamError as exc:
        return exc


BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
FAILURES = {
    "closed": [CLOSE],
    "broken": [OK[:-1], CLOSE],
    "not HTTP": [b"SMTP\r\n\r\n"],
    "503": [BUSY],
    "500": [BUSY.replace(b"503", b"500")],
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_when_everything_fails_a_service_gets_at_most_a_tenth_more_calls_than_were_made(failure):
    async with scripted() as service, client_of({"results": service.url}, throttle_seconds=0) as client:
        service.script += [failure] * 2 * NUMBER
        for _ in range(NUMBER):
            assert isinstance(await outcome(client), UpstreamError)
    assert len(service.heads) <= 1.1 * NUMBER


@pytest.mark.parametrize("failure", [FAILURES["closed"], FAILURES["503"]], ids=["closed", "503"])
async def test_and_with_the_throttle_it_gets_few_of_them(failure):
    async with scripted() as service, client_of({"results": service.url}) as client:
        service.script += [failure] * 2 * NUMBER
        for _ in range(NUMBER):
            assert isinstance(await outcome(client), UpstreamError)
    assert len(service.heads) <= 0.25 * NUMBER


async def test_an_address_that_takes_no_connections_is_tried_seldom(monkeypatch):
    tried = 0

    async def black_hole(*_args, **_options):
        nonlocal tried
        tried += 1
        raise TimeoutError

    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", black_hole)
    async with client_of({"results": "http://127.0.0.1:1"}) as client:
        outcomes = [await outcome(client) for _ in range(NUMBER)]
    assert {type(each) for each in outcomes} == {NeverSent}
    assert "cannot be reached" in outcomes[-1].message or "fail at present" in outcomes[-1].message
    assert tried <= 10


@contextlib.asynccontextmanager
async def answering_after(seconds):
    """A service that takes so long for each answer."""

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(seconds)
                writer.write(OK)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", free_port(), backlog=1024)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


async def test_a_service_that_takes_more_than_a_second_serves_all_who_ask_at_once():
    async with answering_after(1.1) as url, client_of({"results": url}, seconds=60.0) as client:
        for _ in range(2):
            asking = [outcome(client, seconds=60.0) for _ in range(NUMBER)]
            assert await asyncio.gather(*asking) == [GOOD] * NUMBER
        assert not client.policies["results"].throttle.has_failures


async def test_callers_of_a_silent_service_are_soon_refused_at_once_and_its_return_is_found():
    async with scripted() as service, client_of({"results": service.url}, seconds=0.2) as client:
        late = await asyncio.gather(*(outcome(client) for _ in range(20)))
        assert {type(each) for each in late} == {UpstreamTimeout}
        before = len(service.heads)
        refused = await asyncio.gather(*(outcome(client) for _ in range(100)))
        assert [type(each) for each in refused].count(NeverSent) > 80
        assert len(service.heads) - before < 20
        service.script[:] = [[OK]] * 10_000
        async with asyncio.timeout(5):
            while await outcome(client) != GOOD:
                await asyncio.sleep(0.01)


async def test_callers_with_less_time_than_a_service_takes_do_not_make_it_a_failing_one():
    async with answering_after(0.3) as url, client_of({"results": url}) as client:
        hasty = await asyncio.gather(*(outcome(client, seconds=0.1) for _ in range(NUMBER)))
        assert {type(each) for each in hasty} == {UpstreamTimeout}
        assert await outcome(client) == GOOD


async def test_a_service_that_returns_is_found_without_being_told():
    async with scripted() as service, client_of({"results": service.url}) as client:
        service.script += [[CLOSE]] * 2 * NUMBER
        for _ in range(NUMBER):
            await outcome(client)
        service.script[:] = [[OK]] * 10_000
        async with asyncio.timeout(5):
            while await outcome(client) != GOOD:
                await asyncio.sleep(0.01)
        # Four good responses in a row forget the outage.
        async with asyncio.timeout(5):
            while client.policies["results"].throttle.refused_share:
                await outcome(client)
                await asyncio.sleep(0.01)


async def test_a_service_with_all_its_calls_under_way_holds_up_no_other():
    async with versioned() as slow, versioned() as quick:
        quick.entities["/projects/1"] = {"id": 1}
        slow.open.clear()
        urls = {"results": slow.url, "projects": quick.url}
        project = dataclasses.replace(calls.get_project(1), cached_as="")
        async with client_of(urls, fewest_calls=1, most_calls=1) as client:
            held = [asyncio.create_task(outcome(client)) for _ in range(50)]
            await slow.until(inside=1)
            for _ in range(50):
                assert await client.fetch(project, context()) == {"id": 1}
            assert not any(task.done() for task in held)
            refused = await asyncio.gather(*held[1:])
            slow.open.set()
            await held[0]
    assert {type(each) for each in refused} == {NeverSent}
    assert {each.message for each in refused} == {
        "The results service has slowed down, and other calls to it went first."
    }


async def test_what_ends_while_it_waits_its_turn_leaves_nothing_behind():
    async with versioned() as service:
        service.open.clear()
        async with client_of({"results": service.url}, fewest_calls=1, most_calls=1) as client:
            tasks = [asyncio.create_task(outcome(client)) for _ in range(20)]
            await service.until(inside=1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await service.until(inside=0)
            assert client.policies["results"].limit.in_flight == 0
            service.open.set()
            assert isinstance(await outcome(client), UpstreamError)  # there is no such thing
