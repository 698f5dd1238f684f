"""The bridge under another ASGI server: uvicorn."""

import json
from urllib.request import urlopen

import pytest

from tests.runtime.servers import until, uvicorn


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with uvicorn(tmp_path_factory.mktemp("uvicorn")) as server:
        yield server


def get(server, path):
    with urlopen(server.url + path, timeout=15.0) as response:
        return json.load(response)


def test_requests_lifespan_and_bodies_work(server):
    assert get(server, "/echo")["state"] == "open"
    head = b"POST /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = server.exchange(head + b"3\r\nabc\r\n0\r\n\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["body_bytes"] == 3


def test_a_streamed_response_arrives_completely(server):
    with urlopen(f"{server.url}/stream?chunks=50", timeout=15.0) as response:
        assert len(response.read()) == 50 * 65536


def test_a_client_that_leaves_cancels_its_view(server):
    before = get(server, "/state")
    with server.connect() as client:
        client.sendall(b"GET /wait?seconds=60 HTTP/1.1\r\nHost: t\r\n\r\n")
        until(lambda: get(server, "/state")["started"] > before["started"])
    until(lambda: get(server, "/state")["cancelled"] > before["cancelled"])
    assert get(server, "/state")["unwound"] > before["unwound"]


def test_a_failing_start_up_stops_uvicorn_and_logs_the_reason(tmp_path):
    with uvicorn(tmp_path, environment={"FAIL_START_UP": "1"}, ready=False) as server:
        assert server.wait() == 3
        assert "the upstream session cannot be opened" in server.log
