"""Request bodies: unread until the application reads them, within a budget, and never read as a request."""

import asyncio
import json
import time
from contextlib import suppress

import pytest

from optimizely_api.runtime.server.http1 import body as bodies
from optimizely_api.runtime.server.http1.body import BodyBudget, NoRoomForBody
from optimizely_api.runtime.server.http1.chunked import ChunkedReader
from optimizely_api.runtime.server.http1.head import Refusal
from tests.runtime.servers import gunicorn, read_to_end, until

LAST = b"GET /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with gunicorn(
        tmp_path_factory.mktemp("bodies"), "--keep-alive", "60", request_bodies_bytes=4 * MIB
    ) as server:
        yield server


def head(method, path, *headers):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: t", *headers, "", ""]).encode()


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/echo", "/nowhere"])
def test_an_unwanted_body_is_discarded_and_not_read_as_a_request(server, method, path):
    body = b"GET /block?seconds=0 HTTP/1.1\r\nHost: t\r\n\r\n"
    answers = server.exchange(head(method, path, f"Content-Length: {len(body)}") + body + LAST)
    assert answers.count(b"HTTP/1.1 ") == 2
    assert b'"stalls"' not in answers


def test_an_unwanted_chunked_body_ends_the_connection(server):
    answers = server.exchange(head("GET", "/echo", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + LAST)
    assert (answers.count(b"HTTP/1.1 200 OK"), answers.count(b"Connection: close")) == (1, 1)


def test_the_rest_of_an_unwanted_body_may_arrive_after_the_response(server):
    with server.connect() as client:
        client.sendall(head("POST", "/nowhere", "Content-Length: 3"))
        assert client.recv(65536).startswith(b"HTTP/1.1 404")
        client.sendall(b"abc" + LAST)
        assert read_to_end(client).startswith(b"HTTP/1.1 200 OK")


def test_a_body_is_read_although_the_request_asks_for_an_upgrade(server):
    wish = ("Connection: Upgrade", "Upgrade: h2c")
    for framing, body in (
        ("Content-Length: 3", b"abc"),
        ("Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n"),
    ):
        answers = server.exchange(head("POST", "/echo", framing, *wish) + body + LAST)
        assert (answers.count(b"HTTP/1.1 200 OK"), answers.count(b'"body_bytes": 3')) == (2, 1)


def test_400_for_chunks_that_are_tiny_on_average(server):
    started = time.monotonic()
    body = b"1\r\nx\r\n" * 1_000_000 + b"0\r\n\r\n"
    with server.connect() as client:
        with suppress(OSError):
            client.sendall(head("POST", "/echo", "Transfer-Encoding: chunked") + body)
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"too small" in answer
    assert time.monotonic() - started < 10.0


def test_a_thousand_small_chunks_are_no_attack(server):
    body = b"4\r\nabcd\r\n" * 1000 + b"0\r\n\r\n"
    answer = server.exchange(head("POST", "/echo", "Transfer-Encoding: chunked", "Connection: close") + body)
    assert b'"body_bytes": 4000' in answer


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_a_chunked_body_ends_at_the_same_byte_however_it_is_split(size):
    whole = b"7\r\na\r\n\r\nbc\r\n5;x=y\r\n\r\n\r\n!\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    content = []
    reader = ChunkedReader(content.append)
    rest = b""
    for start in range(0, len(whole), size):
        part = whole[start : start + size]
        rest += part if reader.complete else reader.feed(part)
    assert (b"".join(content), rest) == (b"a\r\n\r\nbc\r\n\r\n!", b"GET / HTTP/1.1\r\n\r\n")


def test_extensions_and_trailers_are_bounded():
    for part in (b"1;" + b"x" * 20_000, b"0\r\n" + b"X: y\r\n" * 5000):
        with pytest.raises(Refusal):
            ChunkedReader(lambda content: None).feed(part)


# The budget


async def test_a_request_without_room_waits_in_line():
    budget = BodyBudget(10)
    assert budget.try_take(6)
    assert not budget.try_take(6)
    waiting = [asyncio.create_task(budget.take(size)) for size in (6, 1)]
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [False, False]
    budget.give_back(6)
    await asyncio.gather(*waiting)
    assert budget.free_bytes == 3


async def test_503_when_there_is_no_room_for_long(monkeypatch):
    monkeypatch.setattr(bodies, "WAIT_FOR_ROOM_SECONDS", 0.05)
    budget = BodyBudget(10)
    assert budget.try_take(10)
    with pytest.raises(NoRoomForBody):
        await budget.take(1)
    budget.give_back(10)
    assert budget.free_bytes == 10


@pytest.mark.parametrize(("taken", "given_back"), [(5, 0), (10, 10)])
async def test_a_cancelled_wait_for_room_does_not_hold_up_the_next(taken, given_back):
    """Also where room becomes free in the same turn of the loop."""
    budget = BodyBudget(10)
    assert budget.try_take(taken)
    first, second = (asyncio.create_task(budget.take(size)) for size in (6, 5))
    await asyncio.sleep(0)
    first.cancel()
    budget.give_back(given_back)
    await asyncio.gather(first, second, return_exceptions=True)
    assert first.cancelled()
    assert budget.free_bytes == 10 - taken + given_back - 5


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_bodies_under_way_take_no_more_memory_than_their_budget(server):
    answer = server.exchange(LAST)
    pid = json.loads(answer.partition(b"\r\n\r\n")[2])["pid"]
    before = resident_bytes(pid)
    clients = []
    for _ in range(60):
        client = server.connect()
        client.sendall(head("POST", "/echo", f"Content-Length: {MIB}"))
        client.setblocking(False)
        clients.append(client)
    most = 0
    for _ in range(15):  # none becomes whole
        for client in clients:
            with suppress(OSError):
                client.send(b"x" * 65_536)
        server.exchange(LAST)
        most = max(most, resident_bytes(pid))
    # What was read behind the heads comes on top, at most 32 KiB each, and what a request itself takes. Without a
    # budget it were 60 MiB.
    assert most - before < 4 * MIB + 60 * 128 * 1024 + 4 * MIB
    refused = set()
    until(lambda: refused.update(filter(is_told_to_return, set(clients) - refused)) or len(refused) >= 55)
    for client in clients:
        client.close()
    assert b"HTTP/1.1 200 OK" in server.exchange(head("POST", "/echo", "Content-Length: 3") + b"abc" + LAST)


def is_told_to_return(client):
    try:
        answer = client.recv(1000)
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in answer
