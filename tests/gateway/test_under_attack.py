"""What one attacker costs the others: latencies and memory, measured while it lasts. WHOLE_SIMULATIONS=1 runs these.

Their short forms are beside what defends: `test_security.py`, `runtime/test_bodies.py`, `runtime/test_stopping.py`.
"""

import asyncio
import contextlib
import itertools
import json
import multiprocessing
import re
import socket
import time
import uuid

import pytest
import requests

from tests.runtime.servers import gunicorn, until
from tests.support.asserting import AUTHORIZED
from tests.support.real_services import real_services
from tests.support.serving import serve

pytestmark = pytest.mark.whole

MIB = 1024 * 1024
SECONDS = 10
UNKNOWN_TOKENS_PER_SECOND, CONNECTIONS = 1_000, 100
BUDGET_BYTES = 64 * MIB  # production.ini's request_bodies_bytes


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """One worker before real services, so that nobody else can help those it keeps waiting."""
    folder = tmp_path_factory.mktemp("attacked")
    with (
        real_services(folder, results_workers=1) as services,
        serve("main", services.settings(), folder / "gateway.log", "--workers", "1") as served,
    ):
        yield served


@contextlib.contextmanager
def attack(attacker, url, *more):
    """`attacker(port, *more)` in a process of its own until the block ends."""
    process = multiprocessing.get_context("spawn").Process(
        target=attacker, args=(int(url.rsplit(":", 1)[1]), *more)
    )
    process.start()
    try:
        time.sleep(2)  # it has begun
        yield
        assert process.is_alive()
    finally:
        process.kill()
        process.join()


def p99_ms(url, path="/v2/projects"):
    """The 99th percentile of a good caller, who asks fifty times a second."""
    took = []
    with requests.Session() as session:
        session.headers.update(AUTHORIZED)
        assert session.get(url + path, timeout=60).status_code == 200  # a new worker takes a while
        ended = time.monotonic() + SECONDS
        while time.monotonic() < ended:
            began = time.perf_counter()
            assert session.get(url + path, timeout=30).status_code == 200
            took.append(1000 * (time.perf_counter() - began))
            time.sleep(0.02)
    return sorted(took)[len(took) * 99 // 100]


def guess_tokens(port):
    async def guess(first):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        for number in itertools.count(first):
            head = f"GET /v2/projects HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer 2:{uuid.uuid4()}\r\n\r\n"
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            due = began + (number - first) * CONNECTIONS / UNKNOWN_TOKENS_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def guess_on_all():
        await asyncio.gather(*map(guess, range(CONNECTIONS)))

    asyncio.run(guess_on_all())


def send_tiny_chunks(port, path):
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port)) as client,
        ):
            client.sendall(head + b"1\r\nx\r\n" * MIB)


def test_good_callers_hardly_notice_a_thousand_unknown_tokens_a_second(gateway):
    quiet = p99_ms(gateway.url)
    with attack(guess_tokens, gateway.url):
        attacked = p99_ms(gateway.url)
    guesses = len(re.findall('"status":(401|503)', gateway.log.read_text())) / (SECONDS + 2)
    print(
        f"p99 of a good caller: {quiet:.0f} ms, and {attacked:.0f} ms beside {guesses:.0f} guesses a second"
    )
    assert attacked < 200


def test_others_p99_is_under_100_ms_while_one_sends_bodies_in_tiny_chunks(tmp_path):
    with gunicorn(tmp_path) as server:
        quiet = p99_ms(server.url, "/echo")
        with attack(send_tiny_chunks, server.url, "/echo"):
            attacked = p99_ms(server.url, "/echo")
    print(f"p99 of the others: {quiet:.0f} ms, and {attacked:.0f} ms beside 1 MiB in one-byte chunks")
    assert attacked < 100


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def pid_of(server):
    return requests.get(server.url + "/echo", timeout=30).json()["pid"]


def test_300_connections_that_hold_bodies_grow_a_worker_by_at_most_its_budget(tmp_path):
    with gunicorn(tmp_path, body_timeout_seconds=60.0) as server, contextlib.ExitStack() as opened:
        pid = pid_of(server)
        before = most = resident_bytes(pid)
        clients = [opened.enter_context(server.connect()) for _ in range(300)]
        for client in clients:
            client.sendall(f"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\n\r\n".encode())
            client.setblocking(False)
        for _ in range(40):  # none becomes whole
            for client in clients:
                with contextlib.suppress(OSError):
                    client.send(b"x" * 25_000)
            most = max(most, resident_bytes(pid))
    print(f"{(most - before) / MIB:.0f} MiB more with 300 bodies under way")
    # What was read behind the heads comes on top.
    assert most - before < BUDGET_BYTES + 300 * 32 * 1024


def test_clients_that_never_read_are_cut_off_with_their_memory(tmp_path):
    with gunicorn(tmp_path, write_timeout_seconds=2.0) as server, contextlib.ExitStack() as opened:
        pid = pid_of(server)
        before = resident_bytes(pid)
        for _ in range(20):
            client = opened.enter_context(server.connect())
            client.sendall(b"GET /answer?bytes=10000000 HTTP/1.1\r\nHost: t\r\n\r\n")
        until(lambda: resident_bytes(pid) - before > 50 * MIB)
        most = resident_bytes(pid)
        until(lambda: resident_bytes(pid) - before < 10 * MIB, 20)
        after = resident_bytes(pid)
    print(json.dumps({"before": before // MIB, "most": most // MIB, "after": after // MIB}))
