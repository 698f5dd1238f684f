"""The gunicorn worker, in real gunicorn processes."""

import asyncio
import itertools
import json
import resource
import signal
import time
from contextlib import ExitStack, asynccontextmanager, suppress
from urllib.request import urlopen

import pytest
from aiohttp import ClientSession

from optimizely_api.runtime.server.protocol import LINGER_SECONDS
from tests.runtime.servers import gunicorn, read_to_end, until

HALF_A_HEAD = b"GET /echo HTTP/1.1\r\nHost: t\r\nX-Slow"
REQUEST = b"GET /echo HTTP/1.1\r\nHost: t\r\n\r\n"


def get(server, path):
    with urlopen(server.url + path, timeout=15.0) as response:
        return json.load(response)


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


def json_of(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One gunicorn that no test stops."""
    tmp_path = tmp_path_factory.mktemp("gunicorn")
    with gunicorn(tmp_path, "--keep-alive", "60", max_request_body_bytes=1000) as server:
        yield server


# What reaches the application


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param("GET /echo?a=1 HTTP/1.1\r\nHost: h:1", {"host": "h:1", "scheme": "http"}, id="plain"),
        pytest.param(
            "GET http://real/echo HTTP/1.1\r\nHost: h", {"path": "/echo", "host": "real"}, id="absolute form"
        ),
        pytest.param(
            "GET /echo HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https",
            {"scheme": "https"},
            id="trusted proxy",
        ),
        pytest.param(
            "GET /echo HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: HTTPS\r\nX-Forwarded-Ssl: On",
            {"scheme": "https"},
            id="trusted proxy that writes in capitals",
        ),
        pytest.param(
            "GET /echo HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https, http",
            {"scheme": "https"},
            id="chain of proxies, HTTPS at the client",
        ),
        pytest.param(
            "GET /echo HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: http, https",
            {"scheme": "http"},
            id="chain of proxies, HTTPS behind the first only",
        ),
        pytest.param("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4", {"body_bytes": 4}, id="a body"),
        pytest.param("GET /echo HTTP/1.0", {"client": "127.0.0.1"}, id="HTTP/1.0 needs no Host"),
    ],
)
def test_a_request_reaches_the_application(server, head, expected):
    answer = json_of(server.exchange(f"{head}\r\nConnection: close\r\n\r\nbody".encode()))
    assert {key: answer[key] for key in expected} == expected


def test_a_proxy_that_is_not_trusted_sets_no_scheme(tmp_path):
    with gunicorn(tmp_path, "--forwarded-allow-ips", "192.0.2.1") as server:
        for value in (b"https", b"HTTPS", b"https, http"):
            header = b"\r\nX-Forwarded-Proto: " + value + b"\r\nConnection: close\r\n\r\n"
            assert json_of(server.exchange(REQUEST.replace(b"\r\n\r\n", header)))["scheme"] == "http"


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        pytest.param("GET /echo HTTP/1.1", 400, id="no Host"),
        pytest.param("GET /echo HTTP/1.1\r\nHost: a b", 400, id="a Host that is none"),
        pytest.param("GET /echo HTTP/1.1\r\nHost: a/b", 400, id="a path in Host"),
        pytest.param("GET /echo HTTP/1.1\r\nHost: a\r\nHost: b", 400, id="two Hosts"),
        pytest.param("GET  /echo HTTP/1.1\r\nHost: a", 400, id="two spaces"),
        pytest.param("GET /echo HTTP/3.9\r\nHost: a", 505, id="another major version"),
        pytest.param("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +1", 400, id="a signed length"),
        pytest.param("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: rot13", 501, id="unknown coding"),
        pytest.param("GET /echo HTTP/2.0\r\nHost: a", 505, id="HTTP/2 without its preface"),
        pytest.param("PRI * HTTP/2.0", 505, id="HTTP/2 with its preface"),
        pytest.param("GET /echo HTTP/1.2\r\nHost: a\r\nConnection: close", 200, id="a later minor version"),
        pytest.param("BREW /echo HTTP/1.1\r\nHost: a", 501, id="unknown method"),
        pytest.param(
            "GET /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked",
            501,
            id="a coding before chunked",
        ),
        pytest.param(
            f"GET /echo?{'a' * 8000} HTTP/1.1\r\nHost: a\r\nConnection: close", 200, id="8,000 bytes"
        ),
        pytest.param(f"GET /{'a' * 17000} HTTP/1.1\r\nHost: a", 414, id="a long target"),
        pytest.param(f"GET /echo HTTP/1.1\r\nHost: a\r\nX: {'a' * 66000}", 431, id="a long header section"),
        pytest.param("GET /echo HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close", 200, id="an IPv6 Host"),
        pytest.param("GET /echo HTTP/1.1\r\nHost:\r\nConnection: close", 200, id="an empty Host"),
        pytest.param("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close", 204, id="asterisk form"),
        pytest.param("CONNECT a:80 HTTP/1.1\r\nHost: a:80", 404, id="CONNECT"),
    ],
)
def test_heads_are_checked(server, request_head, status):
    assert status_of(server.exchange(request_head.encode() + b"\r\n\r\n")) == status


@pytest.mark.parametrize("version", [b"13", b"8"])
def test_an_upgrade_to_a_websocket_is_ignored(server, version):
    head = REQUEST.replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    head += b"Sec-WebSocket-Version: %s\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % version
    answers = server.exchange(head + REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert (answers.count(b"HTTP/1.1 "), answers.count(b"HTTP/1.1 200 OK")) == (2, 2)


def test_pipelined_requests_get_their_responses_in_order(server):
    paths = ["/echo?first", "/wait?seconds=0.1", "/echo?third"]
    head = "".join(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n" for path in paths)
    answers = server.exchange(head.encode() + REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert answers.count(b"HTTP/1.1 200 OK") == 4
    assert answers.index(b'"waited"') > answers.index(b'"path"')
    assert answers.rindex(b'"path"') > answers.index(b'"waited"')


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"Content-Length: 5000\r\n\r\n" + b"x" * 5000, id="declared"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n" + b"1f4\r\n" + b"x" * 500 + b"\r\n" + b"1f5\r\n" + b"x" * 501
                     + b"\r\n0\r\n\r\n", id="chunked"),
    ],
)  # fmt: skip
def test_413_and_the_end_of_the_connection_for_a_body_over_the_limit(server, body):
    answer = server.exchange(b"POST /echo HTTP/1.1\r\nHost: t\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 413 Content Too Large\r\n")
    assert json_of(answer)["code"] == "request_too_large"
    assert answer.lower().count(b"connection: close") == 1


def test_a_large_upload_over_the_limit_still_sees_its_response(server):
    with server.connect() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 8000000\r\n\r\n")
        client.sendall(b"x" * 8_000_000)
        assert status_of(read_to_end(client)) == 413


@pytest.mark.parametrize(
    ("length", "first_line"), [(10, b"HTTP/1.1 100 Continue"), (5000, b"HTTP/1.1 413 Content Too Large")]
)
def test_100_continue_is_sent_only_for_a_body_that_is_read(server, length, first_line):
    head = f"POST /echo HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    with server.connect() as client:
        client.sendall(head.encode())
        assert client.recv(1000).split(b"\r\n")[0] == first_line


def test_a_client_that_expects_100_continue_does_not_delay_its_response(server):
    took = []
    head = b"POST /echo HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n"
    for _ in range(5):
        began = time.monotonic()
        assert status_of(server.exchange(head)) == 413
        took.append(time.monotonic() - began)
    assert min(took) < LINGER_SECONDS  # each would take at least as long; the machine's load can delay one


def test_a_streamed_response_of_any_length_is_not_held_in_memory(server):
    memory_before = resident_bytes(get(server, "/echo")["pid"])
    with server.connect() as client:
        client.sendall(b"GET /stream?chunks=100000 HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
        get(server, "/wait?seconds=0.5")
        assert resident_bytes(get(server, "/echo")["pid"]) - memory_before < 20_000_000


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_a_failure_in_the_middle_of_a_response_closes_the_connection(server):
    answer = server.exchange(b"GET /broken_stream HTTP/1.1\r\nHost: t\r\n\r\n")
    assert (status_of(answer), answer.endswith(b"0\r\n\r\n")) == (200, False)
    server.wait_for_log("in the middle of the answer")


def test_head_on_the_wire_has_the_length_and_no_body(server):
    answer = server.exchange(b"HEAD /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
    assert b"content-length: " in answer
    assert answer.endswith(b"\r\n\r\n")


def test_uvloop_runs_the_requests_and_the_watchdog_counts_a_blocking_view(server):
    assert get(server, "/state")["loop"].startswith("uvloop")
    before = get(server, "/block?seconds=0")["stalls"]
    get(server, "/block?seconds=0.3")
    assert get(server, "/block?seconds=0")["stalls"] > before
    assert "in hold_the_loop\n    time.sleep(seconds)" in server.log


def test_a_request_needs_one_task_and_its_connection_none(server):
    worker_itself = {"the worker's loop", "the lifespan"}
    assert get(server, "/state")["tasks"] == len(worker_itself) + 1


def test_clients_that_leave_cancel_their_views_and_leave_nothing_behind(server):
    get(server, "/state")
    before = get(server, "/state")
    clients = [server.connect() for _ in range(100)]
    for client in clients:
        client.sendall(b"GET /wait?seconds=60 HTTP/1.1\r\nHost: t\r\n\r\n")
    until(lambda: get(server, "/state")["started"] == before["started"] + 100)
    for client in clients:
        client.close()
    until(lambda: get(server, "/state")["cancelled"] == before["cancelled"] + 100)
    kinds = ("tasks", "greenlets", "files")
    until(lambda: [get(server, "/state")[kind] for kind in kinds] == [before[kind] for kind in kinds])
    assert get(server, "/state")["unwound"] > before["unwound"] + 100


# Slow clients and many clients


async def seconds_until_closed(port, *parts):
    began = time.monotonic()  # the server may have the connection before this process hears of it
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.3)
    answer = await asyncio.wait_for(reader.read(), 60.0)
    writer.close()
    return time.monotonic() - began, answer


@asynccontextmanager
async def other_requests(server):
    """Requests that go on meanwhile; yields the list of how long each took."""
    took = []

    async def client(session):
        while True:
            began = time.monotonic()
            async with session.get(f"{server.url}/echo") as response:
                assert response.status == 200
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.01)

    async with ClientSession() as session:
        task = asyncio.create_task(client(session))
        yield took
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])


async def test_200_half_open_clients_are_closed_at_the_header_deadline_while_others_go_on(tmp_path):
    with gunicorn(tmp_path, header_timeout_seconds=3.0) as server:
        async with other_requests(server) as took:
            closed = await asyncio.gather(
                *(seconds_until_closed(server.port, HALF_A_HEAD) for _ in range(200))
            )
    seconds = [after for after, _ in closed]
    print(
        f"closed after {min(seconds):.2f} to {max(seconds):.2f} s; others: {len(took)}, slowest {max(took):.3f} s"
    )
    # Not sooner; how much later is the machine's load, so that only what the others had in the meantime is judged.
    assert min(seconds) > 2.5
    assert {status_of(answer) for _, answer in closed} == {408}
    assert len(took) > 20
    assert max(took) < min(seconds)  # nobody waited until the slow ones were gone


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([], b"", id="no byte at all"),
        pytest.param([b"G", b"E", b"T"], b"HTTP/1.1 408", id="trickled bytes win no time"),
        pytest.param([REQUEST + HALF_A_HEAD], b"HTTP/1.1 408", id="a pipelined head that stays half"),
        pytest.param([REQUEST, HALF_A_HEAD], b"HTTP/1.1 408", id="a later head that stays half"),
    ],
)
async def test_a_head_that_does_not_arrive_times_out(slow_head_server, parts, expected):
    after, answer = await seconds_until_closed(slow_head_server.port, *parts)
    begun = 0.3 * (len(parts) - 1) if REQUEST in parts else 0.0
    assert 0.9 < after - begun < 15  # the keep-alive time of this server would be 20 s
    assert expected in answer
    assert answer.count(b"HTTP/1.1 200") == sum(REQUEST in part for part in parts)


@pytest.fixture(scope="module")
def slow_head_server(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("slow_head")
    with gunicorn(
        tmp_path, "--keep-alive", "20", header_timeout_seconds=1.0, write_timeout_seconds=1.0
    ) as server:
        yield server


async def test_an_idle_connection_stays_open_for_keepalive(tmp_path):
    with gunicorn(tmp_path, "--keep-alive", "2", header_timeout_seconds=1.0) as server:
        after, answer = await seconds_until_closed(server.port, REQUEST)
    assert 1.8 < after < 30
    assert b"408" not in answer


def test_a_head_that_begins_at_the_end_of_keepalive_has_its_whole_time(tmp_path):
    with (
        gunicorn(tmp_path, "--keep-alive", "2", header_timeout_seconds=30.0) as server,
        server.connect() as client,
    ):
        client.sendall(REQUEST)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
        client.sendall(HALF_A_HEAD)
        client.settimeout(3.0)  # more than keepalive
        with pytest.raises(TimeoutError):
            client.recv(1000)
        client.sendall(b": no longer\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_reads_nothing_of_its_response_is_closed(slow_head_server):
    before = get(slow_head_server, "/state")
    with slow_head_server.connect() as client:
        client.sendall(b"GET /stream?chunks=1000 HTTP/1.1\r\nHost: t\r\n\r\n")
        until(lambda: get(slow_head_server, "/state")["greenlets"] > before["greenlets"])
        until(lambda: get(slow_head_server, "/state")["greenlets"] == before["greenlets"])
        assert get(slow_head_server, "/state")["files"] == before["files"]
        received = 0
        with suppress(ConnectionResetError):
            while chunk := client.recv(65536):
                received += len(chunk)
        assert received < 500 * 65536


def test_connections_over_worker_connections_wait_until_one_ends(tmp_path):
    with (
        gunicorn(tmp_path, "--worker-connections", "5", header_timeout_seconds=30.0) as server,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(server.connect()) for _ in range(5)]
        for client in clients:
            client.sendall(HALF_A_HEAD)
        waiting = stack.enter_context(server.connect())
        waiting.sendall(REQUEST)
        waiting.settimeout(1.0)
        with pytest.raises(TimeoutError):
            waiting.recv(1000)
        clients[0].close()
        waiting.settimeout(10.0)
        assert waiting.recv(1000).startswith(b"HTTP/1.1 200 OK")
        assert server.log.count("Traceback") == 0


def test_a_full_worker_ends_each_connection_with_its_response(tmp_path):
    one = ("--worker-connections", "1", "--keep-alive", "60")
    with gunicorn(tmp_path, *one) as server, server.connect() as first, server.connect() as waiting:
        waiting.sendall(REQUEST)
        first.sendall(REQUEST)
        first.settimeout(10.0)
        assert b"Connection: close" in read_to_end(first)
        waiting.settimeout(10.0)
        assert waiting.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_connection_is_freed_when_it_ends(tmp_path):
    with gunicorn(tmp_path) as server:
        for _ in range(20):
            server.exchange(b"GET /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        until(lambda: get(server, "/connections")["protocols"] == 1)


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        with gunicorn(tmp_path) as server:
            pid = get(server, "/echo")["pid"]
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard)
            assert f"Raised the limit of open files from 200 to {hard}" in server.log
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_full_worker_leaves_new_connections_to_another(tmp_path):
    limits = ("--worker-connections", "3", "--workers", "2")
    with gunicorn(tmp_path, *limits, header_timeout_seconds=30.0) as server, ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(server.connect()).sendall(HALF_A_HEAD)
        pids = {get(server, "/echo")["pid"] for _ in range(10)}
    assert len(pids) == 1


def test_a_worker_out_of_file_descriptors_accepts_again_when_some_are_free(tmp_path):
    with gunicorn(tmp_path) as server:
        pid = get(server, "/echo")["pid"]
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, limits[1]))
        with server.connect() as waiting:
            waiting.sendall(REQUEST)
            server.wait_for_log("Cannot accept connections, trying again in a second")
            time.sleep(0.5)  # a worker that tried on and on would have said so many times
            assert server.log.count("Cannot accept connections") < 5
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            waiting.settimeout(5.0)
            assert waiting.recv(1000).startswith(b"HTTP/1.1 200 OK")
        assert "Traceback" not in server.log


# Stopping


async def in_flight(server, count, seconds):
    """Start `count` requests that take `seconds`, each on a connection of its own; returns the tasks."""

    async def one():
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET /wait?seconds={seconds} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 20.0)
        writer.close()
        return answer

    started = get(server, "/state")["started"]
    tasks = [asyncio.create_task(one()) for _ in range(count)]
    await asyncio.to_thread(until, lambda: get(server, "/state")["started"] == started + count)
    return tasks


async def test_term_finishes_50_requests_in_flight_and_closes_idle_connections_after_some_seconds(tmp_path):
    with gunicorn(tmp_path, "--keep-alive", "60") as server:
        idle = server.connect()
        idle.sendall(REQUEST)
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        tasks = await in_flight(server, 50, seconds=1.5)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert await asyncio.to_thread(read_to_end, idle) == b""
        idle_closed_after = time.monotonic() - began
        answers = await asyncio.gather(*tasks)
        assert [status_of(answer) for answer in answers] == [200] * 50
        assert await asyncio.to_thread(server.wait) == 0
        stopped_after = time.monotonic() - began
        idle.close()
    print(f"idle closed after {idle_closed_after:.2f} s, stopped after {stopped_after:.2f} s")
    assert 1.0 < idle_closed_after < 25.0  # the graceful timeout would be 30 s, the keep-alive time 60 s
    assert stopped_after < 30.0
    assert "the lifespan has ended" in server.log


async def test_term_serves_the_clients_in_the_backlog(tmp_path):
    with gunicorn(tmp_path) as server:
        blocking = await asyncio.open_connection("127.0.0.1", server.port)
        blocking[1].write(b"GET /block?seconds=1 HTTP/1.1\r\nHost: t\r\n\r\n")
        await asyncio.sleep(0.3)
        waiting = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        for _, writer in waiting:
            writer.write(REQUEST)
        server.signal(signal.SIGTERM)
        answers = await asyncio.gather(*(reader.read() for reader, _ in [blocking, *waiting]))
        for _, writer in [blocking, *waiting]:
            writer.close()
    assert [status_of(answer) for answer in answers] == [200] * 21


def test_a_head_begun_before_term_may_be_completed(tmp_path):
    with gunicorn(tmp_path) as server, server.connect() as client:
        client.sendall(HALF_A_HEAD)
        get(server, "/echo")
        server.signal(signal.SIGTERM)
        server.wait_for_log("Worker shutting down")
        time.sleep(0.5)  # longer than an idle connection lives
        client.sendall(b": 1\r\n\r\n")
        assert status_of(read_to_end(client)) == 200


async def test_hup_finishes_50_requests_in_flight_and_a_new_worker_serves_the_next(tmp_path):
    with gunicorn(tmp_path) as server:
        old = get(server, "/echo")["pid"]
        tasks = await in_flight(server, 50, seconds=1.5)
        server.signal(signal.SIGHUP)
        answers = await asyncio.gather(*tasks)
        assert [status_of(answer) for answer in answers] == [200] * 50
        await asyncio.to_thread(server.wait_for_log, f"Worker exiting (pid: {old})")
        assert get(server, "/echo")["pid"] != old


async def test_requests_still_in_flight_at_the_end_of_graceful_timeout_are_cancelled(tmp_path):
    with gunicorn(tmp_path, "--graceful-timeout", "2") as server:
        tasks = await in_flight(server, 3, seconds=60)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert await asyncio.gather(*tasks) == [b""] * 3
        assert 1.5 < time.monotonic() - began < 20
        assert await asyncio.to_thread(server.wait) == 0
        assert server.log.count("a view was cancelled") == 3
        assert server.log.rindex("a view was cancelled") < server.log.index("the lifespan has ended")


async def test_int_stops_without_waiting(tmp_path):
    with gunicorn(tmp_path) as server:
        await in_flight(server, 1, seconds=60)
        began = time.monotonic()
        server.signal(signal.SIGINT)
        await asyncio.to_thread(server.wait)
        assert time.monotonic() - began < 20  # the graceful timeout would be 30 s


# Starting


def test_a_failing_start_up_stops_gunicorn_and_logs_the_reason(tmp_path):
    with gunicorn(tmp_path, environment={"FAIL_START_UP": "1"}, ready=False) as server:
        assert server.wait() == 3
        assert "the upstream session cannot be opened" in server.log
        assert "Worker cannot start" in server.log


def test_gunicorn_paste_loads_the_application_of_an_ini_file(tmp_path):
    ini = tmp_path / "served.ini"
    ini.write_text("[app:main]\npaste.app_factory = served_app:main\n")
    with gunicorn(tmp_path, "--paste", application=[str(ini)]) as server:
        assert get(server, "/echo")["state"] == "open"


def test_requests_on_one_connection_are_served_one_after_the_other(server):
    with server.connect() as client:
        for _ in itertools.repeat(None, 20):
            client.sendall(REQUEST)
            assert client.recv(10_000).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--limit-request-line", "100"], "set max_request_line_bytes"),
        (["--limit-request-fields", "5"], "set max_header_fields"),
        (["--proxy-protocol", "v1"], "proxy_protocol is not served"),
        (["-c", "python:hooked_settings"], "write a Pyramid tween"),
    ],
)
def test_an_unsupported_setting_of_gunicorn_stops_the_start_in_one_line(tmp_path, arguments, advice):
    with gunicorn(tmp_path, *arguments, ready=False) as server:
        assert server.wait() == 1
        assert advice in server.log
        assert "Traceback" not in server.log
