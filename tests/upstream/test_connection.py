"""The bytes on a connection to a service, and how the client treats odd, late and broken responses."""

import asyncio
import contextlib
import contextvars
import dataclasses
import errno
import functools
import gc
import gzip
import os
import re
import resource
import socket
import struct
import time
import weakref

import pytest
import uvloop

from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import Address, CallContext, Upstream
from optimizely_api.upstream.errors import BadUpstreamResponse, UpstreamTimeout, UpstreamUnavailable
from optimizely_api.upstream.transport.connector import ServiceConnector
from tests.support.ports import free_port
from tests.upstream import scripted_service
from tests.upstream.scripted_service import CACHES_NOTHING, CALL, CLOSE, OK, scripted

PLAIN = b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n"
GOOD = {"status": "ok"}
WRITE = Call("results", "/healthz", "Health", method="PATCH", body={})
BODY = b'{"status":"ok"}'
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b'5\r\n{"sta\r\n1;x=y\r\nt\r\n9\r\nus":"ok"}\r\n0\r\n\r\n'
REQUEST_ID = "8f14e45f-ceea-467f-a0e6-0c1f7d6a0001"


@pytest.fixture
async def service():
    async with scripted() as running:
        yield running


@pytest.fixture(params=[None, CACHES_NOTHING], ids=["plain", "caching"])
def client_of(request):
    """Opens a client; both kinds behave in the same way."""
    return functools.partial(scripted_service.client_of, caching=request.param)


@pytest.fixture
async def client(service, client_of):
    async with client_of(service.url) as opened:
        yield opened


@pytest.fixture
def context():
    return CallContext(REQUEST_ID, time.monotonic() + 5)


def answer(body=BODY, *headers, status=b"200 OK", version=b"1.1"):
    lines = [b"HTTP/%s %s" % (version, status), *headers]
    return b"\r\n".join([*lines, b"", body])


async def test_the_head_of_a_request(client, service, context):
    service.script.append([OK])
    await client.fetch(CALL, context)
    line, *headers = service.heads[0].decode().rstrip().split("\r\n")
    assert line == "GET /healthz HTTP/1.1"
    assert f"Host: {service.url.removeprefix('http://')}" in headers
    assert {"Accept: application/json", "Accept-Encoding: identity"} <= set(headers)
    assert any(re.fullmatch(rf"X-Request-Id: {REQUEST_ID}\.\d+", header) for header in headers)
    assert len({header.partition(":")[0].lower() for header in headers}) == len(headers)


def test_a_connection_does_not_keep_the_context_of_the_request_that_opened_it():
    class Held:
        """An object that only the request refers to."""

    variable = contextvars.ContextVar("variable")

    async def ask(client, held):
        variable.set(held)
        await client.fetch(CALL, CallContext(REQUEST_ID, time.monotonic() + 5))

    async def main():
        async with scripted() as service, scripted_service.client_of(service.url) as client:
            service.script.extend([[OK], [OK[:9], OK[9:]], [OK]])
            await ask(
                client, None
            )  # aiohttp's timer for idle connections keeps the context of the first, and no other
            others = asyncio.create_task(ask(client, None))
            held = Held()
            still_there = weakref.ref(held)
            asking = asyncio.create_task(ask(client, held))
            del held
            await asyncio.gather(asking, others)
            del asking
            await service.until(lambda: still_there() is None)
            assert (service.connections, service.closed) == (2, 0)

    uvloop.run(main())  # asyncio's own loop keeps cancelled timers for a while, and with them their context


async def test_too_few_open_files_are_the_gateways_own_fault(client, context):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(UpstreamUnavailable, match="too many open files for a connection to the results"):
            await client.fetch(CALL, context)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_the_connection_used_last_is_used_next_so_that_the_others_can_expire(client, service, context):
    service.script.extend([[OK[:9], OK[9:]], [OK[:9], OK[9:]], [OK], [OK]])
    await asyncio.gather(client.fetch(CALL, context), client.fetch(CALL, context))
    await client.fetch(CALL, context)
    await client.fetch(CALL, context)
    assert service.connections == 2
    assert sorted(service.requests.values()) == [1, 3]


async def test_an_idle_connection_makes_room_for_one_to_another_service(service, context):
    service.script.extend([[OK], [OK]])
    async with (
        scripted() as other,
        ServiceConnector(5, 5.0, 1000, most_connections=1, echo_required=False) as connector,
    ):
        other.script.append([OK])
        for url in (service.url, other.url):
            await connector.request(Address(Upstream(url=url, timeout_seconds=5)).destination, (PLAIN, ""))
        await service.until(lambda: service.closed == 1)


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_connection_opened_while_the_loop_was_blocked_is_in_time(loop):
    async def ask():
        async with (
            scripted() as service,
            scripted_service.client_of(service.url, connect_seconds=0.1) as client,
        ):
            service.script.append([OK])
            asking = asyncio.create_task(client.fetch(CALL, CallContext(REQUEST_ID, time.monotonic() + 5)))
            await asyncio.sleep(0)  # it connects
            time.sleep(0.2)  # noqa: ASYNC251 - that is what is tested
            return await asking

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(ask()) == GOOD


async def test_a_query_is_quoted_and_a_base_path_is_kept(service, context, client_of):
    service.script.append([OK])
    query = (("filter", "name:a b&c\r\nX: 1"), ("filter", "é"))
    async with client_of(f"{service.url}/internal/v1") as client:
        await client.fetch(Call("results", "/healthz", "Health", query=query), context)
    line = service.heads[0].split(b"\r\n")[0]
    expected = b"GET /internal/v1/healthz?filter=name%3Aa+b%26c%0D%0AX%3A+1&filter=%C3%A9 HTTP/1.1"
    assert line == expected


@pytest.mark.parametrize(
    ("path", "request_id"),
    [
        ("/results/1 HTTP/1.1\r\nX: 1\r\n\r\nGET /secret", REQUEST_ID),
        ("/results/1\n", REQUEST_ID),
        ("/results/a b", REQUEST_ID),
        ("/results/\x00", REQUEST_ID),
        ("/results/é", REQUEST_ID),
        ("/results/1", "id\r\nAuthorization: Bearer x"),
        ("/results/1", ""),
    ],
)
async def test_a_path_or_id_that_could_split_a_request_is_not_sent(client, service, path, request_id):
    with pytest.raises(ValueError, match="not to be sent"):
        await client.fetch(Call("results", path, "Health"), CallContext(request_id, time.monotonic() + 5))
    assert service.connections == 0


async def test_a_service_may_have_an_ipv6_address(context, client_of):
    async with scripted("::1") as service, client_of(service.url) as client:
        service.script.append([OK])
        assert await client.fetch(CALL, context) == GOOD
        assert f"Host: {service.url.removeprefix('http://')}\r\n".encode() in service.heads[0]


@pytest.mark.parametrize(
    "parts",
    [
        [OK],
        [OK[i : i + 1] for i in range(len(OK))],
        [answer(CHUNKS, CHUNKED)],
        [answer(b"", CHUNKED), *(b"1\r\n%c\r\n" % byte for byte in BODY), b"0\r\n\r\n"],
        [answer(status=b"100 Continue", body=b""), answer(b"", b"Link: </x>", status=b"103 Early Hints"), OK],
        [answer(b"", status=b"103 Early Hints") + answer(b"", status=b"103 Early Hints") + OK],
    ],
    ids=["whole", "byte by byte", "chunked", "in tiny chunks", "after interim answers", "in one go"],
)  # fmt: skip
async def test_a_response_is_read_however_it_is_split_and_the_connection_stays_open(
    client, service, context, parts
):
    service.script += [parts, [OK]]
    assert await client.fetch(CALL, context) == GOOD
    assert await client.fetch(CALL, context) == GOOD
    assert service.connections == 1


@pytest.mark.parametrize(
    "parts",
    [
        [answer(), CLOSE],
        [answer(version=b"1.0"), CLOSE],
        [answer(BODY[:3], version=b"1.0"), BODY[3:], CLOSE],
        [answer(BODY, b"Content-Length: 15", version=b"1.0")],
        [answer(BODY, b"Content-Length: 15", b"Connection: close")],
        [answer(CHUNKS[:-2] + b"Trailer: 1\r\n\r\n", CHUNKED)],
    ],
    ids=["no length", "1.0", "1.0 in pieces", "1.0 with a length", "Connection: close", "trailers"],
)
async def test_a_connection_that_ends_with_its_response_is_replaced(client, service, context, parts):
    service.script += [parts, [OK]]
    assert await client.fetch(CALL, context) == GOOD
    assert await client.fetch(CALL, context) == GOOD
    assert service.connections == 2


@pytest.mark.parametrize("late", [(), (b"0\r\n\r\n",)], ids=["no body", "the end of a body"])
@pytest.mark.parametrize(
    "head",
    [
        answer(b"", CHUNKED, status=b"204 No Content"),
        answer(b"", CHUNKED, status=b"304 Not Modified"),
        answer(b"", b"Content-Length: 5", status=b"204 No Content"),
    ],
    ids=["204 in chunks", "304 in chunks", "204 with a length"],
)
async def test_204_and_304_end_with_their_heads_whatever_these_say_of_a_body(
    client, service, context, head, late
):
    """What may come all the same is never read as the response to the next call."""
    service.script += [[head, *late], [OK]]
    with pytest.raises(BadUpstreamResponse, match=r"status [23]04"):  # not agreed for this call
        await client.fetch(CALL, context)
    assert await client.fetch(CALL, context) == GOOD
    assert service.connections == 2


@pytest.mark.parametrize(
    "parts",
    [
        [b"SSH-2.0-OpenSSH_9.2\r\n"],
        [b"HTTP/1.1 2OO OK\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: fifteen\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Length: 16\r\n\r\n" + BODY],
        [b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000 + b"\r\n"],
        [b"HTTP/1.1 200 " + b"y" * 20_000 + b"\r\n"],
        [b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 15\n\n" + BODY + b"HTTP/1.1 200 OK\r\n\r\n"],
        [b"\r\n\r\n" + OK],
        [answer(b"", status=b"103 Early Hints") * 11 + OK],
        [answer(b"", status=b"103 Early Hints")] * 11 + [OK],
        [answer(b"", b"X: " + b"y" * 7000, status=b"103 Early Hints")] * 3 + [OK],
        [answer(b"", CHUNKED) + b"1\r\nx\r\n" * 3000],
        [answer(b"", CHUNKED) + b"1;" + b"x" * 10_000 + b"\r\nx\r\n"],
        [answer(b"zz\r\n", CHUNKED)],
    ],
    ids=[
        "ssh",
        "status",
        "length",
        "two lengths",
        "long header",
        "long status line",
        "headers",
        "bare line feeds",
        "blank lines first",
        "interim answers in one go",
        "interim answers",
        "long interim answers",
        "tiny chunks",
        "long chunk extension",
        "chunk",
    ],
)
async def test_invalid_http_is_a_bad_response_and_ends_the_connection(client, service, context, parts):
    service.script.append(parts)
    with pytest.raises(BadUpstreamResponse, match="it is not HTTP as agreed"):
        await client.fetch(CALL, context)
    await service.until(lambda: service.closed == 1)


async def test_a_switch_of_protocols_is_a_bad_response(client, service, context):
    switch = answer(b"", b"Connection: upgrade", b"Upgrade: h2c", status=b"101 Switching Protocols")
    service.script += [[switch], [OK]]
    with pytest.raises(BadUpstreamResponse, match="status 101"):
        await client.fetch(CALL, context)
    await service.until(lambda: service.closed == 1)


@pytest.mark.parametrize(
    "parts",
    [
        [b"HTTP/1.1 200", CLOSE],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + BODY[:14], CLOSE],
        [answer(b"f\r\n" + BODY, CHUNKED), CLOSE],
    ],
    ids=["in the head", "before its length", "before the last chunk"],
)
@pytest.mark.parametrize("earlier", [0, 1])
async def test_half_a_response_is_a_bad_response_and_the_call_is_not_repeated(
    client, service, context, parts, earlier
):
    service.script += [[OK]] * earlier
    for _ in range(earlier):
        await client.fetch(CALL, context)
    service.script += [parts, [OK]]
    with pytest.raises(BadUpstreamResponse, match="the connection broke off"):
        await client.fetch(CALL, context)
    assert len(service.heads) == earlier + 1


@pytest.mark.parametrize(
    "bomb",
    [
        answer(b"x" * 60_000, b"Content-Length: 60000"),
        answer(b"x" * 60_000, b"Content-Length: 1000000000000"),
        answer(b"", CHUNKED) + b"80\r\n%b\r\n" % (b"x" * 128) * 500,
        answer(b"x" * 60_000, version=b"1.0"),
    ],
    ids=["by its length", "before its end", "in chunks", "before the connection ends"],
)
async def test_a_response_over_the_limit_is_rejected_before_it_is_complete(client, service, context, bomb):
    service.script.append([bomb])
    with pytest.raises(BadUpstreamResponse, match="its body is larger than 50000 bytes"):
        await client.fetch(CALL, context)
    await service.until(lambda: service.closed == 1)


async def test_a_call_on_an_idle_connection_that_closes_is_sent_again(client, service, context):
    service.script += [[OK], [CLOSE], [OK]]
    await client.fetch(CALL, context)
    assert await client.fetch(CALL, context) == GOOD
    assert (len(service.heads), service.connections) == (3, 2)


async def test_a_call_on_an_idle_connection_that_is_reset_is_sent_again(client, service, context):
    service.script += [[OK]]
    await client.fetch(CALL, context)
    work = asyncio.create_task(client.fetch(CALL, context))
    await service.until(lambda: len(service.heads) == 2)
    service.script.append([OK])
    peer = service.writers[0].get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    service.writers[0].close()
    assert await work == GOOD


async def test_a_call_is_sent_at_most_twice(client, service, context):
    service.script += [[OK], [OK]]
    await client.fetch_all([CALL, CALL], context)
    service.script += [[CLOSE], [CLOSE], [OK]]
    with pytest.raises(BadUpstreamResponse, match="the connection broke off"):
        await client.fetch(CALL, context)
    assert len(service.heads) == 4


async def test_a_safe_call_on_a_new_connection_that_closes_silently_is_sent_once_more(
    client, service, context
):
    service.script += [[CLOSE], [OK]]
    assert await client.fetch(CALL, context) == GOOD
    assert len(service.heads) == 2


async def test_a_write_on_a_new_connection_that_closes_silently_is_not_repeated(client, service, context):
    service.script += [[CLOSE], [OK]]
    with pytest.raises(BadUpstreamResponse, match="the connection broke off"):
        await client.fetch(dataclasses.replace(CALL, method="PATCH"), context)
    assert len(service.heads) == 1


SURPLUS = {
    "an answer": OK,
    "half of one": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a blank line": b"\r\n",
    "a byte": b"x",
}
COMPLETE = {"with a length": OK, "chunked": answer(CHUNKS, CHUNKED)}
WITH_SURPLUS = {
    f"{framing}-{when}-{more}": [whole + surplus] if when == "in one go" else [whole, surplus]
    for framing, whole in COMPLETE.items()
    for when in ("in one go", "a moment later")
    for more, surplus in SURPLUS.items()
    # The parser reads it together with the last chunk, as a head: see the answers that are not HTTP.
    if (framing, when, more) != ("chunked", "in one go", "a byte")
}


@pytest.mark.parametrize("parts", WITH_SURPLUS.values(), ids=WITH_SURPLUS)
async def test_a_connection_with_surplus_bytes_is_not_used_again(client, service, context, parts):
    service.script += [parts, [OK]]
    assert await client.fetch(CALL, context) == GOOD
    await service.until(lambda: service.closed == 1)
    assert await client.fetch(CALL, context) == GOOD
    assert service.connections == 2


async def test_of_two_responses_in_one_piece_the_second_is_discarded(client, service, context):
    service.script += [[OK + OK.replace(b'"ok"', b'"no"')], [OK]]
    assert await client.fetch(CALL, context) == GOOD
    assert await client.fetch(CALL, context) == GOOD
    assert service.connections == 2


async def test_a_late_response_is_discarded(service, context, client_of):
    async with client_of(service.url, seconds=0.1) as client:
        with pytest.raises(UpstreamTimeout):
            await client.fetch(CALL, context)
        await service.until(lambda: service.closed == 1)
        service.script.append([OK])
        assert await client.fetch(CALL, context) == GOOD
        assert service.connections == 2


async def test_a_body_that_arrives_too_slowly_is_late(service, context, client_of):
    service.script.append([OK[:-5], b"x", b"x"])
    async with client_of(service.url, seconds=0.1) as client:
        with pytest.raises(UpstreamTimeout):
            await client.fetch(CALL, context)


async def test_calls_over_the_limit_of_connections_wait_for_a_free_one(service, context, client_of):
    service.script += [[OK]] * 6
    async with client_of(service.url, connections=2) as client:
        assert await client.fetch_all([CALL] * 6, context) == [GOOD] * 6
    assert service.connections == 2


async def test_waiting_for_a_connection_counts_towards_the_limit_of_time(service, context, client_of):
    async with client_of(service.url, connections=1, seconds=0.5) as client:
        results = await asyncio.gather(
            *(client.fetch(CALL, context) for _ in range(3)), return_exceptions=True
        )
        assert [type(result) for result in results] == [UpstreamTimeout] * 3
        assert max(context.durations_ms["results"]) < 1000  # one after the other they would take 1.5 s
        service.script.append([OK])
        assert await client.fetch(CALL, context) == GOOD


async def test_cancelled_calls_give_their_places_back(service, context, client_of):
    async with client_of(service.url, connections=2) as client:
        work = [asyncio.create_task(client.fetch(CALL, context)) for _ in range(4)]
        await service.until(lambda: len(service.heads) == 2)
        for task in work:
            task.cancel()
        assert all(task.cancelled() for task in (await asyncio.wait(work))[0])
        await service.until(lambda: service.closed == 2)
        service.script += [[OK]] * 4
        assert await client.fetch_all([CALL] * 4, context) == [GOOD] * 4
    gc.collect()


async def test_a_connection_that_cannot_be_made_in_time_is_unavailable(context, client_of):
    with socket.socket() as full:
        full.bind(("127.0.0.1", free_port()))
        full.listen(0)
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        async with client_of(url, seconds=4) as client:
            with pytest.raises(UpstreamUnavailable):
                await client.fetch(CALL, context)
        for one in waiting:
            one.close()


@pytest.mark.parametrize("turns", range(6))
async def test_a_service_that_resets_each_connection_at_once_is_a_bad_one(context, client_of, turns):
    """Whether the client has seen by then that it is connected, or has sent the request: so many turns of its loop."""
    with socket.create_server(("127.0.0.1", free_port())) as listening:
        listening.setblocking(False)
        async with client_of(f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
            work = asyncio.create_task(client.fetch(CALL, context))
            while not work.done():
                await asyncio.sleep(0)
                with contextlib.suppress(BlockingIOError):
                    peer, _ = listening.accept()
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    peer.close()
            with pytest.raises((BadUpstreamResponse, UpstreamUnavailable)):
                await work


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_the_first_connection_ends_the_rest_of_an_address_whatever_its_peer_is_called(
    context, client_of, host
):
    port, first = free_port(), None
    async with client_of(f"http://{host}:{port}") as client:
        with pytest.raises(UpstreamUnavailable):
            await client.fetch(CALL, context)  # two attempts, so that the address rests now
        async with scripted(port=port) as service:
            service.script += [[answer(BODY, b"Content-Length: 15", b"Connection: close")], [OK]]
            while first is None:
                with contextlib.suppress(UpstreamUnavailable):
                    first = await client.fetch(CALL, context)
                await asyncio.sleep(0.01)
            assert await client.fetch(CALL, context) == GOOD
            assert service.connections == 2


async def test_a_name_that_does_not_resolve_is_unavailable(context, client_of):
    async with client_of("http://service.invalid") as client:
        with pytest.raises(UpstreamUnavailable):
            await client.fetch(CALL, context)


@pytest.mark.parametrize("half_closed", [False, True], ids=["it hangs", "it has said its last"])
async def test_a_service_that_does_not_read_the_request_is_late_and_disconnected(
    context, half_closed, client_of
):
    large = Call("results", "/results/1", "Health", method="POST", body={"x": "y" * 20_000_000})
    with socket.create_server(("127.0.0.1", free_port())) as listening:
        listening.setblocking(False)
        async with client_of(f"http://127.0.0.1:{listening.getsockname()[1]}", seconds=0.2) as client:
            work = asyncio.create_task(client.fetch(large, context))
            loop = asyncio.get_running_loop()
            peer, _ = await loop.sock_accept(listening)
            if half_closed:
                peer.shutdown(socket.SHUT_WR)
            with pytest.raises(UpstreamTimeout):
                await work
            taken = 0
            async with asyncio.timeout(5):
                while chunk := await loop.sock_recv(peer, 1 << 20):
                    taken += len(chunk)
            peer.close()
    assert taken < 20_000_000


async def test_none_of_200_calls_at_once_is_lost_when_the_backlog_overflows_for_a_moment(context, client_of):
    """The kernel drops what does not fit, and repeats it only after a second: too late for a connect."""
    context.deadline += 10
    with socket.create_server(("127.0.0.1", free_port()), backlog=8) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with client_of(url, connections=200, seconds=10, connect_seconds=0.7) as client:
            waiting = [asyncio.create_task(client.fetch(CALL, context)) for _ in range(200)]
            await asyncio.sleep(0.3)  # the moment
            service = scripted_service.ScriptedService(script=[[OK]] * 200)
            server = await asyncio.start_server(service.serve, sock=listening, backlog=1024)
            assert await asyncio.gather(*waiting) == [GOOD] * 200
        server.close()
        await service.until(lambda: service.closed == service.connections)


async def test_a_connect_is_tried_twice_and_no_more(context, client_of, monkeypatch):
    tried = 0

    async def refused(*_args, **_options):
        nonlocal tried
        tried += 1
        raise OSError(errno.ECONNREFUSED, "refused")

    async with client_of("http://127.0.0.1:1") as client:
        monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", refused)
        with pytest.raises(UpstreamUnavailable):
            await client.fetch(CALL, context)
    assert tried == 2


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"gzip, identity", b"zstd", b"unheard-of"])
async def test_an_encoded_response_is_rejected_unread_and_ends_the_connection(
    client, service, context, coding
):
    bomb = gzip.compress(bytes(50_000_000), 1)[:40_000]
    service.script.append([answer(bomb, b"Content-Encoding: " + coding, b"Content-Length: %d" % len(bomb))])
    with pytest.raises(BadUpstreamResponse, match="it is encoded, though it was not to be"):
        await client.fetch(CALL, context)
    await service.until(lambda: service.closed == 1)


async def test_an_encoded_transfer_is_refused(client, service, context):
    service.script.append([answer(CHUNKS, b"Transfer-Encoding: gzip, chunked")])
    with pytest.raises(BadUpstreamResponse, match="it is encoded"):
        await client.fetch(CALL, context)


@pytest.mark.parametrize(
    ("status", "echo", "refused"),
    [
        (b"200 OK", b"X-Request-Id: another.1", True),
        (b"503 No", b"X-Request-Id: another.1", True),
        (b"200 OK", b"", True),
        (b"404 No", b"", True),
        (b"503 No", b"", False),
    ],
)
async def test_a_response_must_echo_the_number_of_its_call(
    service, context, client_of, status, echo, refused
):
    """A proxy's own errors, from 500 up, have no number."""
    headers = [b"Content-Length: 15", *([echo] if echo else [])]
    service.script.append([answer(BODY, *headers, status=status)])
    async with client_of(service.url, echo_required=True) as client:
        with pytest.raises(BadUpstreamResponse if refused else UpstreamUnavailable) as caught:
            await client.fetch(CALL, context)
        assert ("the answer to this call" in str(caught.value)) == refused
        if refused:
            await service.until(lambda: service.closed == 1)


def close(writer):
    """Close a connection of the service at once; the client's event loop has no turn in between."""
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as of_service:
        of_service.shutdown(socket.SHUT_RDWR)


async def test_a_write_is_not_sent_on_a_connection_that_the_service_has_just_closed(client, service, context):
    """It could not be sent again: its caller would get an error, though nothing is wrong."""
    service.script += [[OK[:9], OK[9:]]] * 2
    await asyncio.gather(client.fetch(CALL, context), client.fetch(CALL, context))
    for writer in service.writers:
        close(writer)
    service.script.append([OK])
    assert await client.fetch(WRITE, context) == GOOD
    assert (service.connections, len(service.heads)) == (3, 3)


async def test_a_write_that_has_waited_for_a_connection_is_not_sent_on_one_that_has_just_been_closed(
    service, context
):
    async with scripted_service.client_of(service.url, connections=1) as client:
        service.script += [[OK], [OK]]

        async def end_its_connection():
            answer = await client.fetch(CALL, context)
            close(service.writers[0])
            return answer

        assert await asyncio.gather(end_its_connection(), client.fetch(WRITE, context)) == [GOOD, GOOD]
    assert (service.connections, len(service.heads)) == (2, 2)


async def test_each_call_has_a_number_of_its_own(client, service, context):
    service.script += [[OK]] * 5
    for _ in range(5):
        await client.fetch(CALL, context)
    assert len({re.search(rb"X-Request-Id: (.*)\r\n", head)[1] for head in service.heads}) == 5


async def test_a_call_that_is_repeated_takes_a_new_connection(client, service, context):
    """The other idle connections may be closed too."""
    service.script += [[OK[:9], OK[9:]], [OK[:9], OK[9:]]]
    await asyncio.gather(client.fetch(CALL, context), client.fetch(CALL, context))
    service.script += [[CLOSE], [OK]]
    assert await client.fetch(CALL, context) == GOOD
    assert service.connections == 3
