"""The throttle: few calls reach a service that fails, all reach one that works, and nothing has to be reset."""

from dataclasses import dataclass

import pytest

from optimizely_api.upstream.resilience.budget import Budget
from optimizely_api.upstream.resilience.hedge import Hedges
from optimizely_api.upstream.resilience.limit import Limit
from optimizely_api.upstream.resilience.throttle import Throttle
from optimizely_api.upstream.resilience.watch import Watch
from tests.upstream.resilience.virtual_time import VirtualTime

WINDOW = 10.0


@pytest.fixture
def time():
    return VirtualTime(seed=7)


@pytest.fixture
def throttle(time):
    return Throttle(WINDOW, time)


@dataclass(frozen=True, eq=False)
class Call:
    """A call under way that nobody gives up on."""

    wait_seconds: float

    def seconds_left(self):
        return 60.0


def no_hedges(time):
    return Hedges(0.0, Budget(0), Limit(0, 1, time), time)


def offer(time, throttle, seconds, rate, works):
    """Offer calls at a rate, which end at once; returns when each was sent, and whether it was good."""
    sent = []
    for _ in range(round(seconds * rate)):
        time.go_on(1 / rate)
        if throttle.lets_pass():
            good = works(time)
            if good:
                throttle.succeeded(time.now())
            else:
                throttle.failed()
            sent.append((time.seconds, good))
    return sent


def test_a_service_that_works_gets_every_call(time, throttle):
    assert len(offer(time, throttle, 60, 100, lambda _time: True)) == 6000


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_nothing_to_speak_of_is_refused_while_more_than_half_succeeds(time, throttle, share):
    sent = offer(time, throttle, 60, 100, lambda time: time.chance.random() >= share)
    assert len(sent) > 5990


@pytest.mark.parametrize("rate", [20, 100, 1000])
def test_a_service_that_fails_gets_few_calls(time, throttle, rate):
    offer(time, throttle, 5, rate, lambda _time: False)
    sent = offer(time, throttle, 60, rate, lambda _time: False)
    assert len(sent) <= 60 * (2.1 + rate * 0.05)


def test_one_that_mostly_fails_gets_about_twice_what_it_can_do(time, throttle):
    offer(time, throttle, 10, 200, lambda time: time.chance.random() < 0.1)
    sent = offer(time, throttle, 60, 200, lambda time: time.chance.random() < 0.1)
    assert 0.01 < len(sent) / 12_000 < 0.5


@pytest.mark.parametrize("rate", [2, 10, 100, 1000])
@pytest.mark.parametrize("outage_seconds", [3, 60])
def test_the_first_good_response_comes_within_a_second_of_the_return_and_all_within_three(
    time, throttle, rate, outage_seconds
):
    offer(time, throttle, outage_seconds, rate, lambda _time: False)
    returned = time.seconds
    sent = offer(time, throttle, 3, rate, lambda _time: True)
    assert sent[0][0] - returned <= 1.0
    assert len(offer(time, throttle, 10, rate, lambda _time: True)) == 10 * rate


@pytest.mark.parametrize("outage_seconds", [2, 5, 8])
def test_a_short_outage_of_a_service_that_worked_is_forgotten_within_three_seconds(
    time, throttle, outage_seconds
):
    offer(time, throttle, 30, 11, lambda _time: True)
    offer(time, throttle, outage_seconds, 11, lambda _time: False)
    offer(time, throttle, 3, 11, lambda _time: True)
    assert throttle.refused_share == 0


def test_a_few_failures_refuse_nothing(time, throttle):
    for _ in range(9):
        throttle.failed()
    assert throttle.refused_share == 0


def test_failures_are_forgotten_with_time(time, throttle):
    for _ in range(100):
        throttle.failed()
    assert throttle.refused_share > 0.9
    time.go_on(WINDOW + 1)
    assert throttle.lets_pass()
    assert throttle.refused_share == 0


def test_off_it_refuses_nothing(time):
    assert len(offer(time, Throttle(0, time), 10, 100, lambda _time: False)) == 1000


def test_a_silent_service_is_noticed_after_a_second_and_not_when_its_callers_give_up(time, throttle):
    watch = Watch(throttle, no_hedges(time), time)
    for _ in range(20):
        watch.begin(Call(wait_seconds=0.0), time.now())
    time.go_on(0.99)
    assert throttle.refused_share == 0
    time.go_on(0.1)
    assert throttle.refused_share > 0.9


def test_a_computation_that_the_service_was_asked_to_wait_for_is_not_late(time, throttle):
    watch = Watch(throttle, no_hedges(time), time)
    attempts = [watch.begin(Call(wait_seconds=5.0), time.now()) for _ in range(20)]
    time.go_on(5.9)
    for attempt in attempts:
        watch.end(attempt)
    time.go_on(60)
    assert throttle.refused_share == 0
