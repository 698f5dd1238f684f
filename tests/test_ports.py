"""Ports of test servers: nobody else gets them, whatever runs beside."""

import socket
import subprocess
import sys

from tests.support.ports import EPHEMERAL, free_port, listening_socket
from tests.support.serving import ROOT

MANY = "from tests.support.ports import free_port; print(*(free_port() for _ in range(300)), flush=True); input()"


def test_a_port_is_given_once():
    ports = [free_port() for _ in range(300)]
    assert len(set(ports)) == 300


def test_two_runs_of_the_tests_never_get_the_same_port():
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", MANY],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    ports = [port for run in runs for port in run.stdout.readline().split()]
    for run in runs:
        run.communicate("\n")
    assert len(ports) == len(set(ports)) == 8 * 300


def test_no_outgoing_connection_can_take_a_port_before_its_server_does():
    lowest = int(EPHEMERAL.read_text().split()[0])
    assert all(free_port() < lowest for _ in range(100))


def test_a_port_on_which_somebody_listens_is_not_given(monkeypatch):
    with listening_socket() as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("tests.support.ports._taken", set())
        proposed = iter([port, *range(20_000, 20_200)])
        monkeypatch.setattr("random.randint", lambda *_: next(proposed))
        assert free_port() != port
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) == 0
