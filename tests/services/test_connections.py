"""What a service takes of its clients, seen from their sockets: real processes with short limits."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from optimizely_api.cli import main
from tests.support.ports import free_port
from tests.support.samples import SERVICES_KEY

ROOT = Path(__file__).parents[2]
SOON_SECONDS = 20
TIMEOUT_SECONDS = 0.5
GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
KEY = f"Authorization: Bearer {SERVICES_KEY}\r\n".encode()
EVENTS = b"POST /v1/events HTTP/1.1\r\nHost: a\r\n" + KEY
BATCH = b'{"account_id": "1", "visitors": []}'
SHORT_LIMITS = {
    "HEAD_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
    "BODY_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
    "BODY_RATE_BYTES_PER_SECOND": "1000",
    "BODY_LONGEST_SECONDS": str(SOON_SECONDS),
    "WRITE_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
    "BODIES_BYTES": "100000",
}
MAX_CONNECTIONS = 3


@dataclass
class Service:
    """A running service, and what it wrote."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def connect(self, sent: bytes = b"", timeout: float = SOON_SECONDS) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        client.sendall(sent)
        return client

    def ask(self, sent: bytes) -> tuple[int, Any]:
        with self.connect(sent) as client:
            response, body = answer(client)
            return response.status, body

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()


@contextlib.contextmanager
def serving(folder: Path, limits: dict[str, str], name: str = "results") -> Iterator[Service]:
    port, log = free_port(), folder / "log"
    environment = {**os.environ, "OPTIMIZELY_API_DATA_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    environment |= {f"{name.upper()}_{limit}": value for limit, value in limits.items()}
    command = [sys.executable, "-m", "optimizely_api.cli", "service", name, "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
    try:
        service = Service(port, process, log)
        while not answers(service):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield service
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(SOON_SECONDS)


def answers(service: Service) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/healthz", timeout=SOON_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 404  # the public port has no /healthz
    except OSError:
        return False


def answer(client: socket.socket) -> tuple[http.client.HTTPResponse, Any]:
    response = http.client.HTTPResponse(client)
    response.begin()
    body = response.read()
    return response, json.loads(body) if body else None


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with short limits."""
    with serving(tmp_path_factory.mktemp("short"), SHORT_LIMITS) as service:
        yield service


@pytest.fixture(scope="module")
def narrow_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes few connections at a time."""
    with serving(tmp_path_factory.mktemp("few"), {"MAX_CONNECTIONS": str(MAX_CONNECTIONS)}) as service:
        yield service


@pytest.fixture(scope="module")
def public_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The port that takes events of every page, with short limits."""
    with serving(tmp_path_factory.mktemp("public"), SHORT_LIMITS, "events") as service:
        yield service


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


# Heads


def test_a_silent_connection_is_closed(service: Service) -> None:
    began = time.monotonic()
    with service.connect() as client:
        assert is_closed(client)
    assert time.monotonic() - began >= TIMEOUT_SECONDS


def test_408_for_half_a_head(service: Service) -> None:
    with service.connect(b"GET /healthz HTT") as client:
        response, body = answer(client)
        assert response.status == 408
        assert body == {
            "code": "request_timeout",
            "message": "the head of the request did not arrive in time",
        }
        assert is_closed(client)


def test_408_for_a_head_that_trickles(service: Service) -> None:
    with service.connect(b"GET /healthz HTTP/1.1\r\nX: ") as client:
        client.settimeout(0.1)
        assert trickle(client) == 408


def trickle(client: socket.socket) -> int:
    """Send a byte every now and then until there is a response; returns its status."""
    deadline = time.monotonic() + SOON_SECONDS
    received = b""
    while time.monotonic() < deadline:
        client.sendall(b"x")
        with contextlib.suppress(TimeoutError):
            received += client.recv(4096)
            return int(received.split()[1])
    raise AssertionError("no response")


def test_an_idle_connection_is_kept_but_a_head_begun_on_it_has_its_time(service: Service) -> None:
    with service.connect(GET) as client:
        assert answer(client)[0].status == 200
        client.settimeout(TIMEOUT_SECONDS * 2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(SOON_SECONDS)
        client.sendall(GET[:9])
        client.sendall(GET[9:])
        assert answer(client)[0].status == 200
        client.sendall(GET[:9])
        assert answer(client)[0].status == 408


def test_400_for_what_is_no_http(service: Service) -> None:
    status, body = service.ask(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    assert (status, body["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("head", "status"), [(b"POST /v1/events HTT", 408), (b"POST /v1/events HTTP/1.1\r\n bad\r\n\r\n", 400)]
)
def test_a_page_can_read_that_its_head_is_refused(public_port: Service, head: bytes, status: int) -> None:
    with public_port.connect(head) as client:
        response, _ = answer(client)
    assert response.status == status
    assert response.headers["Access-Control-Allow-Origin"] == "*"


# Bodies


def test_408_for_half_a_body(service: Service) -> None:
    with service.connect(EVENTS + b"Content-Length: 100\r\n\r\n" + b"x" * 50) as client:
        response, body = answer(client)
        assert (response.status, response.getheader("Connection")) == (408, "close")
        assert body == {"code": "request_timeout", "message": "the body did not arrive in time"}


def test_408_for_a_body_that_trickles(service: Service) -> None:
    with service.connect(EVENTS + b"Content-Length: 1000\r\n\r\n") as client:
        client.settimeout(0.1)
        assert trickle(client) == 408


def test_a_body_that_keeps_the_pace_may_take_longer(service: Service) -> None:
    with service.connect(EVENTS + b"Content-Length: 2035\r\n\r\n" + b" " * 2000) as client:
        time.sleep(TIMEOUT_SECONDS * 2)
        client.sendall(BATCH)
        assert answer(client)[0].status == 204


def test_503_with_retry_after_while_other_bodies_take_all_the_memory(service: Service) -> None:
    with service.connect(
        EVENTS + b"Expect: 100-continue\r\nContent-Length: 80000\r\n\r\n" + b" " * 40_000
    ) as holder:
        assert holder.recv(100).startswith(b"HTTP/1.1 100")
        with service.connect(EVENTS + b"Content-Length: 50000\r\n\r\n") as client:
            response, body = answer(client)
        assert (response.status, response.getheader("Retry-After")) == (503, "1")
        assert body["code"] == "overloaded"
        with service.connect(EVENTS + b"Expect: 100-continue\r\nContent-Length: 50000\r\n\r\n") as client:
            assert client.recv(100).startswith(b"HTTP/1.1 503")
        chunk = b"7530\r\n" + b" " * 30_000 + b"\r\n0\r\n\r\n"
        assert service.ask(EVENTS + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)[0] == 503
        assert service.ask(EVENTS + b"Content-Length: 35\r\n\r\n" + BATCH)[0] == 204
    until(lambda: service.ask(EVENTS + b"Content-Length: 50035\r\n\r\n" + b" " * 50_000 + BATCH)[0] == 204)
    # One that is larger than all there is has it for itself.
    assert service.ask(EVENTS + b"Content-Length: 200035\r\n\r\n" + b" " * 200_000 + BATCH)[0] == 204


def until(condition: Any) -> None:
    deadline = time.monotonic() + SOON_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_413_for_a_body_over_the_limit_before_it_is_sent(service: Service) -> None:
    with service.connect(EVENTS + b"Content-Length: 99999999\r\n\r\n") as client:
        response, body = answer(client)
    assert (response.status, response.reason) == (413, "Content Too Large")
    assert body["code"] == "body_too_large"


EXPECT = b"Expect: 100-continue\r\nContent-Length: 35\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (EVENTS + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n", 413),
        (EVENTS + EXPECT + b"Content-Encoding: compress\r\n\r\n", 415),
        (EVENTS.replace(KEY, b"") + EXPECT + b"\r\n", 401),
        (EVENTS.replace(b"events", b"nothing") + EXPECT + b"\r\n", 404),
    ],
)
def test_a_refused_request_is_not_asked_for_its_body(service: Service, head: bytes, status: int) -> None:
    with service.connect(head) as client:
        assert int(client.recv(100).split()[1]) == status


def test_100_and_then_the_response_for_a_body_that_waits_to_be_asked_for(service: Service) -> None:
    with service.connect(EVENTS + EXPECT + b"\r\n") as client:
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(BATCH)
        assert answer(client)[0].status == 204


def test_400_for_a_body_in_tiny_chunks(service: Service) -> None:
    chunks = b"1\r\nx\r\n" * 20_000
    status, body = service.ask(EVENTS + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert (status, body["message"]) == (400, "the chunks of the body are too small for their number")


def test_400_for_a_chunk_with_an_endless_extension(service: Service) -> None:
    extension = b"1;" + b"x" * 40_000
    assert service.ask(EVENTS + b"Transfer-Encoding: chunked\r\n\r\n" + extension)[0] == 400


def test_many_chunks_of_ordinary_size_are_a_body(service: Service) -> None:
    chunks = b"14\r\n" + b" " * 20 + b"\r\n"
    last = b"23\r\n" + BATCH + b"\r\n0\r\n\r\n"
    assert service.ask(EVENTS + b"Transfer-Encoding: chunked\r\n\r\n" + chunks * 4000 + last)[0] == 204


def test_400_at_once_for_chunks_that_are_none(service: Service) -> None:
    status, body = service.ask(EVENTS + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert (status, body["code"]) == (400, "bad_request")
    began = time.monotonic()
    with service.connect(EVENTS + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n") as client:
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        client.sendall(b"zz\r\n")
        response, body = answer(client)
    assert (response.status, body["message"]) == (400, "the body's chunks are not valid HTTP")
    assert time.monotonic() - began < TIMEOUT_SECONDS


def encoded(coding: bytes, body: bytes) -> bytes:
    return EVENTS + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s" % (coding, len(body), body)


@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b"X-GZIP"])
def test_a_compressed_body_is_decoded(service: Service, coding: bytes) -> None:
    assert service.ask(encoded(coding, gzip.compress(BATCH)))[0] == 204


def test_413_for_a_body_that_unpacks_to_more_than_the_limit(service: Service) -> None:
    status, body = service.ask(encoded(b"gzip", gzip.compress(b" " * 20_000_000)))
    assert (status, body["code"]) == (413, "body_too_large")


def test_400_for_a_compressed_body_that_is_cut(service: Service) -> None:
    assert service.ask(encoded(b"gzip", gzip.compress(BATCH)[:-4])) == (
        400,
        {"code": "bad_request", "message": "the body is not valid gzip: cut short"},
    )


@pytest.mark.parametrize("coding", [b"compress", b"gzip, gzip", b"\xff"])
def test_415_names_the_codings_that_are_known(service: Service, coding: bytes) -> None:
    with service.connect(encoded(coding, BATCH)) as client:
        response, body = answer(client)
    assert (response.status, body["code"]) == (415, "unsupported_coding")
    assert response.getheader("Accept-Encoding") == "gzip, deflate, br, zstd"


def test_memory_stays_near_the_budget_when_many_senders_stop_half_way(tmp_path: Path) -> None:
    budget, senders, sent = 8 * 2**20, 100, 2**20
    head = EVENTS + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (2 * sent)
    with serving(tmp_path, {"BODIES_BYTES": str(budget)}) as service:
        (worker,) = service.workers
        before = worker.memory_info().rss
        for _ in range(8):
            with contextlib.ExitStack() as stack:
                for _ in range(senders):
                    with contextlib.suppress(OSError):  # refused
                        stack.enter_context(service.connect()).sendall(head + b" " * sent)
        until(lambda: worker.num_fds() < senders)
        # What was sent at once is more than 12 times as much.
        assert worker.memory_info().rss - before < 8 * budget


# Output, connections, the log


def test_a_client_that_takes_nothing_of_its_responses_is_cut_off(service: Service) -> None:
    request = b"GET /%s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (b"x" * 7_000, KEY)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(SOON_SECONDS)
        client.connect(("127.0.0.1", service.port))
        with pytest.raises(ConnectionError):
            client.sendall(request * 10_000)
    assert "does not read its response" in service.log.read_text()


def test_connections_over_the_limit_wait_until_another_ends(narrow_service: Service) -> None:
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(narrow_service.connect()) for _ in range(MAX_CONNECTIONS)]
        waiting = stack.enter_context(narrow_service.connect(GET, timeout=0.3))
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        holders[0].close()
        waiting.settimeout(SOON_SECONDS)
        response, body = answer(waiting)
        # Others might be waiting too: the connection is not kept.
        assert (response.status, response.getheader("Connection"), body) == (200, "close", {"status": "ok"})


def test_200_connections_at_once_are_answered_however_long_the_loop_is_held(narrow_service: Service) -> None:
    (worker,) = narrow_service.workers
    worker.send_signal(signal.SIGSTOP)
    try:
        with contextlib.ExitStack() as stack:
            # One that the backlog has no room for is tried again by the kernel, after a second.
            clients = [stack.enter_context(narrow_service.connect(GET, timeout=0.9)) for _ in range(200)]
            worker.send_signal(signal.SIGCONT)
            for client in clients:
                client.settimeout(SOON_SECONDS)
                assert answer(client)[0].status == 200
    finally:
        worker.send_signal(signal.SIGCONT)


def test_each_refusal_is_one_line_of_the_log(service: Service) -> None:
    refusals = [
        (b"GET /healthz HTTP/1.1\r\n bad\r\n\r\n", 400),
        (b"GET /healthz HTT", 408),
        (EVENTS + b"Content-Length: 100\r\n\r\n", 408),
        (EVENTS + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (EVENTS + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000, 400),
    ]
    for sent, status in refusals:
        before = len(service.lines())
        assert service.ask(sent)[0] == status
        (line,) = service.lines()[before:]
        assert (line["message"], line["service"], line["status"]) == ("request", "results", status)
    assert not [line for line in service.lines() if "traceback" in line]


# The environment


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("PROJECTS_MAX_CONNECTIONS", "many", "must be a positive whole number, not 'many'"),
        ("EXPERIMENTS_BODIES_BYTES", "0", "must be a positive whole number, not '0'"),
        ("RESULTS_HEAD_TIMEOUT_SECONDS", "-1", "must be a positive number, not '-1'"),
        ("RESULTS_KEEPALIVE_SECONDS", "inf", "must be a positive number, not 'inf'"),
    ],
)
def test_a_wrong_limit_ends_the_start_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("OPTIMIZELY_API_DATA_DIR", str(tmp_path))
    result = CliRunner().invoke(main, ["service", variable.partition("_")[0].lower()])
    assert (result.exit_code, result.output) == (1, f"Error: {variable} {complaint}\n")
