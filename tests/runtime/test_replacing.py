"""`max_requests`: a worker keeps serving until its replacement listens."""

import os

import psutil
import pytest

from tests.runtime.servers import HERE, ROOT, gunicorn, read_to_end, send, until

APPLICATION = """
import os
import served_app

def main():
    if os.path.exists(os.environ["FLAG"]):
        raise RuntimeError("the flag is up")
    return served_app.main()
"""


@pytest.fixture
def flag(tmp_path):
    return tmp_path / "flag"


@pytest.fixture
def server(tmp_path, flag):
    """One worker, whose replacements cannot start while the flag exists."""
    (tmp_path / "flagged_app.py").write_text(APPLICATION)
    environment = {"FLAG": str(flag), "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE, tmp_path)))}
    options = ("--max-requests", "5", "--keep-alive", "60")
    with gunicorn(tmp_path, *options, application="flagged_app:main()", environment=environment) as server:
        yield server


def workers(server):
    return [child.pid for child in psutil.Process(server.process.pid).children()]


def test_a_response_with_connection_close_moves_a_client_to_the_new_worker(server):
    answered = set()
    while len(answered) < 3:
        with server.connect() as client:
            head = b""
            while b"\r\nConnection: close" not in head:
                head, pid = send(client)
                answered.add(pid)
            assert read_to_end(client) == b""
    until(lambda: len(workers(server)) == 1)


def test_a_worker_that_serves_max_requests_as_soon_as_it_listens_is_replaced_too(tmp_path):
    answered = set()

    def ask():
        with server.connect() as client:
            answered.add(send(client)[1])

    def five_workers_have_answered():
        ask()
        return len(answered) >= 5

    with gunicorn(tmp_path, "--max-requests", "1") as server:
        until(five_workers_have_answered, seconds=60)


def test_the_old_worker_keeps_serving_when_the_new_one_cannot_start(server, flag):
    flag.touch()
    [before] = workers(server)
    with server.connect() as client:
        for _ in range(5):
            send(client)
        server.wait_for_log("which serves on: ")
        head, pid = send(client)
    assert pid == before
    assert b"Connection: close" not in head
    assert workers(server) == [before]
    [line] = [line for line in server.log.splitlines() if "which serves on: " in line]
    assert line.endswith("RuntimeError: the flag is up")
