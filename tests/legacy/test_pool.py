"""The processes of the fan-out of 2017 end when they are told to."""

import multiprocessing
import signal

import pytest

from optimizely_api.legacy.pool import held_signals, reset_signals

SOON_SECONDS = 30


@pytest.fixture
def noted():
    """The signals that the parent has noted, as a worker of gunicorn does."""
    noted = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: noted.append(number))
    yield noted
    signal.signal(signal.SIGTERM, before)


def begin(has_begun, may_go_on):
    has_begun.set()
    may_go_on.wait()
    reset_signals()
    signal.pause()


def test_one_that_is_told_to_end_before_it_has_begun_ends(noted):
    forking = multiprocessing.get_context("fork")
    has_begun, may_go_on = forking.Event(), forking.Event()
    process = forking.Process(target=begin, args=(has_begun, may_go_on))
    with held_signals():
        process.start()
    try:
        assert has_begun.wait(SOON_SECONDS)
        process.terminate()
        may_go_on.set()
        process.join(SOON_SECONDS)
        assert process.exitcode == -signal.SIGTERM
    finally:
        process.kill()
        process.join()


def test_what_comes_while_children_are_forked_reaches_the_parent(noted):
    with held_signals():
        signal.raise_signal(signal.SIGTERM)
        assert noted == []
    assert noted == [signal.SIGTERM]
