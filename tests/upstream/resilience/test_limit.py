"""The limit: none while a service keeps its pace, fewer calls when it slows down under them, and turns by account."""

import pytest

from optimizely_api.upstream.resilience.limit import Limit
from optimizely_api.upstream.resilience.refusals import Full
from tests.upstream.resilience.virtual_time import VirtualTime


@pytest.fixture
def time():
    return VirtualTime()


@pytest.fixture
def full(time):
    """A limit of two calls, both under way."""
    limit = Limit(2, 2, time)
    assert limit.enter()
    assert limit.enter()
    assert not limit.enter()
    return limit


class Load:
    """Calls that arrive at a rate, at a service whose time for one depends on how many it has."""

    def __init__(self, time, limit, duration):
        self.time, self.limit, self._duration = time, limit, duration
        self.refused = self.answered = 0

    def offer(self, seconds, rate, account="one"):
        for _ in range(round(seconds * rate)):
            self.time.go_on(1 / rate)
            if self.limit.enter():
                self._serve()
            else:
                self.limit.wait(account, 10).add_done_callback(self._entered)

    def _entered(self, turn):
        try:
            turn.result()
        except Full:
            self.refused += 1
        else:
            self._serve()

    def _serve(self):
        seconds = self._duration(self.limit.in_flight)

        def end():
            self.answered += 1
            self.limit.leave(seconds)

        self.time.call_later(seconds, end)


def test_a_slow_service_that_keeps_its_pace_serves_thousands_at_once(time):
    load = Load(time, Limit(50, 10_000, time), lambda _in_flight: 2.0)
    load.offer(4, 1000)
    assert load.limit.in_flight == pytest.approx(2000, abs=2)
    assert load.refused == 0
    assert load.limit.limit == 10_000


def test_one_that_slows_down_under_its_calls_gets_fewer(time):
    load = Load(time, Limit(50, 10_000, time), lambda in_flight: 0.02 * max(1, in_flight / 5))
    load.offer(2, 100)
    load.offer(10, 1000)
    assert load.limit.limit < 200
    assert load.limit.in_flight <= load.limit.limit + 1


def test_the_limit_goes_up_again_when_the_service_keeps_its_pace(time):
    slow = True
    load = Load(
        time, Limit(50, 10_000, time), lambda in_flight: 0.02 * (max(1, in_flight / 10) if slow else 1)
    )
    load.offer(6, 100)
    load.offer(5, 1000)
    low = load.limit.limit
    slow = False
    load.offer(10, 3000)
    assert load.limit.limit > 1.5 * low


def test_few_calls_are_never_held_back(time):
    load = Load(time, Limit(50, 10_000, time), lambda _in_flight: time.chance.choice((0.001, 3.0)))
    load.offer(60, 20)
    assert load.limit.limit >= 50
    assert load.refused == 0


def test_without_a_least_number_there_is_no_limit(time):
    load = Load(time, Limit(0, 10_000, time), lambda in_flight: 0.02 * in_flight)
    load.offer(3, 1000)
    assert load.refused == 0
    assert load.limit.in_flight > 500


def test_who_waits_a_second_is_refused(time, full):
    turn = full.wait("one", 10)
    time.go_on(0.99)
    assert not turn.done()
    time.go_on(0.02)
    with pytest.raises(Full):
        turn.result()


def test_who_has_little_time_waits_a_quarter_of_it(time, full):
    turn = full.wait("one", 0.4)
    time.go_on(0.11)
    with pytest.raises(Full):
        turn.result()


def test_an_account_with_many_calls_does_not_hold_up_one_with_few(time, full):
    order = []
    many = [full.wait("many", 10) for _ in range(100)]
    for turn in many:
        turn.add_done_callback(lambda _turn: order.append("many"))
    for _ in range(3):
        full.wait("few", 10).add_done_callback(lambda _turn: order.append("few"))
    for _ in range(10):
        full.leave(None)
    assert order[:6].count("few") == 3
    assert len(order) == 10


def test_nobody_starves_among_a_hundred_accounts(time, full):
    served = set()
    for account in range(100):
        for _ in range(account + 1):
            full.wait(account, 10).add_done_callback(lambda _turn, account=account: served.add(account))
    for _ in range(100):
        full.leave(None)
    assert served == set(range(100))


def test_whose_caller_has_gone_takes_no_place(time, full):
    gone, staying = full.wait("one", 10), full.wait("one", 10)
    full.forsake(gone)
    full.leave(None)
    assert staying.done()
    assert full.in_flight == 2


def test_whose_caller_goes_just_when_there_is_room_leaves_it_to_the_next(time, full):
    gone, staying = full.wait("one", 10), full.wait("one", 10)
    full.leave(None)
    assert gone.done()
    full.forsake(gone)
    assert staying.done()
    assert full.in_flight == 2
