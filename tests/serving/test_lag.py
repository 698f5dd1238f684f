"""How long work waits for the event loop, on a clock of the test's own."""

import socket
import time

import pytest

from optimizely_api.serving.lag import TICK_SECONDS, LagMeter, unread_seconds
from tests.runtime.servers import until


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_tick_that_comes_late_is_the_wait():
    clock, waits = Clock(), []
    meter = LagMeter(waits.append, clock)
    for late in (0.0, 0.3, 0.0):
        clock.now += TICK_SECONDS + late
        meter.tick()
    assert waits == pytest.approx([0.0, 0.3, 0.0])


def test_the_oldest_request_in_the_backlog_counts_until_the_next_tick():
    clock, waits = Clock(), []
    meter = LagMeter(waits.append, clock)
    meter.note_unread(0.2)
    meter.note_unread(0.1)
    for _ in range(2):
        clock.now += TICK_SECONDS
        meter.tick()
    assert waits == pytest.approx([0.2, 0.0])


def test_the_age_of_what_waits_in_the_backlog_is_read_from_the_system():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        sent_at = time.monotonic()
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        until(lambda: time.monotonic() - sent_at >= 0.2)
        with listener.accept()[0] as accepted:
            age = unread_seconds(accepted)
            assert 0.15 <= age <= time.monotonic() - sent_at + 0.05


def test_a_unix_socket_has_no_age(tmp_path):
    with socket.socket(socket.AF_UNIX) as client:
        assert unread_seconds(client) == 0.0
