"""`deploy/haproxy.cfg`, as it is shipped: HAProxy takes it, and it sheds what is too much in the API's error shape."""

import csv
import hashlib
import shutil
import socket
import subprocess
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from tests.runtime.servers import until
from tests.support.ports import free_port
from tests.support.serving import ROOT, is_listening

FILE = ROOT / "deploy" / "haproxy.cfg"
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
AT_ONCE = 64  # maxconn of the file
SOON_SECONDS = 20

pytestmark = pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed")


class Upstream(ThreadingHTTPServer):
    """In the place of a gateway: holds each request until it is let go, and notes paths and headers in their order."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Held)
        self.go, self.paths, self.headers = threading.Event(), [], []


class Held(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path != "/healthz":
            self.server.headers.append(self.headers)
            self.server.paths.append(self.path)
            self.server.go.wait(SOON_SECONDS)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def haproxy(folder, gateway_port, **changed):
    """Run HAProxy with the file, its ports and some texts changed; yields its URL."""
    port, config, text = free_port(), folder / "haproxy.cfg", FILE.read_text()
    changes = {
        "127.0.0.1:8080": f"127.0.0.1:{port}",
        "127.0.0.1:6543": f"127.0.0.1:{gateway_port}",
        "\nglobal\n": f"\nglobal\n    stats socket unix@{stats_of(folder)}\n",
        **changed,
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    config.write_text(text)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([HAPROXY, "-db", "-f", str(config)], stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or is_listening(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def stats_of(folder):
    """HAProxy's socket, whose name must be short."""
    return f"/tmp/{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"


def queued(folder):
    """How many requests wait in HAProxy for the gateway."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(stats_of(folder))
        client.sendall(b"show stat\n")
        text = client.makefile().read()
    rows = csv.DictReader(text.lstrip("# ").splitlines())
    ours = ("gateways", "BACKEND")
    return next(int(row["qcur"]) for row in rows if (row["pxname"], row["svname"]) == ours)


@pytest.fixture
def upstream():
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


def assert_refused(response):
    problem = response.json()
    assert (response.status_code, problem["code"]) == (503, "overloaded")
    assert problem.keys() == {"code", "message", "uuid"}
    assert problem["uuid"] == str(uuid.UUID(problem["uuid"])) == response.headers["X-Request-Id"]
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Retry-After"] in ("1", "2", "3")
    assert response.headers["Access-Control-Allow-Origin"] == "*"


def test_haproxy_takes_the_file():
    done = subprocess.run([HAPROXY, "-c", "-f", str(FILE)], capture_output=True, text=True)
    assert (done.returncode, "warning" in (done.stdout + done.stderr).lower()) == (0, False), done.stderr


def test_503_in_the_one_error_shape_without_a_gateway(tmp_path):
    with haproxy(tmp_path, free_port()) as url:
        response = requests.get(f"{url}/v2/projects", timeout=SOON_SECONDS)
        assert_refused(response)
        until(lambda: response.json()["uuid"] in (tmp_path / "log").read_text())


def test_the_gateway_hears_from_haproxy_alone_who_calls(tmp_path, upstream):
    invented = {
        "Forwarded": "for=192.0.2.1;proto=https",
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Prefix": "/invented",
        "X-Forwarded-Proto": "https",
    }
    upstream.go.set()
    with haproxy(tmp_path, upstream.server_port) as url:
        requests.get(f"{url}/v2/projects", headers=invented, timeout=SOON_SECONDS).raise_for_status()
    (headers,) = upstream.headers
    assert {name for name in invented if name in headers} == {"X-Forwarded-For"}
    assert ", ".join(headers.get_all("X-Forwarded-For")) == "192.0.2.1, 127.0.0.1"


@contextmanager
def full(url, upstream):
    """As many requests at the gateway as the file passes on."""

    def ask():
        requests.get(f"{url}/v2/busy", timeout=SOON_SECONDS)

    threads = [threading.Thread(target=ask) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    until(lambda: len(upstream.paths) == AT_ONCE, SOON_SECONDS)
    try:
        yield
    finally:
        upstream.go.set()
        for thread in threads:
            thread.join()


def test_what_is_too_much_is_refused_soon_and_never_reaches_the_gateway(tmp_path, upstream):
    with haproxy(tmp_path, upstream.server_port) as url, full(url, upstream):
        began = time.monotonic()
        assert_refused(requests.get(f"{url}/v2/projects", timeout=SOON_SECONDS))
        assert time.monotonic() - began < SOON_SECONDS / 4
        assert len(upstream.paths) == AT_ONCE


def test_batches_of_events_have_places_of_their_own(tmp_path, upstream):
    with haproxy(tmp_path, upstream.server_port) as url, full(url, upstream):
        batch = asking(url, "/v1/events")
        until(lambda: upstream.paths[AT_ONCE:] == ["/v1/events"])
        assert_refused(requests.get(f"{url}/v2/projects", timeout=SOON_SECONDS))
    batch.join()


def asking(url, path, token=None):
    """A thread that asks for this."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    thread = threading.Thread(
        target=requests.get, args=(url + path,), kwargs={"timeout": SOON_SECONDS, "headers": headers}
    )
    thread.start()
    return thread


def served_in_order(folder, url, upstream, waiting):
    """The paths as the gateway gets them, of requests that come one after the other while another one is served."""
    upstream.go.clear()
    upstream.paths.clear()
    threads = [asking(url, "/v2/busy")]
    until(lambda: upstream.paths == ["/v2/busy"])
    for number, (path, token) in enumerate(waiting, 1):
        threads.append(asking(url, path, token))
        until(lambda number=number: queued(folder) == number)
    upstream.go.set()
    for thread in threads:
        thread.join()
    return upstream.paths[1:]


ONE_AT_A_TIME = {"maxconn 64\n": "maxconn 1\n", "timeout queue 250ms": "timeout queue 20s"}


def test_of_those_that_wait_the_important_ones_are_served_first(tmp_path, upstream):
    waiting = [
        ("/datafiles/a.json", None),
        ("/v2/projects/1", None),
        ("/v2/projects", "a"),
        ("/v2/projects/2", "b"),
    ]
    with haproxy(tmp_path, upstream.server_port, **ONE_AT_A_TIME) as url:
        served = served_in_order(tmp_path, url, upstream, waiting)
    assert served == ["/v2/projects/2", "/v2/projects", "/datafiles/a.json", "/v2/projects/1"]


def test_who_asks_much_holds_up_nobody_who_asks_little(tmp_path, upstream):
    # So many that a slow machine lets the other one's request wait for less than a millisecond for each.
    already, waiting = 1_000, [("/v2/projects?much", "much"), ("/v2/projects?little", "little")]
    with haproxy(tmp_path, upstream.server_port, **ONE_AT_A_TIME) as url:
        upstream.go.set()
        with requests.Session() as session:
            for _ in range(already):
                session.get(
                    f"{url}/v2/projects", headers={"Authorization": "Bearer much"}, timeout=SOON_SECONDS
                )
        assert served_in_order(tmp_path, url, upstream, waiting) == [
            "/v2/projects?little",
            "/v2/projects?much",
        ]
