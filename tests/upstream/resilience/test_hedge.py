"""Hedges: a call that takes longer than most is sent once more, rarely, and the first good response is taken."""

import asyncio
import time as wall

import pytest

from optimizely_api.upstream.caching.caching_client import CachingOptions
from optimizely_api.upstream.client import CallContext
from optimizely_api.upstream.errors import UpstreamTimeout
from optimizely_api.upstream.resilience.budget import Budget
from optimizely_api.upstream.resilience.hedge import Hedges
from optimizely_api.upstream.resilience.limit import Limit
from optimizely_api.upstream.resilience.policies import Policies, PolicyOptions
from optimizely_api.upstream.resilience.timing import LoopTiming
from tests.upstream.resilience.virtual_time import VirtualTime
from tests.upstream.scripted_service import CALL, CLOSE, OK, client_of, scripted

GOOD = {"status": "ok"}


class Service:
    """Calls at a service with scripted durations; a hedged call ends with the earlier attempt."""

    def __init__(self, time, duration, *, share=0.025, tokens=10.0, fewest=0):
        self.time, self._duration = time, duration
        self.limit = Limit(fewest, 1000, time)
        self.budget = Budget(tokens)
        self.hedges = Hedges(share, self.budget, self.limit, time)
        self.sent = 0
        self.durations = []

    def offer(self, seconds, rate):
        for _ in range(round(seconds * rate)):
            self.time.go_on(1 / rate)
            Call(self)
        self.time.go_on(10)

    def send(self, answered):
        self.sent += 1
        self.time.call_later(self._duration(), answered)


class Call:
    def __init__(self, service):
        self._service = service
        self._started = service.time.now()
        self._has_ended = False
        service.hedges.begin(self, self._started)
        service.send(self._end)

    def seconds_left(self):
        return self._started + 3.0 - self._service.time.now()

    def hedge(self):
        self._service.send(self._end)
        return True

    def _end(self):
        if self._has_ended:
            return
        self._has_ended = True
        service = self._service
        seconds = service.time.now() - self._started
        service.durations.append(seconds)
        service.hedges.end(self, seconds)
        service.budget.earn()


def percentile(durations, share):
    return sorted(durations)[int(len(durations) * share)]


@pytest.fixture
def time():
    return VirtualTime(seed=11)


def one_in_a_hundred_slow(time):
    return lambda: 1.0 if time.chance.random() < 0.01 else time.chance.uniform(0.002, 0.020)


def test_with_one_call_in_a_hundred_at_a_second_all_but_few_take_a_tenth_of_it(time):
    service = Service(time, one_in_a_hundred_slow(time))
    service.offer(5, 100)
    service.durations.clear()
    service.offer(100, 100)
    assert percentile(service.durations, 0.997) <= 0.1


def test_at_most_three_calls_in_a_hundred_are_sent_twice(time):
    service = Service(time, lambda: time.chance.uniform(0.001, 0.5))
    service.offer(100, 100)
    assert service.sent <= 1.03 * 10_000


def test_none_is_sent_twice_before_a_hundred_responses_are_known(time):
    service = Service(time, lambda: 2.0)
    service.offer(10, 9)
    assert service.sent == 90


@pytest.mark.parametrize("off", [{"share": 0.0}, {"tokens": 0.0}], ids=str)
def test_without_a_share_or_tokens_none_is_sent_twice(time, off):
    service = Service(time, one_in_a_hundred_slow(time), **off)
    service.offer(30, 100)
    assert service.sent == 3000


def test_none_is_sent_twice_while_the_limit_is_nearly_reached(time):
    service = Service(time, one_in_a_hundred_slow(time), fewest=1)
    service.limit.limit, service.limit.in_flight = 10, 8
    service.offer(30, 100)
    assert service.sent == 3000


def test_a_service_that_takes_less_than_fifty_milliseconds_gets_no_second_attempt(time):
    service = Service(time, lambda: 0.045 if time.chance.random() < 0.01 else 0.0005)
    service.offer(60, 100)
    assert service.sent == 6000


def test_one_that_always_takes_about_as_long_gets_none_either(time):
    service = Service(time, lambda: time.chance.uniform(1.5, 2.5))
    service.offer(60, 100)
    assert service.sent == 6000


def test_after_a_moment_in_which_the_event_loop_stood_still_none_is_sent_twice(time):
    service = Service(time, lambda: 0.2 if standing_still else 0.002)
    standing_still = False
    service.offer(5, 100)
    standing_still = True
    Call(service)
    time.seconds += 0.19  # the response is not read yet
    time.go_on(0.02)
    assert service.sent == 501


def test_where_many_take_long_the_timer_is_as_quick_as_ever(time):
    service = Service(time, lambda: 0.002)
    service.offer(5, 100)
    looked_at = []
    for _ in range(1000):
        service.hedges.begin(Slow(looked_at), time.now())
    time.go_on(1)
    assert len(looked_at) <= 5


class Slow:
    """A call without a response, and with much time."""

    def __init__(self, looked_at):
        self._looked_at = looked_at

    def seconds_left(self):
        return 60.0

    def hedge(self):
        self._looked_at.append(self)
        return True


# With the client that callers use


@pytest.fixture
async def service():
    async with scripted() as service:
        yield service


@pytest.fixture
async def client(service):
    """A client that hedges after fifty milliseconds."""
    async with client_of(service.url, caching=CachingOptions(definition_bytes=0)) as client:
        options = PolicyOptions(hedge_share=0.025)
        policies = client.policies["results"] = Policies(options, LoopTiming(), 2.0)
        hedges = policies.hedges
        for _ in range(1000):
            hedges.end(policies, 0.001)
        hedges.refresh(wall.monotonic())
        yield client


@pytest.fixture
def context():
    return CallContext("8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", wall.monotonic() + 5)


async def test_the_second_attempt_answers_all_who_wait_and_the_first_one_ends(client, service, context):
    service.script += [[], [OK]]
    values = await asyncio.gather(*(client.fetch(CALL, context) for _ in range(3)))
    assert values == [GOOD] * 3
    assert context.events == {"results": ["hedged"] * 3}
    assert len(service.heads) == 2
    await service.until(lambda: service.closed == 1)


async def test_the_first_attempt_may_still_be_first(client, service, context):
    asking = asyncio.create_task(client.fetch(CALL, context))
    await service.until(lambda: len(service.heads) == 2)
    service.writers[0].write(OK)
    assert await asking == GOOD
    await service.until(lambda: service.closed == 1)


async def test_a_failed_first_attempt_waits_for_the_second(client, service, context):
    asking = asyncio.create_task(client.fetch(CALL, context))
    await service.until(lambda: len(service.heads) == 2)
    service.writers[0].close()
    await asyncio.sleep(0.01)
    service.writers[1].write(OK)
    assert await asking == GOOD
    assert len(service.heads) == 2


@pytest.mark.parametrize("status", [500, 503, 504])
async def test_so_does_one_that_gets_a_5xx(client, service, context, status):
    asking = asyncio.create_task(client.fetch(CALL, context))
    await service.until(lambda: len(service.heads) == 2)
    service.writers[0].write(b"HTTP/1.1 %d Bad\r\nContent-Length: 0\r\n\r\n" % status)
    await service.until(lambda: any(client.connector._conns.values()))  # it has come
    service.writers[1].write(OK)
    assert await asking == GOOD
    assert len(service.heads) == 2


async def test_a_504_at_the_time_that_the_first_was_told_is_no_failure_for_who_joined_and_waits_longer(
    client, service
):
    began, uuid = wall.monotonic(), "8f14e45f-ceea-467f-a0e6-0c1f7d6a0001"
    hasty = asyncio.create_task(client.fetch(CALL, CallContext(uuid, began + 0.5)))
    await service.until(lambda: len(service.heads) == 1)
    patient = asyncio.create_task(client.fetch(CALL, CallContext(uuid, began + 5)))
    await service.until(lambda: len(service.heads) == 2)
    await service.until(lambda: wall.monotonic() > began + 0.5)
    service.writers[0].write(b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n")
    await service.until(lambda: any(client.connector._conns.values()))  # it has come
    service.writers[1].write(OK)
    assert await patient == GOOD
    assert not client.policies["results"].throttle.has_failures
    with pytest.raises(UpstreamTimeout):
        await hasty


async def test_a_failed_second_attempt_changes_nothing(client, service, context):
    service.script += [[], [CLOSE]]
    asking = asyncio.create_task(client.fetch(CALL, context))
    await service.until(lambda: service.closed == 1)
    service.writers[0].write(OK)
    assert await asking == GOOD


async def test_who_leaves_ends_both(client, service, context):
    asking = asyncio.create_task(client.fetch(CALL, context))
    await service.until(lambda: len(service.heads) == 2)
    asking.cancel()
    await service.until(lambda: service.closed == 2)
    assert client.policies["results"].limit.in_flight == 0
