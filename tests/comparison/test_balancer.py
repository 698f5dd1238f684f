"""HAProxy's log and counters: read right on known text, and from the real one in front of a server that misbehaves."""

import asyncio
import contextlib
import http.client
import shutil
import socket
import time

import pytest
import requests

from optimizely_api.comparison.options import CannotCompare
from optimizely_api.comparison.report.arithmetic import (
    BROKEN_OFF,
    CUT_SHORT,
    NO_RESPONSE,
    REFUSED_CONNECTION,
    error_class,
)
from optimizely_api.comparison.rig import balancer
from optimizely_api.comparison.rig.balancer import LogLine, parse_counters, parse_log_line
from tests.comparison.known_server import known_server
from tests.support.ports import free_port

STAT = """\
# pxname,svname,req_tot,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,econ,eresp,wretr,wredis,
callers,FRONTEND,120,0,100,0,5,14,1,,,,,
gateway,gateway,,0,100,0,5,3,0,7,4,2,0,
gateway,BACKEND,119,0,100,0,5,14,1,7,4,2,0,

"""
PAUSE_SECONDS = 0.5  # between two requests
needs_haproxy = pytest.mark.skipif(
    shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/bin") is None,
    reason="HAProxy is not installed",
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "request 1795428000123 104 200 -- 0 6100 /v2/experiments/1/results",
            LogLine(1795428000.019, 104, 200, "--", 0, 6100, "/v2/experiments/1/results"),
        ),
        ("request 1795428005001 5001 504 sH 0 198 /a", LogLine(1795428000.0, 5001, 504, "sH", 0, 198, "/a")),
        ("request 1795428003002 3002 503 SC +2 217 /a", LogLine(1795428000.0, 3002, 503, "SC", 2, 217, "/a")),
        ("request 1795428000001 -1 -1 CR 0 0 /a", LogLine(1795428000.001, 0, -1, "CR", 0, 0, "/a")),
    ],
)
def test_a_line_of_the_log_says_when_how_long_and_how_it_ended(text, line):
    assert parse_log_line(text) == line


@pytest.mark.parametrize("text", ["", "Proxy callers stopped (cumulated conns: FE: 1, BE: 0).", "request"])
def test_other_lines_of_the_log_are_about_no_request(text):
    assert parse_log_line(text) is None


def test_the_counters_are_read_by_name_whatever_their_order():
    assert parse_counters(STAT) == {
        "requests": 120,
        "answers_2xx": 100,
        "answers_3xx": 0,
        "answers_4xx": 5,
        "answers_5xx": 14,
        "answers_other": 1,
        "connection_errors": 7,
        "response_errors": 4,
        "retries": 2,
    }


def test_without_a_balancer_the_error_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_args, **_more: None)
    with pytest.raises(CannotCompare, match=r"apt-get install haproxy[\s\S]*--no-balancer"):
        balancer.find()


@contextlib.asynccontextmanager
async def running(tmp_path, gateway_port):
    port = free_port()
    started = balancer.start(
        balancer.find(), tmp_path, port=port, gateway_port=gateway_port, timeout_seconds=0.3
    )
    try:
        yield started
    finally:
        started.process.stop()


async def ask(port, path):
    def get():
        with contextlib.suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            requests.get(f"http://127.0.0.1:{port}{path}", timeout=10)

    await asyncio.to_thread(get)


@needs_haproxy
@pytest.mark.parametrize(
    ("path", "status", "seen"),
    [
        ("/fine", 200, None),
        ("/status/404", 404, None),
        ("/status/503", 503, "503, by the gateway"),
        ("/never", 504, NO_RESPONSE),
        ("/close", 502, BROKEN_OFF),
        ("/bad", 502, BROKEN_OFF),
        ("/cut", 200, CUT_SHORT),
    ],
)
async def test_the_real_one_logs_what_a_caller_saw(path, status, seen, tmp_path):
    async with known_server() as server, running(tmp_path, server.port) as front:
        await ask(front.port, path)
        (logged,) = front.new_lines()
        assert (logged.status, error_class(logged), logged.path) == (status, seen, path)
        assert front.new_lines() == []
        assert front.counters()["answers_5xx"] == (status >= 500)


@needs_haproxy
async def test_a_gateway_that_is_not_there_is_a_503(tmp_path):
    nobody = free_port()
    async with running(tmp_path, nobody) as front:
        await ask(front.port, "/fine")
        (logged,) = front.new_lines()
        assert (logged.status, error_class(logged)) == (503, REFUSED_CONNECTION)


def answer_once_and_then_fill_up(listener, filling):
    """A gateway that answers one request, and whose queue of new connections is full from then on."""
    connection, _ = listener.accept()
    connection.recv(4096)
    for _ in range(4):
        waiting = socket.socket()
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
        filling.append(waiting)
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
    connection.close()


@needs_haproxy
async def test_a_kept_connection_is_closed_without_an_answer_when_the_gateway_takes_no_more(tmp_path):
    filling = []
    with socket.create_server(("127.0.0.1", free_port()), backlog=0) as listener:
        async with running(tmp_path, listener.getsockname()[1]) as front:
            caller = http.client.HTTPConnection("127.0.0.1", front.port, timeout=20)

            def ask_on_the_same_connection():
                caller.request("GET", "/fine")
                response = caller.getresponse()
                return response.status, response.read()

            gateway = asyncio.to_thread(answer_once_and_then_fill_up, listener, filling)
            (answer, _) = await asyncio.gather(asyncio.to_thread(ask_on_the_same_connection), gateway)
            assert answer == (200, b"{}")
            with pytest.raises(http.client.RemoteDisconnected):
                await asyncio.to_thread(ask_on_the_same_connection)
            caller.close()
            _first, second = front.new_lines()
            assert (second.status, second.sent_bytes, error_class(second)) == (503, 0, None)
        for waiting in filling:
            waiting.close()


@needs_haproxy
async def test_each_request_of_a_connection_has_the_time_of_its_own_arrival(tmp_path):
    async with known_server() as server, running(tmp_path, server.port) as front:

        def two_with_a_pause():
            with requests.Session() as session:
                assert session.get(f"http://127.0.0.1:{front.port}/fine", timeout=10).ok
                time.sleep(PAUSE_SECONDS)
                assert session.get(f"http://127.0.0.1:{front.port}/fine", timeout=10).ok

        await asyncio.to_thread(two_with_a_pause)
        first, second = front.new_lines()
        assert second.arrived - first.arrived >= PAUSE_SECONDS


@needs_haproxy
def test_one_that_cannot_start_says_why(tmp_path):
    with pytest.raises(CannotCompare, match="HAProxy did not start"):
        balancer.start(balancer.find(), tmp_path, port=1, gateway_port=70000, timeout_seconds=1)
