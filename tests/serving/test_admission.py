"""Whom an overloaded worker serves: an event loop on virtual time, loaded with more than it can serve.

The model: a turn of the loop reads all requests that have come, and works on each that was admitted for a quarter of
its cost; the timer ticks between turns. Nothing here depends on the machine, nor on the time of day.
"""

import itertools
import random
from collections import Counter

import pytest

from optimizely_api.serving.admission import ALWAYS, BULK, CLASSES, ORDINARY, PEOPLE, Admission
from optimizely_api.serving.lag import TICK_SECONDS, LagMeter

SEED = 1
COST, REFUSAL = 0.002, 0.00005  # seconds of CPU, so that 500 requests a second are what can be served
CAPACITY = 1 / COST
STAGES = 4
IN_TIME_SECONDS = 2.0


class Loop:
    """A worker's event loop; requests are (when it comes, its class, its account)."""

    def __init__(self, limit_seconds=0.02):
        self.now = self.cpu = 0.0
        self.admission = Admission(limit_seconds, lambda: self.now, lambda: self.cpu)
        self.meter = LagMeter(self.admission.sample, lambda: self.now)
        self.outcomes = []  # (request, seconds until its response, or None where it was refused)
        self._under_way = []

    def work(self, seconds):
        self.now += seconds
        self.cpu += seconds

    def serve(self, requests, until):
        """Run until this moment."""
        requests, tick_at = sorted(requests)[::-1], self.now + TICK_SECONDS
        while self.now < until:
            began = self.now
            if self.now >= tick_at:
                self.meter.tick()
                tick_at = self.now + TICK_SECONDS
            under_way, self._under_way = self._under_way, []
            while requests and requests[-1][0] <= began:
                self._begin(requests.pop(), is_idle=not under_way)
            for request, stages_left in under_way:
                self.work(COST / STAGES)
                if stages_left:
                    self._under_way.append((request, stages_left - 1))
                else:
                    self.outcomes.append((request, self.now - request[0]))
            if self.now == began:
                self.now = min([tick_at, *([requests[-1][0]] if requests else [])])

    def _begin(self, request, is_idle):
        _, kind, account = request
        if (
            self.admission.is_watching
            and kind != ALWAYS
            and not self.admission.admits(kind, account, is_idle=is_idle)
        ):
            self.work(REFUSAL)
            self.outcomes.append((request, None))
        else:
            self._under_way.append((request, STAGES - 1))

    def served(self, begin, end, kind=None, account=None):
        """(served in time, came) of the requests that came in this period."""
        took = [
            seconds
            for (came, its_kind, its_account), seconds in self.outcomes
            if begin <= came < end and kind in (None, its_kind) and account in (None, its_account)
        ]
        return sum(seconds is not None and seconds < IN_TIME_SECONDS for seconds in took), len(took)


def arrivals(begin, end, rate, kind=ORDINARY, account=1):
    chance = random.Random(f"{SEED} {begin} {rate} {kind} {account}")
    requests = []
    while (begin := begin + chance.expovariate(rate)) < end:
        requests.append((begin, kind, account))
    return requests


def share(counts):
    served, came = counts
    return served / came


@pytest.mark.parametrize(("times", "least"), [(2, 0.88), (5, 0.8), (10, 0.68)])
def test_goodput_stays_near_the_limit_that_the_cost_of_refusals_sets(times, least):
    loop = Loop()
    loop.serve(arrivals(0, 14, times * CAPACITY), until=14)
    served, _ = loop.served(4, 12)
    possible = (1 - times * REFUSAL / COST) / (1 - REFUSAL / COST)
    assert least <= served / 8 / CAPACITY <= possible + 0.1


def test_nothing_is_refused_again_three_seconds_after_an_overload():
    loop = Loop()
    load = arrivals(0, 8, 10 * CAPACITY) + arrivals(8, 16, 0.5 * CAPACITY)
    loop.serve(load, until=17)
    served, came = loop.served(11, 16)
    assert served == came > 0
    assert not loop.admission.is_watching


def test_people_are_served_while_bulk_comes_at_twelve_times_the_capacity():
    loop = Loop()
    load = arrivals(0, 12, 0.3 * CAPACITY, PEOPLE) + arrivals(2, 12, 12 * CAPACITY, BULK, account=2)
    loop.serve(load, until=14)
    assert share(loop.served(0, 12, PEOPLE)) >= 0.999
    assert loop.served(4, 12, BULK)[0] > 0  # what is left of the capacity is bulk's


def test_people_are_served_while_ordinary_requests_come_at_twelve_times_the_capacity():
    loop = Loop()
    load = arrivals(0, 12, 0.3 * CAPACITY, PEOPLE) + arrivals(2, 12, 12 * CAPACITY, ORDINARY, account=2)
    loop.serve(load, until=14)
    assert share(loop.served(0, 12, PEOPLE)) >= 0.999


def test_an_account_that_asks_little_is_not_refused_for_one_that_floods():
    loop = Loop()
    load = arrivals(0, 12, 0.05 * CAPACITY, account=1) + arrivals(0, 12, 5 * CAPACITY, account=2)
    loop.serve(load, until=13)
    assert share(loop.served(4, 12, account=1)) >= 0.99
    assert loop.served(4, 12, account=2)[0] / 8 / CAPACITY >= 0.5


def test_accounts_that_ask_equally_much_are_not_refused_for_ever():
    """Of an hour's hash some have the worse part; in the next hours others."""
    loop, served = Loop(), Counter()
    for hour in range(6):
        loop.now = begin = max(loop.now, hour * 3600.0 + 1)
        load = [
            request
            for account in range(1, 21)
            for request in arrivals(begin, begin + 6, 0.1 * CAPACITY, account=account)
        ]
        loop.serve(load, until=begin + 7)
        for account in range(1, 21):
            served[account] += loop.served(begin, begin + 6, account=account)[0]
    assert min(served.values()) >= 0.2 * max(served.values())


def test_health_is_always_served():
    loop = Loop()
    load = arrivals(0, 6, 10 * CAPACITY, PEOPLE) + arrivals(0, 6, 10, ALWAYS, account=0)
    loop.serve(load, until=8)
    assert share(loop.served(0, 6, ALWAYS)) == 1.0


def test_a_single_stall_refuses_nobody():
    loop = Loop()
    loop.serve(arrivals(0, 1, 0.5 * CAPACITY), until=1)
    loop.work(0.5)
    loop.serve(arrivals(1, 4, 0.2 * CAPACITY), until=4)
    assert share(loop.served(0, 4)) == 1.0


def test_a_burst_that_is_soon_served_refuses_nobody():
    loop = Loop()
    loop.serve([(1.0, ORDINARY, number) for number in range(50)] + arrivals(1, 4, 0.2 * CAPACITY), until=5)
    assert share(loop.served(0, 4)) == 1.0


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_worker_that_uses_no_cpu_serves_whatever_the_machine_makes_its_loop_wait(is_idle):
    """A neighbour that takes the CPU makes the loop late; to refuse the few requests that come would help nobody."""
    times = itertools.count(0.0, 0.1)
    admission = Admission(0.02, lambda: next(times), lambda: 0.0)
    for _ in range(1000):
        admission.sample(0.1)
        assert admission.admits(BULK, 1, is_idle=is_idle)


def test_an_idle_worker_serves_in_the_middle_of_an_overload():
    loop = Loop()
    loop.serve(arrivals(0, 5, 5 * CAPACITY, BULK), until=5)
    assert not all(loop.admission.admits(BULK, 1) for _ in range(100))
    assert all(loop.admission.admits(BULK, 1, is_idle=True) for _ in range(100))


def test_no_wait_is_too_long_where_the_limit_is_0():
    loop = Loop(limit_seconds=0)
    loop.serve(arrivals(0, 3, 3 * CAPACITY), until=20)
    assert all(seconds is not None for _, seconds in loop.outcomes)


def test_the_log_says_once_a_second_how_many_were_refused(caplog):
    loop = Loop()
    loop.serve(arrivals(0, 5, 5 * CAPACITY, BULK), until=5)
    lines = [record.getMessage() for record in caplog.records]
    assert 2 <= len(lines) <= 5
    refused = sum(int(line.split()[-3]) for line in lines)
    assert 0 < refused <= loop.served(0, 5)[1]
    assert all(line.startswith("overloaded: work waits") for line in lines)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_comes_the_least_important_are_refused_first(seed):
    """Of two classes that both come all the time, the more important one never has the smaller part served."""
    chance = random.Random(seed)
    loop = Loop()
    load = [
        request
        for kind in range(PEOPLE, CLASSES)
        for request in arrivals(0, 10, chance.uniform(0.2, 6) * CAPACITY, kind, account=kind)
    ]
    loop.serve(load, until=12)
    shares = [share(loop.served(3, 10, kind)) for kind in range(PEOPLE, CLASSES)]
    assert shares == sorted(shares, reverse=True), f"seed {seed}"
