"""Requests that an overloaded worker refuses at the socket, by a gunicorn that calls a short wait an overload."""

import json
import socket
import time
import uuid
from contextlib import ExitStack, contextmanager, suppress

import pytest

from optimizely_api.runtime.server.gate import LONGEST_LOOK_BYTES, look_at
from optimizely_api.serving.admission import CALM_SECONDS, FEWEST, FEWEST_WAITING
from tests.runtime.servers import gunicorn, until
from tests.runtime.test_refusals import access_lines

HEAD_END = b"\r\n\r\n"
ECHO = b"GET /echo HTTP/1.1\r\nHost: t\r\n\r\n"
WORK = b"GET /compute?seconds=0.004 HTTP/1.1\r\nHost: t\r\n\r\n"
WORK_WITHOUT_END = b"GET /compute?seconds=0.03&times=1000 HTTP/1.1\r\nHost: t\r\n\r\n"
WITHOUT_END = b"GET /wait?seconds=60 HTTP/1.1\r\nHost: t\r\n\r\n"
LIMIT_SECONDS = 0.05


class Reader:
    """Reads responses one after another from a connection."""

    def __init__(self, client):
        self.client, self.received = client, b""

    def response(self, *, has_body=True):
        """Return (status, {header: value}, body)."""
        while HEAD_END not in self.received:
            self._receive()
        head, _, self.received = self.received.partition(HEAD_END)
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", 0)) if has_body else 0
        while len(self.received) < length:
            self._receive()
        body, self.received = self.received[:length], self.received[length:]
        return int(first.split()[1]), headers, body

    def _receive(self):
        more = self.client.recv(65536)
        assert more, f"closed after {self.received!r}"
        self.received += more

    def ask(self, request, **options):
        self.client.sendall(request)
        return self.response(**options)

    def is_closed(self):
        return not self.received and self.client.recv(1) == b""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    with gunicorn(folder, "--keep-alive", "60", overload_wait_seconds=LIMIT_SECONDS) as server:
        yield server


@contextmanager
def full(server, seconds=60):
    """A worker without room, whose loop is always late; yields the connection of a request under way."""
    time.sleep(1.5 * CALM_SECONDS)  # an overload in another test is over, and all of these begin
    with ExitStack() as stack:
        under_way = [stack.enter_context(server.connect()) for _ in range(FEWEST)]
        under_way[0].sendall(WITHOUT_END.replace(b"60", b"%d" % seconds))
        for client in under_way[1:]:
            client.sendall(WITHOUT_END)
        stack.enter_context(server.connect()).sendall(WORK_WITHOUT_END)
        yield Reader(under_way[0])


@contextmanager
def overloaded(server, seconds=60):
    """A connection to such a worker with a line that stands; and that of a request under way."""
    with full(server, seconds) as busy, ExitStack() as stack:
        for number in range(FEWEST_WAITING):
            # An account for each: of one that has many the newest is served first, and each of ours is the newest.
            request = ECHO.replace(HEAD_END, b"\r\nAuthorization: Bearer %d" % number + HEAD_END)
            stack.enter_context(server.connect()).sendall(request * 400)
        reader = Reader(stack.enter_context(server.connect()))
        until(lambda: reader.ask(ECHO)[0] == 503)
        yield reader, busy


@pytest.fixture
def refusing(server):
    """A connection to a worker that refuses most requests."""
    with overloaded(server) as (reader, _):
        yield reader


def refused(reader, request, **options):
    """Send the request until it is refused; returns the response."""
    for _ in range(100):
        response = reader.ask(request, **options)
        if response[0] == 503:
            return response
    raise AssertionError("it is always served")


def check_refusal(response):
    """Check the error shape; returns the headers."""
    status, headers, body = response
    assert (status, headers["content-type"]) == (503, "application/json")
    problem = json.loads(body)
    assert problem.keys() == {"code", "message", "uuid"}
    assert problem["code"] == "overloaded"
    assert headers["x-request-id"] == problem["uuid"] == str(uuid.UUID(problem["uuid"]))
    assert headers["access-control-allow-origin"] == "*"
    assert headers["retry-after"] in ("1", "2", "3")
    return headers


@pytest.mark.whole
def test_503_in_the_one_error_shape_and_the_connection_goes_on(refusing):
    headers = [check_refusal(refused(refusing, ECHO)) for _ in range(30)]
    assert {each["retry-after"] for each in headers} == {"1", "2", "3"}
    assert len({each["x-request-id"] for each in headers}) == 30
    assert all("connection" not in each for each in headers)


@pytest.mark.whole
def test_503_without_a_body_for_head(refusing):
    status, headers, _ = refused(refusing, ECHO.replace(b"GET", b"HEAD"), has_body=False)
    assert (status, headers["content-length"]) == (503, "125")
    check_refusal(refused(refusing, ECHO))  # nothing was left of the first


@pytest.mark.whole
def test_each_of_pipelined_requests_has_its_response_in_its_place(refusing):
    sent = list(range(210, 250))
    heads = (f"GET /answer?status={status} HTTP/1.1\r\nHost: t\r\n\r\n" for status in sent)
    refusing.client.sendall("".join(heads).encode())
    got = [refusing.response()[0] for _ in sent]
    assert 503 in got
    assert all(status in (503, expected) for status, expected in zip(got, sent, strict=True))


@pytest.mark.whole
def test_503_for_a_head_in_pieces(refusing):
    def in_pieces():
        for piece in (ECHO[:7], ECHO[7:20], ECHO[20:-1]):
            refusing.client.sendall(piece)
            time.sleep(0.01)  # so that they come one by one
        return refusing.ask(ECHO[-1:])

    until(lambda: in_pieces()[0] == 503)


@pytest.mark.whole
@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nGET /", id="a body"),
        pytest.param(
            b"POST /echo HTTP/1.1\r\nHost: t\r\ncONTENT-lENGTH: 5\r\n\r\nGET /", id="however it is spelled"
        ),
        pytest.param(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n", id="an empty body"),
        pytest.param(b"GET http://real/echo HTTP/1.1\r\nHost: t\r\n\r\n", id="the absolute form"),
        pytest.param(b"GET /%s HTTP/1.1\r\nHost: t\r\n\r\n" % (b"a" * LONGEST_LOOK_BYTES), id="a long head"),
    ],
)
def test_a_request_that_is_not_plain_is_refused_and_nothing_of_it_is_read_as_another(refusing, request_bytes):
    check_refusal(refused(refusing, request_bytes))
    check_refusal(refused(refusing, ECHO))


@pytest.mark.whole
@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(ECHO.replace(HEAD_END, b"\r\nConnection: close\r\n\r\n"), id="the client closes"),
        pytest.param(ECHO.replace(b"1.1", b"1.0"), id="HTTP/1.0"),
        pytest.param(
            b"POST /wait HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
            id="a chunked body",
        ),
        pytest.param(
            b"POST /wait HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
            id="a body that waits to be asked for",
        ),
    ],
)
def test_a_refusal_ends_a_connection_that_cannot_go_on(server, refusing, request_bytes):
    def is_refused():
        with server.connect() as client:
            reader = Reader(client)
            response = reader.ask(request_bytes)
            if response[0] != 503:
                return False
            assert check_refusal(response)["connection"] == "close"
            return reader.is_closed()

    until(is_refused)


@pytest.mark.whole
def test_400_not_503_for_a_head_that_is_no_http(refusing):
    bad = b"GET /echo HTTP/1.1\r\nHost: t\r\nContent-Length : 5\r\n\r\nabcde"
    assert refusing.ask(bad)[0] == 400
    assert refusing.is_closed()


@pytest.mark.whole
def test_a_request_under_way_is_not_broken_off(server):
    with overloaded(server, seconds=1) as (reader, busy):
        check_refusal(refused(reader, ECHO))
        assert busy.response()[0] == 200


@pytest.mark.whole
def test_the_access_log_has_some_of_the_refusals(server, refusing):
    """Of those of all connections: whose they are is chance."""
    before, ids = len(access_lines(server.log)), set()

    def lines():
        ids.add(check_refusal(refused(refusing, ECHO))["x-request-id"])
        return [line for line in access_lines(server.log)[before:] if line["status"] == 503]

    until(lambda: len(lines()) > 1 and len(ids) >= 20)
    assert len([line for line in lines() if line["request_id"] in ids]) < len(ids) / 2
    assert {(line["method"], line["path"]) for line in lines()} == {("GET", "/echo")}


@pytest.mark.whole
def test_term_ends_a_connection_with_its_next_response(tmp_path):
    with gunicorn(tmp_path, "--keep-alive", "60", overload_wait_seconds=LIMIT_SECONDS) as server:
        with overloaded(server, seconds=5) as (reader, busy):
            server.signal(15)
            server.wait_for_log("Worker shutting down")
            assert reader.ask(ECHO)[1]["connection"] == "close"
            assert reader.is_closed()
            assert busy.response()[0] == 200
        assert server.wait() == 0


@pytest.mark.whole
def test_refusals_do_not_count_for_max_requests(tmp_path):
    with gunicorn(
        tmp_path, "--max-requests", "300", "--keep-alive", "60", overload_wait_seconds=LIMIT_SECONDS
    ) as server:
        with overloaded(server) as (reader, _):
            for _ in range(20):  # meanwhile each other connection has its own refused
                assert reader.ask(ECHO)[0] in (200, 503)
        assert "has served max_requests" not in server.log


@pytest.mark.parametrize("limit", [0, 30], ids=["off", "a line may stand for long"])
def test_a_burst_waits_and_is_served_whole(tmp_path, limit):
    with (
        gunicorn(tmp_path, "--keep-alive", "60", overload_wait_seconds=limit) as server,
        ExitStack() as stack,
    ):
        posted = b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nGET /"
        readers = [Reader(stack.enter_context(server.connect())) for _ in range(100)]
        for reader in readers:
            reader.client.sendall(WORK + posted + ECHO)
        assert {reader.response()[0] for reader in readers for _ in range(3)} == {200}


def test_a_request_that_waits_too_long_is_refused_and_the_next_on_its_connection_read(server):
    with full(server), server.connect() as client:
        reader = Reader(client)
        until(lambda: reader.ask(ECHO)[0] == 503)
        reader.client.sendall(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nGET /" + ECHO)
        for _ in range(2):
            check_refusal(reader.response())


def test_a_client_that_leaves_the_line_leaves_no_request_behind(tmp_path):
    with gunicorn(tmp_path, "--keep-alive", "60", overload_wait_seconds=30) as server:
        with full(server):
            for _ in range(3):
                with server.connect() as client:
                    client.sendall(ECHO)
        with server.connect() as client:
            assert Reader(client).ask(ECHO)[0] == 200
        assert "Traceback" not in server.log


def test_429_for_an_account_that_has_half_of_a_worker_that_is_half_full(tmp_path):
    def waiting(token):
        client = socket.create_connection(("127.0.0.1", server.port), timeout=15)
        client.sendall(
            b"GET /wait?seconds=60 HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer %s\r\n\r\n" % token
        )
        return client

    def ask(token):
        with server.connect() as client:
            return Reader(client).ask(ECHO.replace(HEAD_END, b"\r\nAuthorization: Bearer %s\r\n\r\n" % token))

    with gunicorn(tmp_path, "--worker-connections", "20", overload_wait_seconds=0) as server:
        assert ask(b"greedy")[0] == 200
        clients = [waiting(b"greedy") for _ in range(12)]
        try:
            until(lambda: ask(b"greedy")[0] == 429)
            status, headers, body = ask(b"greedy")
            assert (status, json.loads(body)["code"]) == (429, "too_many_requests")
            assert headers["retry-after"] in ("1", "2", "3")
            assert ask(b"modest")[0] == 200
        finally:
            for client in clients:
                client.close()
        until(lambda: ask(b"greedy")[0] == 200)


def send_until_nobody_reads(client, request, most):
    """Send the request again and again, and read nothing; returns how many whole ones were sent, at most `most`."""
    client.settimeout(3)  # more than gunicorn's keepalive, which does not count meanwhile
    sent, data = 0, request * 1000
    with suppress(TimeoutError):
        while sent < most * len(request):
            sent += client.send(data[sent % len(request) :])
    return sent // len(request)


def test_a_client_that_reads_no_refusals_is_not_read_and_gets_them_all_later(tmp_path):
    greedy = b"\r\nAuthorization: Bearer greedy\r\nX-Padding: %s\r\n\r\n" % (b"x" * 1000)
    most = 100_000  # the buffers of the two sockets hold much less
    with (
        gunicorn(tmp_path, "--worker-connections", "20", overload_wait_seconds=0) as server,
        ExitStack() as stack,
    ):
        for _ in range(12):
            stack.enter_context(server.connect()).sendall(WITHOUT_END.replace(HEAD_END, greedy))
        client = stack.enter_context(server.connect())
        reader = Reader(client)
        until(lambda: reader.ask(ECHO.replace(HEAD_END, greedy))[0] == 429)
        sent = send_until_nobody_reads(client, ECHO.replace(HEAD_END, greedy), most)
        assert sent < most
        client.settimeout(15)
        assert {reader.response()[0] for _ in range(sent)} == {429}


def test_a_look_sees_what_a_request_is_judged_by():
    look = look_at(b"GET /a?b=c HTTP/1.1\r\nHost: t\r\nAUTHORIZATION:  Bearer x \r\n\r\nGET /")
    assert look.asked == (b"GET", b"/a?b=c", b"Bearer x")
    assert (look.size, look.is_forwarded) == (59, False)


@pytest.mark.parametrize("header", [b"X-Forwarded-For: 192.0.2.1", b"Forwarded: for=192.0.2.1"])
def test_a_look_sees_that_a_proxy_passed_the_request_on(header):
    assert look_at(b"GET /a HTTP/1.1\r\nHost: t\r\n%s\r\n\r\n" % header).is_forwarded
