"""How long work waits for the event loop, on a clock of the test's own."""

import math
import time

import pytest

from optimizely_api.serving import lag
from optimizely_api.serving.lag import TICK_SECONDS, LagMeter, busy_seconds


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


def test_a_thread_that_sleeps_is_not_busy_and_one_that_computes_is():
    def busy_share(spend_seconds):
        began, busy = time.monotonic(), busy_seconds()
        spend_seconds(0.2)
        return (busy_seconds() - busy) / (time.monotonic() - began)

    def compute(seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass

    assert busy_share(time.sleep) < 0.9 < busy_share(compute)


@pytest.mark.parametrize("statistics", ["0 0 0\n", "", "1 2\n", None])
def test_it_is_no_number_where_the_system_does_not_tell(tmp_path, monkeypatch, statistics):
    path = tmp_path / "schedstat"
    monkeypatch.setattr(lag, "_SCHEDULER_STATISTICS", path)
    if statistics is not None:
        path.write_text(statistics)
    assert math.isnan(busy_seconds())
