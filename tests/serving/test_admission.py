"""Whom an overloaded worker serves: an event loop on virtual time, loaded with more than it can serve.

The model: a turn of the loop reads all requests that have come, and works on each that has begun for a quarter of
its cost; the timer ticks between turns. Nothing here depends on the machine, nor on the time of day.
"""

import itertools
import math
import random
import sys

import pytest

from optimizely_api.serving.admission import (
    BEGIN,
    FEWEST,
    FEWEST_WAITING,
    MANY_UNDER_WAY,
    REFUSE,
    WAIT,
    Admission,
)
from optimizely_api.serving.lag import TICK_SECONDS, LagMeter
from optimizely_api.serving.line import ALWAYS, BULK, CLASSES, EVENTS, FEW, ORDINARY, PEOPLE

SEED = 1
COST, REFUSAL = 0.002, 0.00005  # seconds of CPU, so that 500 requests a second are what can be served
CAPACITY = 1 / COST
STAGES = 4
IN_TIME_SECONDS = 2.0
NEVER = math.nan


class Asked:
    """A request that has come to the loop."""

    def __init__(self, loop, request):
        self.loop, self.request = loop, request

    def begin(self):
        self.loop.admission.begin()
        self.loop.under_way.append((self.request, STAGES))

    def refuse(self):
        self.loop.work(REFUSAL)
        self.loop.outcomes.append((self.request, None))


class Loop:
    """A worker's event loop; requests are (when it comes, its class, its account).

    `neighbours` are programs on the same CPU that take their equal part of the time, `slice_seconds` each at a time,
    whenever the loop works or wakes up. How busy it is, is told every `busy_after` seconds, and not at all with NaN.
    """

    def __init__(self, limit_seconds=0.5, neighbours=0, slice_seconds=0.003, busy_after=1e-9, **options):
        self.now = self.busy = 0.0
        self.admission = Admission(
            limit_seconds, lambda: self.now, lambda: self.busy // busy_after * busy_after, **options
        )
        self.meter = LagMeter(self.admission.sample, lambda: self.now)
        self.outcomes = []  # (request, seconds until its response, or None where it was refused)
        self.under_way = []
        self._stolen_seconds, self._slice_seconds, self._ran = neighbours * slice_seconds, slice_seconds, 0.0

    def work(self, seconds):
        self._ran += seconds
        while self._stolen_seconds and self._ran >= self._slice_seconds:
            self._ran -= self._slice_seconds
            self._pass(self._stolen_seconds)
        self._pass(seconds)

    def _pass(self, seconds):
        self.now += seconds
        self.busy += seconds

    def serve(self, requests, until):
        """Run until this moment."""
        requests, tick_at = sorted(requests)[::-1], self.now + TICK_SECONDS
        while self.now < until:
            began = self.now
            if self.now >= tick_at:
                self.meter.tick()
                tick_at = self.now + TICK_SECONDS
            under_way, self.under_way = self.under_way, []
            while requests and requests[-1][0] <= began:
                self._ask(requests.pop())
            for request, stages_left in under_way:
                self.work(COST / STAGES)
                if stages_left > 1:
                    self.under_way.append((request, stages_left - 1))
                else:
                    self.outcomes.append((request, self.now - request[0]))
                    self.admission.end()
            if self.now == began:
                self.now = min([tick_at, *([requests[-1][0]] if requests else [])])
                if self._stolen_seconds:
                    self._pass(self._stolen_seconds)  # it is ready, and waits for its neighbours

    def _ask(self, request):
        asked, (_, kind, account) = Asked(self, request), request
        decision = self.admission.ask(kind, account, asked) if self.admission.is_watching else BEGIN
        if decision == BEGIN:
            asked.begin()
        elif decision == REFUSE:
            asked.refuse()

    def served(self, begin, end, kind=None, account=None):
        """(served in time, came) of the requests that came in this period."""
        took = [
            seconds
            for (came, its_kind, its_account), seconds in self.outcomes
            if begin <= came < end and kind in (None, its_kind) and account in (None, its_account)
        ]
        return sum(seconds is not None and seconds < IN_TIME_SECONDS for seconds in took), len(took)

    def seconds(self, begin, end):
        """The seconds until each response to the requests that came in this period, the shortest first."""
        return sorted(
            seconds for (came, _, _), seconds in self.outcomes if seconds is not None and begin <= came < end
        )

    @property
    def refused(self):
        return sum(seconds is None for _, seconds in self.outcomes)


def arrivals(begin, end, rate, kind=ORDINARY, account=1):
    chance = random.Random(f"{SEED} {begin} {rate} {kind} {account}")
    requests = []
    while (begin := begin + chance.expovariate(rate)) < end:
        requests.append((begin, kind, account))
    return requests


def percentile(seconds, part):
    return seconds[int(part * len(seconds))]


def share(counts):
    served, came = counts
    return served / came


@pytest.mark.parametrize(("times", "least"), [(2, 0.95), (5, 0.87), (10, 0.74)])
def test_goodput_stays_near_the_limit_that_the_cost_of_refusals_sets(times, least):
    loop = Loop()
    loop.serve(arrivals(0, 14, times * CAPACITY), until=14)
    served, _ = loop.served(4, 12)
    possible = (1 - times * REFUSAL / COST) / (1 - REFUSAL / COST)
    assert least <= served / 8 / CAPACITY <= possible + 0.1


@pytest.mark.parametrize(("times", "seconds"), [(2, 0.1), (5, 0.09), (10, 0.1)])
def test_what_is_served_in_an_overload_is_served_soon(times, seconds):
    """In the order in which they came each would wait for all that are in the line: for 0.2 s and more.

    A worker that is busy gains nothing from more requests under way: each of them would only take longer.
    """
    loop = Loop(limit_seconds=1.0)
    loop.serve(arrivals(0, 12, times * CAPACITY), until=14)
    assert percentile(loop.seconds(3, 12), 0.99) <= seconds
    assert loop.served(3, 12)[0] / 9 / CAPACITY >= 0.75


@pytest.mark.parametrize("times", [5, 10])
def test_what_is_served_at_the_beginning_of_an_overload_is_served_soon_too(times):
    """Its requests are counted before the loop is late: by then it would have begun more than it can end soon."""
    loop = Loop(limit_seconds=1.0)
    loop.serve(arrivals(0, 3, 0.5 * CAPACITY) + arrivals(3, 6, times * CAPACITY), until=9)
    assert percentile(loop.seconds(3, 3.5), 0.99) <= 0.12
    assert percentile(loop.seconds(3, 5.8), 0.99) <= 0.12


def test_the_beginning_of_an_overload_is_not_spent_on_callers_that_have_given_up():
    loop = Loop(limit_seconds=1.0)
    loop.serve(arrivals(0, 4, 5 * CAPACITY), until=7)
    assert percentile(loop.seconds(0, 3), 0.95) <= 0.5


def test_a_second_after_its_beginning_an_overload_is_served_soon():
    """The line is no longer by then than what can be served in time, so that little of it is to be refused."""
    loop = Loop(limit_seconds=1.0)
    loop.serve(arrivals(0, 4, 10 * CAPACITY), until=7)
    assert percentile(loop.seconds(1, 3), 0.99) <= 0.25


def test_who_would_wait_too_long_in_any_case_is_refused_before_the_line_has_stood_for_long():
    loop = Loop(limit_seconds=1.0)
    loop.serve(arrivals(0, 2, 10 * CAPACITY), until=1.0)
    assert loop.refused > 0
    loop = Loop(limit_seconds=1.0)
    loop.serve(arrivals(0, 2, 2 * CAPACITY), until=1.0)
    assert loop.refused == 0


def test_a_second_after_its_beginning_an_overload_costs_no_more_than_its_refusals():
    loop = Loop(limit_seconds=1.0)
    loop.serve(arrivals(0, 4, 5 * CAPACITY), until=7)
    served, _ = loop.served(2, 3)
    assert served / CAPACITY >= 0.5


def test_nothing_is_refused_again_three_seconds_after_an_overload():
    loop = Loop()
    load = arrivals(0, 8, 10 * CAPACITY) + arrivals(8, 16, 0.5 * CAPACITY)
    loop.serve(load, until=17)
    served, came = loop.served(11, 16)
    assert served == came > 0
    assert not loop.admission.is_watching


def test_an_overload_long_ago_is_no_reason_to_refuse():
    loop = Loop(limit_seconds=5)
    loop.serve(arrivals(0, 12, 10 * CAPACITY, BULK), until=14)
    assert loop.refused > 0
    while loop.admission.is_watching:
        loop.serve([], until=loop.now + 0.1)
    loop.work(0.05)  # the next tick is late
    begin = loop.now
    loop.serve([(begin + 0.04, BULK, 1)] * 200, until=begin + 3)
    assert share(loop.served(begin, begin + 3)) == 1.0


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


def test_health_is_always_served():
    loop = Loop()
    load = arrivals(0, 6, 10 * CAPACITY, PEOPLE) + arrivals(0, 6, 10, ALWAYS, account=0)
    loop.serve(load, until=8)
    assert share(loop.served(0, 6, ALWAYS)) == 1.0


def test_batches_of_events_are_refused_last():
    loop = Loop()
    load = arrivals(0, 10, 0.6 * CAPACITY, EVENTS, account=0) + arrivals(0, 10, 0.6 * CAPACITY, PEOPLE)
    loop.serve(load, until=14)
    assert share(loop.served(0, 10, EVENTS)) == 1.0
    assert 0.5 < share(loop.served(2, 10, PEOPLE)) < 0.8


def test_a_flood_of_events_leaves_a_quarter_for_others():
    loop = Loop()
    load = arrivals(0, 6, 2 * CAPACITY, EVENTS, account=0) + arrivals(0, 6, 0.15 * CAPACITY, PEOPLE)
    loop.serve(load, until=10)
    assert share(loop.served(0, 6, PEOPLE)) >= 0.99


@pytest.mark.parametrize("neighbours", [1, 3, 10])
@pytest.mark.parametrize("slice_seconds", [0.003, 0.03])
def test_a_machine_that_is_busy_with_other_programs_refuses_nobody(neighbours, slice_seconds):
    """The loop is late all the time, though it could serve more than comes."""
    loop = Loop(neighbours=neighbours, slice_seconds=slice_seconds)
    loop.serve(arrivals(0, 6, 0.6 * CAPACITY / (neighbours + 1)), until=8)
    assert loop.refused == 0


def test_many_requests_that_wait_for_a_slow_service_are_no_overload():
    loop = Loop()
    loop.serve([(0.0, ORDINARY, 1)] * 20, until=0.05)
    loop.admission.under_way += 500  # they wait for a service, and the loop for them
    loop.serve(arrivals(0.1, 6, 0.5 * CAPACITY), until=8)
    assert loop.refused == 0
    assert share(loop.served(0.1, 6)) == 1.0


@pytest.mark.parametrize("busy_after", [1e-9, NEVER])
def test_floods_of_requests_that_wait_for_a_slow_service_begin_within_a_tenth_of_a_second(busy_after):
    """Also where the system does not tell how busy a thread is: then it must do that the loop is on time."""
    loop = Loop(busy_after=busy_after)
    loop.admission.sample(0.0)
    for number in (600, 1000):
        for _ in range(number):
            loop._ask((loop.now, ORDINARY, 1))
        assert loop.admission.under_way < number
        for _ in range(10):
            loop.now += TICK_SECONDS
            loop.admission.sample(0.0)
        assert loop.admission.under_way == number
        for _ in range(20):
            loop.now += TICK_SECONDS
            loop.admission.sample(0.0)
        loop.admission.under_way = 0
    assert loop.refused == 0


def test_requests_are_watched_once_many_are_under_way_that_were_few_at_the_last_tick():
    admission = Loop().admission
    admission.sample(0.0)
    for _ in range(MANY_UNDER_WAY):
        admission.begin()
    assert not admission.is_watching
    admission.sample(0.0)
    for _ in range(MANY_UNDER_WAY):
        admission.begin()
    assert not admission.is_watching
    admission.begin()
    assert admission.is_watching


def test_a_single_stall_refuses_nobody():
    loop = Loop()
    loop.serve(arrivals(0, 1, 0.5 * CAPACITY), until=1)
    loop.work(0.5)
    loop.serve(arrivals(1, 4, 0.2 * CAPACITY), until=4)
    assert share(loop.served(0, 4)) == 1.0


def test_a_burst_that_is_soon_served_refuses_nobody():
    loop = Loop()
    load = [(1.0, ORDINARY, number) for number in range(200)] + arrivals(1, 4, 0.2 * CAPACITY)
    loop.serve(load, until=5)
    assert share(loop.served(0, 4)) == 1.0


@pytest.mark.parametrize("rate", [10, 50])
def test_what_a_quiet_worker_has_served_is_not_all_that_it_can(rate):
    loop = Loop(limit_seconds=1.0)
    loop.serve(arrivals(0, 1, rate), until=1)
    loop.work(0.04)
    burst = [(1.5, ORDINARY, 1)] * 200
    loop.serve(arrivals(1, 4, rate) + burst, until=5)
    assert loop.refused == 0


@pytest.mark.parametrize(("busy_after", "seconds"), [(0.004, 0.09), (NEVER, 0.4)])
def test_an_overload_is_known_where_the_system_tells_late_or_not_at_all_how_busy_the_thread_is(
    busy_after, seconds
):
    loop = Loop(limit_seconds=1.0, busy_after=busy_after)
    loop.serve(arrivals(0, 12, 5 * CAPACITY), until=14)
    assert percentile(loop.seconds(3, 12), 0.99) <= seconds
    assert loop.served(3, 12)[0] / 9 / CAPACITY >= 0.75


def test_those_that_wait_at_the_end_of_an_overload_are_served(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "COST", 0.02)
    loop = Loop(limit_seconds=1.0)
    loop.serve(arrivals(0, 6, 250), until=6.1)
    refused = loop.refused
    loop.serve([], until=9)
    assert loop.refused == refused


def test_of_those_that_wait_for_long_an_account_s_last_few_are_kept():
    loop = Loop(limit_seconds=1.0)
    loop.admission.sample(1.0)
    for _ in range(FEWEST):
        loop.admission.begin()
    waiting = []
    for _ in range(150):
        for _ in range(FEWEST_WAITING + 1):
            loop._ask((loop.now, ORDINARY, 1))
        loop._pass(TICK_SECONDS)
        loop.admission.sample(0.03)
        waiting.append(len(loop.admission._line))
    assert min(waiting) == FEW


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
    assert 0 < refused <= loop.refused
    assert all(line.startswith("overloaded: ") for line in lines)


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
    assert all(more >= less - 0.01 for more, less in itertools.pairwise(shares)), f"seed {seed}: {shares}"


def test_batches_of_events_wait_on_no_more_connections_than_they_may():
    loop = Loop(limit_seconds=60, most_events=2)
    loop.admission.sample(1.0)
    for _ in range(FEWEST):
        loop.admission.begin()

    def ask(kind):
        return loop.admission.ask(kind, 0, Asked(loop, (0.0, kind, 0)))

    assert [ask(EVENTS) for _ in range(4)] == [WAIT, WAIT, REFUSE, REFUSE]
    assert [ask(PEOPLE) for _ in range(4)] == [WAIT] * 4
    loop.admission.end()  # a batch begins
    assert [ask(EVENTS) for _ in range(2)] == [WAIT, REFUSE]


def test_a_long_line_may_be_gone_before_any_of_it_is_refused():
    loop = Loop()
    loop.admission.sample(1.0)
    for _ in range(FEWEST):
        loop.admission.begin()
    for _ in range(FEWEST_WAITING + 1):
        loop.admission.ask(ORDINARY, 0, Asked(loop, (0.0, ORDINARY, 0)))
    for _ in range(FEWEST + FEWEST_WAITING + 1):
        loop.admission.end()
    loop.admission.sample(1.0)
    assert loop.refused == 0
