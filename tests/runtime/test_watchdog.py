"""The watchdog names and counts what blocks the event loop."""

import asyncio
import logging
import threading
import time

import pytest

from optimizely_api.runtime import spawn_greenlet, synchronize
from optimizely_api.runtime.watchdog import Watchdog

# Far enough apart that on a busy machine a pause of the process does not count as a stall, and every stall counts.
LIMIT_SECONDS, BLOCKED_SECONDS = 0.4, 0.6


def blocks_the_loop(seconds):
    time.sleep(seconds)


async def blocking_view():
    await asyncio.sleep(0)
    blocks_the_loop(BLOCKED_SECONDS)


def blocking_tween():
    synchronize(asyncio.sleep)(0)
    blocks_the_loop(BLOCKED_SECONDS)


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, logger="optimizely_api.runtime.watchdog")
    return caplog


@pytest.mark.parametrize(
    ("work", "culprit"),
    [(blocking_view, "blocking_view"), (lambda: spawn_greenlet(blocking_tween), "blocking_tween")],
    ids=["a coroutine", "a greenlet"],
)
async def test_code_that_blocks_the_loop_is_named_and_counted(warnings, work, culprit):
    with Watchdog(LIMIT_SECONDS) as watchdog:
        await asyncio.sleep(0.05)
        await work()
        await asyncio.sleep(0.1)
    assert watchdog.stalls == 1
    assert f"in {culprit}\n" in warnings.messages[0]
    assert "in blocks_the_loop\n    time.sleep(seconds)" in warnings.messages[0]
    assert LIMIT_SECONDS < watchdog.longest_stall_seconds < 5.0


async def test_the_running_greenlet_is_shown_and_not_one_that_waits(warnings):
    def application():
        synchronize(blocking_view)()

    with Watchdog(LIMIT_SECONDS):
        await asyncio.sleep(0.05)
        await spawn_greenlet(application)
        await asyncio.sleep(0.1)
    assert "in blocks_the_loop\n" in warnings.messages[0]
    assert "in application\n" not in warnings.messages[0]


async def test_two_stalls_are_two(warnings):
    with Watchdog(LIMIT_SECONDS) as watchdog:
        for _ in range(2):
            await asyncio.sleep(0.1)
            blocks_the_loop(BLOCKED_SECONDS)
        await asyncio.sleep(0.1)
    assert watchdog.stalls == 2


async def test_it_is_quiet_while_nothing_stalls(warnings):
    with Watchdog(2.0) as watchdog:
        for _ in range(20):
            blocks_the_loop(0.02)
            await asyncio.sleep(0.02)
    assert (watchdog.stalls, warnings.messages) == (0, [])


async def test_zero_turns_it_off(warnings):
    before = threading.active_count()
    with Watchdog(0) as watchdog:
        assert threading.active_count() == before
        blocks_the_loop(0.2)
        await asyncio.sleep(0)
    assert watchdog.stalls == 0


async def test_it_stops_at_once_and_leaves_neither_thread_nor_timer():
    before = threading.active_count()
    began = time.monotonic()
    with Watchdog(60.0):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert time.monotonic() - began < 5.0
