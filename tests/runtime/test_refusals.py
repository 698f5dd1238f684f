"""Requests that the server rejects by itself: the API's one error shape, and a line in the access log."""

import asyncio
import json
import random
import socket
import uuid
from contextlib import suppress
from datetime import datetime

import pytest

from tests.runtime.servers import gunicorn, read_to_end, until

CHUNKED = "POST /echo?q=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
FORWARDED = "GET /echo HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: {}\r\nX-Forwarded-Proto: {}\r\n\r\n"


def parts_of(response):
    """(status, headers, body) of the only response on a connection."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    headers = [line.lower().split(": ", 1) for line in lines]
    assert len({name for name, _ in headers}) == len(headers)
    return int(first.split(" ")[1]), dict(headers), body


def access_lines(log):
    """Return the lines of the access log, which `served_app` writes among all others."""
    return [json.loads(line) for line in log.splitlines() if '"logger":"optimizely_api.access"' in line]


def assert_refused(server, response, status, code):
    """Check the error shape, and that the access log has exactly one line, which is returned."""
    got, headers, body = parts_of(response)
    problem = json.loads(body)
    assert (got, problem["code"]) == (status, code)
    assert problem.keys() - {"messages"} == {"code", "message", "uuid"}
    assert ("messages" in problem) == (status == 400)
    assert headers["access-control-allow-origin"] == "*"
    assert "x-request-id" in headers["access-control-expose-headers"]
    assert problem["message"].endswith(".")
    assert headers["content-type"] == "application/json"
    assert (headers["content-length"], headers["connection"]) == (str(len(body)), "close")
    assert headers["x-request-id"] == problem["uuid"] == str(uuid.UUID(problem["uuid"]))
    until(lambda: problem["uuid"] in server.log)
    lines = [line for line in access_lines(server.log) if line["request_id"] == problem["uuid"]]
    assert [line["status"] for line in lines] == [status]
    return lines[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("refusals")
    with gunicorn(
        tmp_path, header_timeout_seconds=1.0, body_timeout_seconds=1.0, max_request_body_bytes=1000
    ) as server:
        yield server


@pytest.mark.parametrize(
    ("request_bytes", "status", "code", "method", "path"),
    [
        pytest.param("GET /é HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request", "GET", "/é", id="raw UTF-8"),
        pytest.param("GET /%C3%A9 HTTP/1.1\r\n\r\n", 400, "bad_request", "GET", "/é", id="no Host"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "bad_request", "GET", "/", id="two"),
        pytest.param("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "bad_request", "GET", "/", id="a wrong Host"),
        pytest.param(
            CHUNKED.replace("Transfer-Encoding: chunked", "Content-Length: +1"),
            400, "bad_request", "POST", "/echo", id="a bad length",
        ),
        pytest.param(FORWARDED.format("https", "http"), 400, "bad_request", "GET", "/echo", id="two schemes"),
        pytest.param("HEAD\r\n", 400, "bad_request", None, None, id="no request line"),
        pytest.param("GET /\r\n\r\n", 400, "bad_request", None, None, id="HTTP/0.9"),
        pytest.param(f"GET /{'a' * 17000} HTTP/1.1\r\n\r\n", 414, "uri_too_long", None, None, id="a long target"),
        pytest.param(
            f"GET /a HTTP/1.1\r\nX: {'a' * 66000}\r\n\r\n", 431, "headers_too_large", "GET", "/a", id="long header"
        ),
        pytest.param(
            CHUNKED.replace("chunked", "rot13"), 501, "not_implemented", "POST", "/echo", id="unknown coding"
        ),
        pytest.param("GET /slow HTTP/1.1\r\nHo", 408, "request_timeout", "GET", "/slow", id="a late head"),
    ],
)  # fmt: skip
def test_the_server_rejects_in_the_one_error_shape_and_logs_a_line(
    server, request_bytes, status, code, method, path
):
    line = assert_refused(server, server.exchange(request_bytes.encode()), status, code)
    assert (line["method"], line["path"], line["client"]) == (method, path, "127.0.0.1")
    assert (line["route"], line["duration_ms"], line["upstreams_ms"]) == (None, None, {})
    assert datetime.fromisoformat(line["time"]).tzname() == "UTC"
    assert list(line) == ["time", "level", "logger", "process", "message", "method", "route", "path", "status",
                          "duration_ms", "request_id", "client", "upstreams_ms"]  # fmt: skip


def test_408_for_a_late_body_is_logged_with_the_time_waited(server):
    head = b"POST /echo?a=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf"
    line = assert_refused(server, server.exchange(head), 408, "request_timeout")
    assert (line["method"], line["path"], line["client"]) == ("POST", "/echo", "127.0.0.1")
    assert 900 < line["duration_ms"] < 3000


def test_400_when_the_body_has_a_malformed_chunk(server):
    line = assert_refused(server, server.exchange(CHUNKED.encode() + b"zz\r\n"), 400, "bad_request")
    assert (line["method"], line["path"], line["client"]) == ("POST", "/echo", "127.0.0.1")


def test_a_refusal_of_head_has_no_body(server):
    status, headers, body = parts_of(server.exchange(b"HEAD /echo HTTP/1.1\r\nHost: /\r\n\r\n"))
    assert (status, body) == (400, b"")
    assert "content-length" in headers


def test_a_refusal_quotes_the_client_as_json_and_not_at_length(server):
    response = server.exchange(b'GET / HTTP/1.1\r\nHost: a\r\n"\xe9<' + b"\x01" * 5000 + b": b\r\n\r\n")
    assert len(json.loads(parts_of(response)[2])["message"]) < 300


def test_a_client_that_leaves_in_the_middle_of_its_body_is_not_logged_as_late(server):
    before = len(access_lines(server.log))
    with server.connect() as client:
        client.sendall(b"POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
    server.exchange(b"POST /marker HTTP/1.1\r\n\r\n")
    until(lambda: "/marker" in server.log)
    assert [line["path"] for line in access_lines(server.log)[before:]] == ["/marker"]


def test_a_bad_chunk_after_the_response_gets_no_second_response(server):
    with server.connect() as client:
        client.sendall(CHUNKED.encode() + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501 + b"\r\n")
        response = client.recv(65536)
        assert response.startswith(b"HTTP/1.1 413 Content Too Large")
        client.sendall(b"zz\r\n")
        assert client.recv(65536) == b""


async def test_a_bad_chunk_while_its_request_waits_gets_one_response(server):
    before = len(access_lines(server.log))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(CHUNKED.encode() + b"1\r\nx\r\n")
    await asyncio.sleep(0.2)  # the bridge waits for the rest
    writer.write(b"zz\r\n")
    response = await asyncio.wait_for(reader.read(), 10.0)
    writer.close()
    assert_refused(server, response, 400, "bad_request")
    await asyncio.sleep(0.2)
    assert [line["status"] for line in access_lines(server.log)[before:]] == [400]


# The authority of the request


@pytest.mark.parametrize(
    "target",
    [
        "http://a>;rel=x,<b/echo?per_page=1",
        "http://[/echo",
        "http://[::1/echo",
        "http://[12]/echo",
        "http:///echo",
        "http://",
        "http://u@a/echo",
        "http://a:0/echo",
        "http://a:65536/echo",
        "x://h/echo",
        "://h/echo",
        "echo?http://h/echo",
        "echo/http://h",
    ],
)
def test_400_when_an_absolute_target_has_no_proper_scheme_or_authority(server, target):
    request = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert_refused(server, server.exchange(request.encode()), 400, "bad_request")


@pytest.mark.parametrize("target", ["http://[/", "/echo", "a", "a:80/b", ":80"])
def test_400_when_connect_names_no_host_and_port(server, target):
    request = f"CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n"
    assert_refused(server, server.exchange(request.encode()), 400, "bad_request")


@pytest.mark.parametrize(
    "host",
    [
        "a,b'(",
        "a:99999999999999999999",
        "a:0",
        "a:65536",
        "a:b",
        ":80",
        "a%41",
        "u@a",
        "[",
        "[::1",
        "[1]",
        "[::1%25lo]",
        "::1",
        "a" * 254,
    ],
)
def test_400_when_host_is_not_a_host_and_port(server, host):
    request = f"GET /echo HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert_refused(server, server.exchange(request.encode()), 400, "bad_request")


def test_400_when_host_is_wrong_beside_a_proper_absolute_target(server):
    request = b"GET http://a/echo HTTP/1.1\r\nHost: a,b\r\nConnection: close\r\n\r\n"
    assert_refused(server, server.exchange(request), 400, "bad_request")


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("/echo", "api.example.com", "api.example.com"),
        ("/echo", "API_1.test:65535", "API_1.test:65535"),
        ("/echo", "a:", "a:"),
        ("/echo", "192.0.2.1:1", "192.0.2.1:1"),
        ("/echo", "[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("HTTPS://b:81/echo", "a", "b:81"),
        ("http://[::1]/echo", "a", "[::1]"),
        ("http://b/echo?to=http://[", "a", "b"),
    ],
)
def test_a_valid_authority_reaches_the_application(server, target, host, expected):
    request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    status, _, body = parts_of(server.exchange(request.encode()))
    assert (status, json.loads(body)["host"], json.loads(body)["path"]) == (200, expected, "/echo")


@pytest.mark.parametrize("head", ["GET /echo HTTP/1.1\r\nHost: ", "GET /echo HTTP/1.0"])
def test_without_a_host_the_address_of_the_connection_is_used(server, head):
    body = parts_of(server.exchange(f"{head}\r\nConnection: close\r\n\r\n".encode()))[2]
    assert json.loads(body)["host"] == f"127.0.0.1:{server.port}"


# Defects of a parser


@pytest.mark.parametrize(
    "request_bytes",
    [b"GET /stumble HTTP/1.1\r\nHost: a\r\n\r\n", CHUNKED.encode() + b"7\r\nstumble\r\n0\r\n\r\n"],
    ids=["head", "chunk"],
)
def test_400_without_a_traceback_for_any_exception_of_a_parser(tmp_path, request_bytes):
    with gunicorn(tmp_path, application="stumbling_app:main()") as server:
        assert_refused(server, server.exchange(request_bytes), 400, "bad_request")
        assert "OverflowError" in server.log
        assert "Traceback" not in server.log


def test_no_bytes_make_the_server_write_a_traceback_or_fail(server):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, before = random.Random(seed), server.log.count("Traceback")
    for _ in range(300):
        request = bytearray(
            chance.choice(
                [CHUNKED.encode() + b"3\r\nabc\r\n0\r\n\r\n", FORWARDED.format("https", "https").encode()]
            )
        )
        for _ in range(chance.randrange(1, 6)):
            place = chance.randrange(len(request))
            request[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
        with server.connect() as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                assert not read_to_end(client).startswith(b"HTTP/1.1 500")
    assert server.log.count("Traceback") == before
