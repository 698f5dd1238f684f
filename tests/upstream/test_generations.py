"""Generations: a write through one worker shows at once in the reads through every worker of the same gunicorn."""

import contextlib
import mmap
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest

from optimizely_api.serving.shared_memory import TABLES_BYTES, shared_memory
from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.generations import (
    TABLE_BYTES,
    Generations,
    changed_paths,
)
from optimizely_api.upstream.calls import Call
from tests.runtime.servers import ROOT, running, until
from tests.support.ports import free_port

READ = calls.get_experiment(1)
WRITE = Call("experiments", "/experiments/1", "Experiment", method="PATCH", body={"name": "new"})

EXPERIMENTS = ("/experiments", "/experiments/1", "/experiments/2")
LAYERS = ("/layers", "/layers/1", "/layers/2")
PAGES = ("/pages", "/pages/1", "/pages/2")
EVENTS = ("/events", "/events/1", "/events/2")


def test_a_snapshot_is_current_until_its_path_is_written():
    table = Generations()
    snapshot = table.snapshot(READ)
    assert snapshot.is_current
    table.advance(WRITE)
    assert not snapshot.is_current
    assert table.snapshot(READ).is_current


@pytest.mark.parametrize(
    ("written", "changed"),
    [
        ("/experiments/1", ["/experiments/1", "/experiments", *LAYERS, *PAGES, *EVENTS]),
        ("/experiments", [*EXPERIMENTS, *LAYERS, *PAGES, *EVENTS]),
        ("/layers/1", ["/layers/1", "/layers", *EXPERIMENTS, *PAGES, *EVENTS]),
        ("/events/1", ["/events/1", "/events", *EXPERIMENTS, *LAYERS]),
        ("/pages/1", ["/pages/1", "/pages", *EXPERIMENTS, *LAYERS, *EVENTS]),
        ("/projects/1", ["/projects/1", "/projects"]),
        ("/accounts/1/tokens/2", ["/accounts/1/tokens/2", "/accounts/1/tokens", "/accounts/1", "/accounts"]),
    ],
)
def test_a_write_invalidates_its_path_the_lists_above_and_the_entities_that_show_it(written, changed):
    kinds = ("experiments", "layers", "events", "pages", "projects", "accounts", "accounts/1/tokens")
    paths = [f"/{kind}{rest}" for kind in kinds for rest in ("", "/1", "/2")]
    table = Generations()
    before = {path: table.snapshot(Call("experiments", path, "Any")) for path in paths}
    table.advance(Call("experiments", written, "Any", method="PATCH"))
    assert {path for path in paths if not before[path].is_current} == set(changed)


def test_a_write_leaves_its_siblings_alone():
    table = Generations()
    beside = table.snapshot(calls.get_project(2))
    table.advance(Call("projects", "/projects/1", "Project", method="PATCH"))
    assert beside.is_current


def test_another_services_paths_are_other_paths():
    table = Generations()
    snapshot = table.snapshot(Call("projects", "/experiments/1", "Any"))
    table.advance(WRITE)
    assert snapshot.is_current


def test_the_changed_paths_are_as_their_example_says():
    assert list(changed_paths("/experiments/1")) == [
        *("/experiments/1", "/experiments/1/", "/experiments", "/layers", "/layers/"),
        *(
            "/audiences",
            "/audiences/",
            "/extensions",
            "/extensions/",
            "/pages",
            "/pages/",
            "/events",
            "/events/",
        ),
        *("/changes", "/search", "/datafiles/", "/snippets"),
    ]


@pytest.mark.parametrize("kind", ["attributes", "experiments", "features", "layers"])
def test_audiences_name_attributes_and_count_experiments_and_features(kind):
    table = Generations()
    audience = table.snapshot(Call("experiments", "/audiences/1", "Audience"))
    table.advance(Call("experiments", f"/{kind}/2", "", method="PATCH"))
    assert not audience.is_current


WRITER = """
import mmap, sys
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.caching.generations import Generations
with open(sys.argv[1], "r+b") as file:
    table = Generations(mmap.mmap(file.fileno(), 0))
while True:
    table.advance(Call("experiments", "/experiments/1", "Experiment", method="PATCH"))
"""


def test_racing_writers_never_restore_an_old_generation(tmp_path):
    """Three processes write all the time; each snapshot stays out of date from the first write after it."""
    shared = tmp_path / "generations"
    shared.write_bytes(bytes(2 * TABLE_BYTES))
    with shared.open("r+b") as file, contextlib.ExitStack() as stack:
        table = Generations(mmap.mmap(file.fileno(), 0))
        snapshots = [table.snapshot(READ)]
        for _ in range(3):
            writer = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", WRITER, str(shared)], cwd=ROOT)
            )
            stack.callback(writer.kill)
        deadline = time.monotonic() + 30
        while len(snapshots) < 2000:
            if not snapshots[-1].is_current:
                snapshots.append(table.snapshot(READ))
            assert time.monotonic() < deadline, f"only {len(snapshots)} writes were seen"
    table.advance(WRITE)
    assert not any(snapshot.is_current for snapshot in snapshots)


def test_a_process_has_one_shared_table():
    assert shared_memory() is shared_memory()
    assert TABLES_BYTES == 2 * TABLE_BYTES


# Under gunicorn


class Experiments(BaseHTTPRequestHandler):
    """A service with one experiment, which a PATCH replaces."""

    protocol_version = "HTTP/1.1"
    value = b"{}"

    def do_GET(self):
        self._respond()

    def do_PATCH(self):
        type(self).value = self.rfile.read(int(self.headers["Content-Length"]))
        self._respond()

    def _respond(self):
        value = self.value
        self.send_response(200)
        self.send_header("X-Request-Id", self.headers["X-Request-Id"])
        self.send_header("Content-Length", str(len(value)))
        self.end_headers()
        self.wfile.write(value)

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    Experiments.value = b'{"id": 1, "name": "old"}'
    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Experiments)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class Connection:
    """A persistent connection, which always leads to the same worker."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=15)
        self.worker = self.get("/read")["worker"]

    def get(self, path):
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received or not received.endswith(b"}"):
            received += self.socket.recv(65536)
        return orjson.loads(received.partition(b"\r\n\r\n")[2])


@contextlib.contextmanager
def connections_to_both(port, but=()):
    """A connection to each of the two workers that are not among `but`."""
    found, opened = {}, []

    def look():
        opened.append(Connection(port))
        if opened[-1].worker not in but:
            found.setdefault(opened[-1].worker, opened[-1])
        return len(found) == 2

    try:
        until(look, 30)
        yield list(found.values())
    finally:
        for connection in opened:
            connection.socket.close()


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["forked before loading", "preloaded"])
@pytest.mark.parametrize("hup", [False, True], ids=["started", "after a HUP"])
def test_a_write_through_one_worker_shows_through_the_other(service, tmp_path, options, hup):
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-k", "optimizely_api.runtime.server.worker.GatewayWorker"]
    command += ["--bind", f"127.0.0.1:{port}", "--workers", "2", "--no-control-socket", *options]
    command += ["tests.upstream.writing_app:main()"]
    environment = {"EXPERIMENTS_URL": service, "PYTHONPATH": str(ROOT)}
    with running(command, port, tmp_path / "gunicorn.log", environment) as server:
        replaced = set()
        if hup:
            with connections_to_both(port) as connections:
                replaced = {connection.worker for connection in connections}
            server.signal(1)
            until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in replaced), 30)
        with connections_to_both(port, but=replaced) as (one, other):
            assert one.worker != other.worker
            assert [connection.get("/read")["name"] for connection in (one, other)] == ["old", "old"]
            for number, (writer, reader) in enumerate([(one, other), (other, one)]):
                writer.get(f"/write?name={number}")
                assert reader.get("/read")["name"] == str(number)
                assert writer.get("/read")["name"] == str(number)
            Experiments.value = b'{"id": 1, "name": "from elsewhere"}'
            assert {connection.get("/read")["name"] for connection in (one, other)} == {"1"}
    assert os.getpid() not in (one.worker, other.worker)
