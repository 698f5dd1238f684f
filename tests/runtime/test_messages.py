"""Complete messages sent straight to the gateway, each followed by a request: which are accepted, and which are not."""

import re

import pytest

from tests.runtime.servers import gunicorn

BEHIND = b"GET /echo?behind HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
ABC = b"\r\n3\r\nabc\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with gunicorn(tmp_path_factory.mktemp("messages"), header_timeout_seconds=2.0) as server:
        yield server


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (POST + b"Content-Length: 3\r\n\r\nabc", [200, 200]),
        (POST + b"Content-Length: 03\r\n\r\nabc", [200, 200]),
        (POST + b"Content-Length: 3 \r\n\r\nabc", [200, 200]),
        (POST + b"Content-Length: 3, 3\r\n\r\nabc", [400]),
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", [400]),
        (POST + b"Content-Length: 0x3\r\n\r\nabc", [400]),
        (POST + b"Content-Length: -3\r\n\r\nabc", [400]),
        (POST + b"Content-Length: " + b"9" * 25 + b"\r\n\r\nabc", [400]),
        (POST + b"Content-Length: 0\r\n\r\nabc", [200, 501]),  # the next method is abcGET
        (CHUNKED + ABC, [200, 200]),
        (CHUNKED + b"\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n", [200, 200]),
        (CHUNKED + b"\r\n3 \r\nabc\r\n0\r\n\r\n", [400]),
        (CHUNKED + b"\r\n3\t;x\r\nabc\r\n0\r\n\r\n", [400]),
        (CHUNKED + b"\r\n3\nabc\r\n0\r\n\r\n", [400]),
        (CHUNKED + b"\r\n3\r\nabc\n0\r\n\r\n", [400]),
        (CHUNKED + b"\r\n3\r\nabc0\r\n\r\n", [400]),
        (CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n", [400]),
        (CHUNKED + b"\r\nfffffffffffffffff\r\nabc", [400]),
        (CHUNKED + b"\r\n3\r\nabc\r\n0\r\nX y\r\n\r\n", [400]),
        (CHUNKED + b"Content-Length: 3\r\n" + ABC, [400]),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n" + ABC, [501]),
        (POST + b"Transfer-Encoding: chunked, gzip\r\n" + ABC, [400]),
        (POST + b"Transfer-Encoding: chunked;q=1\r\n" + ABC, [501]),
        (POST + b"Transfer-Encoding: \x0bchunked\r\n" + ABC, [400]),
        (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n" + ABC, [400]),
        (POST + b"X: a\nContent-Length: 3\r\n\r\nabc", [400]),
        (POST + b"X: a\r\n folded\r\n\r\n", [400]),
        (POST + b"X : a\r\n\r\n", [400]),
        (b"\r\n" + POST + b"\r\n", [200, 200]),
        (b"\n" + POST + b"\r\n", [400]),
        (b"GET  /echo HTTP/1.1\r\nHost: a\r\n\r\n", [400]),
        (b"GET /echo http/1.1\r\nHost: a\r\n\r\n", [400]),
        (b"GET /echo RTSP/1.0\r\nHost: a\r\n\r\n", [400]),
        (b"GET /echo HTTP/1.2\r\nHost: a\r\n\r\n", [200, 200]),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", [404]),
    ],
)
def test_which_messages_are_accepted_and_which_are_refused(server, message, expected):
    answers = server.exchange(message + BEHIND)
    assert [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answers)] == expected
