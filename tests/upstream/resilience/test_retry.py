"""The retry policy: what is sent once more, when, and how often when everything fails."""

import errno
import math

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from optimizely_api.upstream.resilience.budget import Budget
from optimizely_api.upstream.resilience.order import send
from optimizely_api.upstream.resilience.policies import Policies, PolicyOptions
from optimizely_api.upstream.transport.connection import ClosedBeforeResponse, IdleConnectionClosed
from tests.upstream.resilience.virtual_time import VirtualTime, start

GOOD = (200, b"{}", {})
BUSY = (503, b"{}", {"Retry-After": "1"})
KEY = ConnectionKey("localhost", 80, False, True, None, None, None)
REFUSED = aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "refused"))
CLOSED = ClosedBeforeResponse()
IDLE_CLOSED = IdleConnectionClosed()


class ScriptedSending:
    """A call whose attempts have scripted outcomes; notes when each attempt is made."""

    def __init__(self, time, outcomes, *, may_repeat=True, may_wait=True, seconds=3.0):
        self._time, self._outcomes, self.may_repeat = time, list(outcomes), may_repeat
        self.may_wait = may_wait
        self._ends = time.now() + seconds
        self.seconds_told, self.account, self.second, self.counts_since = seconds, 1, None, math.inf
        self.attempts, self.events = [], []
        self.new_connections = []

    def note(self, event):
        self.events.append(event)

    def seconds_left(self):
        return self._ends - self._time.now()

    async def attempt(self, *, on_new_connection=False):
        self.attempts.append(self._time.now())
        self.new_connections.append(on_new_connection)
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def time():
    return VirtualTime()


@pytest.fixture
def policies(time):
    return Policies(PolicyOptions(), time, 3.0)


def outcome_of(time, sending, policies):
    ended = start(send(sending, policies))
    time.go_on(10)
    return ended


@pytest.mark.parametrize("first", [REFUSED, CLOSED], ids=["refused", "closed before a byte"])
def test_a_safe_call_is_sent_once_more_after_10_to_50_ms(time, policies, first):
    pauses = set()
    for _ in range(20):
        policies.budget.tokens = 10
        sending = ScriptedSending(time, [first, GOOD])
        assert outcome_of(time, sending, policies).result() == GOOD
        pauses.add(sending.attempts[1] - sending.attempts[0])
    assert sending.events == ["repeated"]
    assert 0.010 <= min(pauses) < max(pauses) <= 0.0501
    assert len(pauses) == 20


def test_an_idle_connection_that_closed_is_replaced_at_once(time, policies):
    sending = ScriptedSending(time, [IDLE_CLOSED, GOOD])
    assert outcome_of(time, sending, policies).result() == GOOD
    assert sending.attempts[0] == sending.attempts[1]
    assert sending.new_connections == [False, True]


def test_a_503_is_sent_again_when_its_retry_after_has_passed(time, policies):
    sending = ScriptedSending(time, [BUSY, GOOD])
    assert outcome_of(time, sending, policies).result() == GOOD
    assert 1.010 <= sending.attempts[1] - sending.attempts[0] <= 1.0501


@pytest.mark.parametrize("status", [503, 504])
def test_after_a_response_the_connections_are_as_good_as_before(time, policies, status):
    sending = ScriptedSending(time, [(status, b"{}", {"Retry-After": "0"}), GOOD])
    assert outcome_of(time, sending, policies).result() == GOOD
    assert sending.new_connections == [False, False]


def test_a_504_is_sent_again_at_once_for_a_request_that_joined_later_and_waits_longer(time, policies):
    sending = ScriptedSending(time, [(504, b"{}", {}), GOOD], seconds=1.0)
    assert outcome_of(time, sending, policies).result() == GOOD


@pytest.mark.parametrize(
    ("outcome", "options"),
    [
        (BUSY, {"seconds": 1.0}),
        (REFUSED, {"seconds": 0.005}),
        ((503, b"", {}), {}),
        ((503, b"", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), {}),
        ((503, b"", {"Retry-After": "9" * 400}), {}),
        ((504, b"", {}), {"seconds": 0.002}),
        ((500, b"", {"Retry-After": "1"}), {}),
        (TimeoutError(), {}),
        (aiohttp.ServerDisconnectedError(), {}),
        (aiohttp.ClientPayloadError(), {}),
        (CLOSED, {"may_repeat": False}),
        (IDLE_CLOSED, {"may_repeat": False}),
        (BUSY, {"may_repeat": False}),
        (BUSY, {"may_wait": False}),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.EMFILE, "too many files")), {}),
        (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "not known")), {}),
    ],
    ids=str,
)
def test_everything_else_is_not_repeated(time, policies, outcome, options):
    sending = ScriptedSending(time, [outcome, GOOD], **options)
    ended = outcome_of(time, sending, policies)
    assert len(sending.attempts) == 1
    if isinstance(outcome, Exception):
        with pytest.raises(type(outcome)):
            ended.result()
    else:
        assert ended.result() == outcome
    assert policies.budget.tokens == 10


def test_a_refused_connection_carried_nothing_so_a_write_follows_too(time, policies):
    sending = ScriptedSending(time, [REFUSED, GOOD], may_repeat=False)
    assert outcome_of(time, sending, policies).result() == GOOD


def test_nothing_is_sent_three_times(time, policies):
    sending = ScriptedSending(time, [REFUSED, REFUSED, GOOD])
    with pytest.raises(aiohttp.ClientConnectorError):
        outcome_of(time, sending, policies).result()
    assert len(sending.attempts) == 2


def test_when_everything_fails_at_most_ten_calls_are_repeated(time, policies):
    sent = 0
    for _ in range(1000):
        sending = ScriptedSending(time, [CLOSED, CLOSED])
        outcome_of(time, sending, policies)
        sent += len(sending.attempts)
    assert sent == 1010  # 1.01 of the calls


def test_ten_good_responses_pay_for_one_repetition():
    budget = Budget(10)
    while budget.spend():
        pass
    for _ in range(9):
        budget.earn()
    assert not budget.spend()
    budget.earn()
    budget.earn()
    assert budget.spend()
    assert not budget.spend()


def test_the_bucket_holds_no_more_than_its_size():
    budget = Budget(10)
    for _ in range(1000):
        budget.earn()
    assert budget.tokens == 10


def test_without_tokens_nothing_is_ever_repeated(time):
    policies = Policies(PolicyOptions(retry_tokens=0), time, 3.0)
    sending = ScriptedSending(time, [IDLE_CLOSED, GOOD])
    with pytest.raises(IdleConnectionClosed):
        outcome_of(time, sending, policies).result()
