"""How connections end: with a response if possible, and never by a reset that destroys it."""

import asyncio
import signal
import socket
import time
from contextlib import ExitStack

import pytest

from optimizely_api.runtime.server.worker import ARRIVAL_SECONDS
from tests.runtime.servers import gunicorn, read_to_end, until

REQUEST = b"GET /echo HTTP/1.1\r\nHost: t\r\n\r\n"
LAST = b"GET /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"


async def kept_client(port, outcomes, stopped, interval):
    """Send on a persistent connection, and on a new one after `Connection: close`, until nothing listens."""
    while not stopped.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        closes = False
        while not closes:
            try:
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(
                    int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                )
            except (OSError, asyncio.IncompleteReadError) as exc:
                outcomes.append(repr(exc))
                break
            outcomes.append(head[9:12].decode())
            closes = b"Connection: close" in head
            await asyncio.sleep(interval)
        writer.close()


async def new_client(port, outcomes):
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except (
        ConnectionRefusedError,
        ConnectionResetError,
    ):  # reset, if the sockets were closed during the handshake
        return
    try:
        writer.write(LAST)
        outcomes.append((await reader.read())[9:12].decode() or "nothing")
    except OSError as exc:
        outcomes.append(repr(exc))
    writer.close()


async def under_load(server, action, *, seconds, kept=20, new_per_second=100):
    """All outcomes of kept and new connections while `action` happens half a second after the start."""
    outcomes, stopped = [], asyncio.Event()
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    acts = loop.time() + 0.5
    tasks = [asyncio.create_task(kept_client(server.port, outcomes, stopped, 0.2)) for _ in range(kept)]
    while loop.time() < ends:
        if action is not None and loop.time() >= acts:
            action()
            action = None
        tasks.append(asyncio.create_task(new_client(server.port, outcomes)))
        await asyncio.sleep(1 / new_per_second)
    stopped.set()
    await asyncio.gather(*tasks)
    return outcomes


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        pytest.param((), 2.0, id="TERM, one worker"),
        pytest.param(("--workers", "2"), 2.0, id="TERM, two workers"),
        pytest.param(("--workers", "2", "--max-requests", "60"), 4.0, id="max_requests"),
    ],
)
async def test_no_connection_is_reset_when_workers_stop_under_load(tmp_path, arguments, seconds):
    with gunicorn(tmp_path, "--keep-alive", "60", *arguments) as server:
        stops = "--max-requests" not in arguments
        action = (lambda: server.signal(signal.SIGTERM)) if stops else None
        outcomes = await under_load(server, action, seconds=seconds)
        if stops:
            assert await asyncio.to_thread(server.wait) == 0
    print(f"{len(outcomes)} requests")
    assert len(outcomes) > 50
    failed = [outcome for outcome in outcomes if outcome != "200"]
    # Nobody can accept a connection that the kernel completes between the last accept and the closing of the socket,
    # however short that is: at 100 new ones a second on a busy machine it meets one now and then.
    assert len(failed) <= (1 if stops else 0), failed


def test_a_persistent_connection_gets_one_more_response_after_term(tmp_path):
    with gunicorn(tmp_path, "--keep-alive", "60") as server, server.connect() as client:
        client.sendall(REQUEST)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        server.signal(signal.SIGTERM)
        server.wait_for_log("Worker shutting down")
        client.sendall(REQUEST)
        response = read_to_end(client)
    assert response.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in response


def test_an_idle_connection_waits_longer_for_its_last_request_than_a_new_one_for_its_first(tmp_path):
    with gunicorn(tmp_path, "--keep-alive", "60") as server, server.connect() as client:
        client.sendall(REQUEST)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        server.signal(signal.SIGTERM)
        server.wait_for_log("Worker shutting down")
        time.sleep(2 * ARRIVAL_SECONDS)  # what the promise is about
        client.sendall(REQUEST)
        assert read_to_end(client).startswith(b"HTTP/1.1 200 OK")


def test_clients_in_the_backlog_get_their_responses_after_term(tmp_path):
    with gunicorn(tmp_path, "--worker-connections", "2") as server, ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(6)]
        for client in clients:
            client.sendall(b"GET /wait?seconds=2 HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        server.signal(signal.SIGTERM)
        assert all(read_to_end(client).startswith(b"HTTP/1.1 200 OK") for client in clients)


def test_the_sockets_are_closed_once_the_persistent_connections_have_ended(tmp_path):
    with gunicorn(tmp_path, "--keep-alive", "60") as server, server.connect() as client:
        client.sendall(b"GET /wait?seconds=3 HTTP/1.1\r\nHost: t\r\n\r\n")
        server.exchange(LAST)
        server.signal(signal.SIGTERM)

        def is_refused():
            try:
                server.connect().close()
            except ConnectionRefusedError:
                return True
            return False

        until(is_refused)
        assert read_to_end(client).startswith(b"HTTP/1.1 200 OK")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with gunicorn(tmp_path_factory.mktemp("ends"), "--keep-alive", "60", write_timeout_seconds=1.0) as server:
        yield server


def test_a_refusal_reaches_a_client_that_is_still_sending(server):
    with server.connect() as client:
        client.sendall(b"GET / HTTP/9.9\r\nHost: t\r\n\r\n" + b"x" * 1_000_000)
        assert read_to_end(client).startswith(b"HTTP/1.1 505 ")


def test_a_client_that_never_reads_is_reset_so_that_the_kernel_discards_its_response(server):
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /answer?bytes=50000000 HTTP/1.1\r\nHost: t\r\n\r\n")
        client.settimeout(10.0)

        def is_reset():
            return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 104

        until(is_reset)


def test_a_persistent_http_1_0_connection_is_announced(server):
    with server.connect() as client:
        for _ in range(3):
            client.sendall(b"GET /answer?bytes=5 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response = client.recv(65536)
            assert b"\r\nConnection: keep-alive\r\n" in response
            assert response.endswith(b"xxxxx")
        client.sendall(b"GET /stream?chunks=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"\r\nConnection: close\r\n" in read_to_end(client)
