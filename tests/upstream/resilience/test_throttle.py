"""The throttle: few calls reach a service that fails, all reach one that works, and nothing has to be reset."""

import math

import pytest

from optimizely_api.upstream.resilience.order import send
from optimizely_api.upstream.resilience.policies import Policies, PolicyOptions
from optimizely_api.upstream.resilience.refusals import AddressesRest, Throttled
from optimizely_api.upstream.resilience.throttle import Throttle
from tests.upstream.resilience.virtual_time import VirtualFuture, VirtualTime, start

WINDOW = 10.0


@pytest.fixture
def time():
    return VirtualTime(seed=7)


@pytest.fixture
def throttle(time):
    return Throttle(WINDOW, time)


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


# What a service does, and what callers make of it


class Service:
    """Answers after `seconds` with `status`, or says nothing; callers give up when their time is over."""

    def __init__(self, time, *, time_limit=3.0, request_seconds=10.0):
        self.time, self.time_limit = time, time_limit
        options = PolicyOptions(throttle_seconds=WINDOW, hedge_share=0)
        self.policies = Policies(options, time, time_limit, request_seconds)
        self.seconds, self.status, self.is_silent = 0.005, 200, False
        self.rests = False  # all its addresses
        self.sent = []
        self.waits = []  # how long each caller waited, and what for

    def offer(self, seconds, rate, patience=None):
        for _ in range(round(seconds * rate)):
            self.time.go_on(1 / rate)
            self.call(patience)

    def call(self, patience=None):
        began = self.time.now()

        def note(ended):
            error = ended.exception()
            outcome = type(error) if error else ended.result()[0]
            self.waits.append((self.time.now() - began, outcome))

        call = Call(self, patience or self.time_limit)
        start(send(call, self.policies)).add_done_callback(note)

    def outcomes(self):
        """What became of the calls since the last time."""
        waits, self.waits = self.waits, []
        return [outcome for _, outcome in waits]


class Call:
    may_repeat = may_wait = False
    second, account, seconds_told, counts_since = None, 1, 0.0, math.inf

    def __init__(self, service, patience):
        self._service, self._ends = service, service.time.now() + patience

    def seconds_left(self):
        return self._ends - self._service.time.now()

    def note(self, event):
        pass

    def attempt(self, *, on_new_connection=False):
        service, ended = self._service, VirtualFuture()
        if service.rests:
            ended.set_exception(AddressesRest())
            return ended
        service.sent.append(service.time.now())
        self.seconds_told = self.seconds_left()
        if not service.is_silent and service.seconds < self.seconds_told:
            response = (service.status, b"", {})
            service.time.call_later(service.seconds, lambda: ended.set_result(response))
        else:
            service.time.call_later(self.seconds_told, lambda: ended.set_exception(TimeoutError()))
        return ended


@pytest.fixture
def service(time):
    return Service(time)


@pytest.mark.parametrize("seconds", [0.005, 1.5, 2.0, 2.9])
def test_a_service_that_answers_is_never_throttled_however_slow_it_is(time, service, seconds):
    service.seconds = seconds
    for _ in range(1000):
        service.call()
    service.offer(10, 100)
    time.go_on(3)
    assert service.outcomes() == [200] * 2000


def test_callers_of_a_silent_service_wait_for_its_time_limit_once_and_then_get_a_503_at_once(time, service):
    service.offer(10, 100)
    service.outcomes()
    service.is_silent = True
    service.offer(3.2, 100)
    service.waits.clear()
    service.sent.clear()
    service.offer(60, 100)
    refused = [wait for wait, outcome in service.waits if outcome is Throttled]
    assert set(refused) == {0.0}
    assert len(refused) > 0.95 * 6000
    assert len(service.sent) < 60 * (2.1 + 100 * 0.05)


def test_a_call_that_finds_all_addresses_resting_is_no_probe(time, service):
    service.status = 503
    service.offer(10, 100)
    time.go_on(1)
    service.outcomes()
    service.rests = True
    service.call()
    service.rests, service.status = False, 200
    service.call()
    time.go_on(1)
    assert service.outcomes() == [AddressesRest, 200]


def test_calls_that_take_too_long_while_others_are_answered_are_no_silence(time, service):
    service.offer(10, 100)
    service.is_silent = True
    for _ in range(20):
        service.call()
    service.is_silent = False
    service.offer(20, 100)
    time.go_on(1)
    assert service.outcomes().count(200) == 3000


@pytest.mark.parametrize("outage_seconds", [10, 60])
def test_its_first_good_answer_comes_within_a_second_of_its_return(time, service, outage_seconds):
    service.is_silent = True
    service.offer(outage_seconds, 100)
    service.is_silent = False
    service.sent.clear()
    returned = time.now()
    service.offer(5, 100)
    time.go_on(3)
    assert service.sent[0] - returned <= 0.5
    service.outcomes()
    service.offer(10, 100)
    time.go_on(3)
    assert service.outcomes() == [200] * 1000


def test_two_attempts_in_silence_are_as_good_as_ten(time, service):
    service.is_silent = True
    service.call()
    time.go_on(3)
    assert service.policies.throttle.refused_share == 0
    service.call()
    time.go_on(3)
    assert service.policies.throttle.refused_share > 0.9
    service.is_silent = False
    service.call()
    time.go_on(3)
    assert service.policies.throttle.refused_share == 0


def test_two_that_take_too_long_while_another_is_answered_are_not(time, service):
    service.is_silent = True
    service.call()
    service.call()
    service.is_silent = False
    service.call()
    time.go_on(3)
    assert service.policies.throttle.refused_share == 0


def test_the_silence_of_a_service_that_has_more_time_than_requests_have_is_noticed(time):
    service = Service(time, time_limit=3.0, request_seconds=2.0)
    service.is_silent = True
    service.offer(5, 100, patience=1.9)  # a tenth of a second is spent before
    assert service.policies.throttle.refused_share > 0.9


def test_attempts_from_before_its_return_that_end_after_it_refuse_nothing(time, service):
    service.offer(10, 100)
    service.is_silent = True
    service.offer(3.3, 100)  # the first of them have ended, the last end in three seconds
    service.is_silent = False
    service.offer(2, 100)
    service.waits.clear()
    refused = service.policies.throttle.refused_share
    service.offer(2, 100)
    assert (refused, service.outcomes().count(Throttled)) == (0, 0)


def test_what_fails_after_its_return_counts_again(time, service):
    service.offer(10, 100)
    service.is_silent = True
    service.offer(3.3, 100)
    service.is_silent = False
    service.offer(2, 100)
    service.is_silent = True
    service.offer(3.3, 100)
    assert service.policies.throttle.refused_share > 0.5


def test_callers_who_wait_for_less_than_the_service_takes_do_not_make_it_a_failing_one(time, service):
    service.seconds = 2.0
    service.offer(20, 100, patience=1.0)
    time.go_on(3)
    assert set(service.outcomes()) == {TimeoutError}
    service.call(patience=3.0)
    time.go_on(3)
    assert service.outcomes() == [200]


@pytest.mark.parametrize(
    ("status", "seconds", "patience", "fails"),
    [
        (503, 0.005, 3.0, True),
        (502, 0.005, 3.0, True),
        (504, 2.997, 3.0, True),
        (504, 1.0, 3.0, True),
        (504, 0.997, 1.0, False),
        (500, 0.005, 3.0, False),
        (404, 0.005, 3.0, False),
        (202, 2.9, 3.0, False),
    ],
    ids=[
        "503",
        "502, of a proxy",
        "a 504 at the end of the time limit",
        "one before, as of a proxy",
        "one at the end of the caller's time",
        "500",
        "404",
        "202",
    ],
)
def test_a_502_or_503_counts_as_a_failure_and_so_does_a_504_for_those_who_wait_for_the_time_limit(
    time, service, status, seconds, patience, fails
):
    service.status, service.seconds = status, seconds
    service.offer(4, 100, patience=patience)
    time.go_on(3)
    assert (service.policies.throttle.refused_share > 0.9) == fails
