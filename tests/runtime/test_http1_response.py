"""Responses on the wire, written by our protocol, with and without gunicorn's access log."""

import json
import re
import signal
import socket
from urllib.parse import quote

import pytest

from tests.runtime.servers import gunicorn, read_to_end, until

DATE = re.compile(rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")
LARGE = 50_000_000  # more than sockets hold


@pytest.fixture(scope="module", params=["the worker", "gunicorn"])
def server(request, tmp_path_factory):
    """One gunicorn for each of the two ways that requests are answered."""
    tmp_path = tmp_path_factory.mktemp("reply")
    arguments = ["--access-logfile", "-"] if request.param == "gunicorn" else []
    with gunicorn(tmp_path, "--keep-alive", "60", *arguments, write_timeout_seconds=1.0) as server:
        server.logs_requests = bool(arguments)
        yield server


def head(target, *headers, method="GET", version="1.1"):
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: t", *headers, "", ""]).encode()


def last(target, **options):
    """The head of a request after which the connection is closed."""
    return head(target, "Connection: close", **options)


def with_headers(*headers):
    return "/answer?bytes=5&headers=" + quote(json.dumps(headers))


def lines_and_body(answer):
    """Return (lines of the head, body), with the checked Date line reduced to its name."""
    top, _, body = answer.partition(b"\r\n\r\n")
    lines = ["Date" if DATE.fullmatch(line) else line.decode("latin-1") for line in top.split(b"\r\n")]
    return lines, body


def counts(server):
    state = json.loads(server.exchange(last("/state")).partition(b"\r\n\r\n")[2])
    return {kind: state[kind] for kind in ("tasks", "greenlets", "files")}


TYPE = "content-type: text/html; charset=UTF-8"
FIVE = "content-length: 5"
BY_US = ["Server: gunicorn/asgi", "Date"]
CLOSE = "Connection: close"


@pytest.mark.parametrize(
    ("target", "method", "expected", "body"),
    [
        pytest.param("/answer?bytes=5", "GET", ["200 OK", TYPE, FIVE], b"xxxxx", id="a body"),
        pytest.param("/answer", "GET", ["200 OK", TYPE, "content-length: 0"], b"", id="no body"),
        pytest.param("/answer?bytes=5", "HEAD", ["200 OK", TYPE, FIVE], b"", id="HEAD"),
        pytest.param("/answer?bytes=5&status=204", "GET", ["204 No Content", TYPE], b"", id="204"),
        pytest.param("/answer?bytes=5&status=304", "GET", ["304 Not Modified", TYPE, FIVE], b"", id="304"),
        pytest.param("/answer?bytes=5&status=304", "HEAD", ["304 Not Modified", TYPE, FIVE], b"", id="HEAD, 304"),
        pytest.param(
            with_headers(("Date", "now"), ("Server", "me")), "GET",
            ["200 OK", TYPE, FIVE, "date: now", "server: me"], b"xxxxx", id="its own Date and Server",
        ),
        pytest.param(
            with_headers(("X-Name", "caf\xe9\t!")), "GET",
            ["200 OK", TYPE, FIVE, "x-name: caf\xe9\t!"], b"xxxxx", id="all that a value may hold",
        ),
    ],
)  # fmt: skip
def test_the_bytes_of_a_complete_response(server, target, method, expected, body):
    by_us = [] if "date: now" in expected else BY_US
    answer = server.exchange(last(target, method=method))
    assert lines_and_body(answer) == ([f"HTTP/1.1 {expected[0]}", *expected[1:], *by_us, CLOSE], body)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_response_without_a_body_leaves_the_connection_usable(server, method):
    requests = [head(f"/answer?bytes=5&status={status}", method=method) for status in (204, 304)]
    requests += [head("/stream?chunks=1", method="HEAD"), last("/answer?bytes=5")]
    answers = server.exchange(b"".join(requests))
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"204", b"304", b"200", b"200"]
    assert answers.count(b"Connection: close") == 1
    assert answers.rpartition(b"\r\n\r\n")[2] == b"xxxxx"
    assert all(part.count(b"\r\n\r\n") == 1 for part in answers.split(b"HTTP/1.1 ")[1:])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("X-Name", "a\r\nX-Forged: b", id="CR LF in a value"),
        pytest.param("X-Name", "a\nX-Forged: b", id="LF in a value"),
        pytest.param("X-Name", "a\r", id="CR in a value"),
        pytest.param("X-Name", "a\0", id="NUL in a value"),
        pytest.param("X-Name", "a\x7f", id="DEL in a value"),
        pytest.param("X-Forged: a\r\nX-Name", "b", id="CR LF in a name"),
        pytest.param("X-Forged:", "b", id="a colon in a name"),
        pytest.param("X Forged", "b", id="a space in a name"),
        pytest.param("", "b", id="no name"),
    ],
)
def test_500_without_any_byte_of_a_response_whose_header_would_break_it(server, name, value):
    # Twice, because valid names are cached.
    for _ in range(2):
        answer = server.exchange(head(with_headers(("X-Good", "1"), (name, value), ("X-Good", "2"))))
        lines, body = lines_and_body(answer)
        assert lines[0] == "HTTP/1.1 500 Internal Server Error"
        assert lines[-1] == CLOSE
        assert json.loads(body)["code"] == "internal_error"
        assert b"forged" not in answer.lower()
        assert b"x-good" not in answer.lower()


def test_the_log_names_the_invalid_header_but_not_its_value(server):
    server.exchange(head(with_headers(("X-Wrong", "secret\n"))))
    server.wait_for_log("InvalidResponseHeader")
    server.wait_for_log("x-wrong")
    assert "secret" not in "".join(
        line for line in server.log.splitlines(keepends=True) if "GET /answer" not in line
    )


@pytest.mark.parametrize("target", ["/answer?bytes=5", "/stream?chunks=2", "/answer?bytes=70000"])
def test_http_1_0_gets_no_chunks_and_its_connection_ends(server, target):
    lines, body = lines_and_body(server.exchange(head(target, version="1.0")))
    assert (lines[0], lines[-1]) == ("HTTP/1.0 200 OK", CLOSE)
    assert not any(line.startswith("transfer-encoding") for line in lines)
    assert body == b"x" * {"/answer?bytes=5": 5, "/stream?chunks=2": 2 * 65536}.get(target, 70000)


def test_http_1_0_may_keep_its_connection(server):
    kept = head("/answer?bytes=5", "Connection: keep-alive", version="1.0")
    answers = server.exchange(kept + head("/answer?bytes=5", version="1.0"))
    assert (answers.count(b"HTTP/1.0 200 OK"), answers.count(b"Connection: close")) == (2, 1)


@pytest.mark.parametrize("size", [65_535, 65_536, 300_000])
def test_bodies_of_any_size_are_complete_and_the_connection_stays_open(server, size):
    answers = server.exchange(head(f"/answer?bytes={size}") + last("/answer?bytes=3"))
    _, first, second = answers.split(b"HTTP/1.1 200 OK\r\n")
    assert (first.partition(b"\r\n\r\n")[2], second.partition(b"\r\n\r\n")[2]) == (b"x" * size, b"xxx")


def test_streamed_and_complete_responses_alternate_on_one_connection(server):
    targets = [
        "/answer?bytes=5",
        "/stream?chunks=2",
        "/answer?bytes=3",
        "/stream?chunks=0",
        "/answer?bytes=2",
    ]
    answers = server.exchange(b"".join(map(head, targets)) + last("/stream?chunks=1"))
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answers.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    end = b"0\r\n\r\n"
    assert bodies == [b"xxxxx", chunk * 2 + end, b"xxx", end, b"xx", chunk + end]
    assert answers.count(b"transfer-encoding: chunked\r\n") == 3


@pytest.mark.parametrize(
    ("length", "body"),
    [pytest.param(3, b"xxx", id="too short"), pytest.param(9, b"xxxxx", id="too long")],
)
def test_a_wrong_length_never_shifts_the_next_response(server, length, body):
    target = f"/answer?bytes=5&length={length}"
    answers = server.exchange(head(target) + last("/answer?bytes=2"))
    first, *rest = answers.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert first.partition(b"\r\n\r\n")[2] == body
    # Surplus bytes are cut off; missing bytes end the connection.
    assert len(rest) == (1 if length < 5 else 0)


def test_a_response_while_the_worker_stops_ends_its_connection(tmp_path):
    with gunicorn(tmp_path) as server, server.connect() as client:
        client.sendall(head("/wait?seconds=1") + head("/answer"))
        until(lambda: json.loads(server.exchange(last("/state")).partition(b"\r\n\r\n")[2])["started"] == 1)
        server.signal(signal.SIGTERM)
        answers = read_to_end(client)
    assert (answers.count(b"HTTP/1.1 200 OK"), answers.count(b"Connection: close")) == (1, 1)


def test_a_client_that_leaves_in_the_middle_of_a_large_response_leaves_nothing_behind(server):
    before, log = counts(server), len(server.log)
    for _ in range(5):
        with server.connect() as client:
            client.sendall(head(f"/answer?bytes={LARGE}"))
            assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
            # The task of the request, which waits for the client to read.
            assert counts(server)["tasks"] == before["tasks"] + 1
    until(lambda: counts(server) == before)
    assert "Traceback" not in server.log[log:]


def test_a_client_that_reads_nothing_of_a_complete_response_is_closed(server):
    before = counts(server)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(head(f"/answer?bytes={LARGE}"))
        until(lambda: counts(server)["tasks"] > before["tasks"])
        until(lambda: counts(server) == before, seconds=5.0)


def test_a_client_that_reads_a_large_response_slowly_gets_all_of_it_and_the_next(server):
    with server.connect() as client:
        client.sendall(head("/answer?bytes=5000000") + last("/answer?bytes=5"))
        received = b""
        while chunk := client.recv(50_000):
            received += chunk
    first, _, second = received.partition(b"x" * 5_000_000)
    assert (first.count(b"HTTP/1.1 200 OK"), second.count(b"HTTP/1.1 200 OK")) == (1, 1)
    assert second.endswith(b"\r\n\r\nxxxxx")


def test_gunicorns_access_log_has_a_line_for_each_request_if_it_is_on(server):
    server.exchange(last("/answer?marker=1"))
    if server.logs_requests:
        server.wait_for_log('"GET /answer?marker=1 HTTP/1.1" 200')
    else:
        assert "marker=1" not in server.log
