"""What the calls to one service came to, and how it recovers."""

import math
from collections import Counter
from typing import Any

from optimizely_api.upstream.resilience.hedge import MOST_SAVED
from optimizely_api.upstream.resilience.order import FAILING
from optimizely_api.upstream.resilience.policies import Policies, PolicyOptions
from optimizely_api.upstream.resilience.refusals import NotSent
from optimizely_api.upstream.resilience.stale import ASK_AGAIN_SECONDS
from optimizely_api.upstream.resilience.throttle import GOOD_AGAIN, PROBE_SECONDS
from optimizely_api.upstream.transport.connection import ServiceResponse
from tests.simulate.services import Service
from tests.simulate.steps import STEP_SECONDS, Steps

FIRST_GOOD_SECONDS = 1.0
MOST_TIMES_CALLS = 1.10  # attempts when everything fails


class Books:
    """The calls of one worker to one service.

    After the last outage the service is well, and the worker knows that after a few good responses: it is `trusted`.
    """

    def __init__(self, service: Service, policies: Policies, options: PolicyOptions, steps: Steps) -> None:
        self.service, self.policies, self._options, self._steps = service, policies, options, steps
        self.calls = self.answered = 0
        self.events: Counter[str] = Counter()
        self.first_good: list[
            float
        ] = []  # seconds from the return to the first good response, or from the first call
        self.recoveries: list[float] = []  # seconds until it was trusted, where calls came often enough
        self._returned_at = -math.inf
        self._trusted_from = -math.inf
        self._good_since = GOOD_AGAIN
        self._called_at = self._longest_gap = 0.0  # of the calls since the return
        self._under_way: dict[int, float] = {}  # when each began, the oldest first
        self._before = (0, 0, 0)  # an outage in which everything fails: calls, attempts, and calls under way

    async def call(self, send: Any, sending: Any) -> ServiceResponse:
        """Send a call of the client."""
        begun = self._steps.now()
        self.calls += 1
        number = self.calls
        self._under_way[number] = begun
        try:
            response: ServiceResponse = await send(sending, self.policies)
        except Exception as exc:
            self._ended(begun)
            self._failed(begun, sending, exc)
            raise
        finally:
            del self._under_way[number]
            if begun < self._returned_at:
                self._trusted_from = max(self._trusted_from, self._steps.now() + 2 * ASK_AGAIN_SECONDS)
            for event in getattr(sending, "events", ()):
                self.events[event] += 1
        self._ended(begun)
        if response[0] in FAILING:
            self._failed(begun, sending, response[0])
        else:
            self.answered += 1
            if self._good_since < GOOD_AGAIN and begun >= self._returned_at and self.service.is_well:
                self._good_again(begun)
        return response

    def is_trusted(self, since: float) -> bool:
        """Whether all that began then must be as if there had been no outage, and there is none now.

        While a call from before the return is under way, who gives it up keeps others from asking for the same.
        """
        oldest = next(iter(self._under_way.values()), math.inf)
        return self.service.is_well and since > self._trusted_from and oldest >= self._returned_at

    def outage_begins(self) -> None:
        self._trusted_from = math.inf
        self._good_since = 0

    def returns(self) -> None:
        """The last outage is over."""
        self._returned_at = self._called_at = self._steps.now()
        self._good_since, self._longest_gap = 0, 0.0
        self._steps.note(self.service.name, "is well")

    def all_begins_to_fail(self) -> None:
        self._before = self.calls, self.service.attempts, self.policies.limit.in_flight

    def all_has_failed(self) -> None:
        """An outage is over in which everything failed: calls were hardly ever sent twice."""
        calls, attempts, under_way = self._before
        calls, attempts = self.calls - calls, self.service.attempts - attempts
        if attempts > MOST_TIMES_CALLS * calls + self._options.retry_tokens + under_way:
            self._broken(f"got {attempts} attempts for {calls} calls while everything failed")

    def check_numbers(self) -> None:
        """What may be so at no step."""
        budget, limit, hedges = self.policies.budget, self.policies.limit, self.policies.hedges
        if not 0 <= budget.tokens <= self._options.retry_tokens:
            self._broken(f"has a budget of {budget.tokens} tokens")
        if not 0 <= limit.in_flight <= self._options.most_calls:
            self._broken(f"has {limit.in_flight} calls under way")
        if hedges._saved < 0:
            self._broken(f"has {hedges._saved} hedges left")

    def check_shares(self) -> None:
        """Hedges and repetitions are a small part of the calls."""
        hedged, repeated = self.events["hedged"], self.events["repeated"]
        if hedged > self._options.hedge_share * self.answered + MOST_SAVED:
            self._broken(f"got {hedged} hedges for {self.answered} good calls")
        if hedged + repeated > self._options.retry_tokens + 0.1 * (self.answered + hedged) + 1:
            self._broken(f"got {hedged} hedges and {repeated} repetitions for {self.answered} good calls")

    def check_idle(self) -> None:
        limit = self.policies.limit
        if limit.in_flight or limit._waiting:
            self._broken(
                f"has {limit.in_flight} calls under way and {len(limit._waiting)} waiting, for nobody"
            )

    def _ended(self, begun: float) -> None:
        """A call has ended, and not because nobody waited for it any more."""
        if begun > self._called_at:
            self._longest_gap = max(self._longest_gap, begun - self._called_at)
            self._called_at = begun

    def _good_again(self, begun: float) -> None:
        now = self._steps.now()
        self._good_since += 1
        if self._good_since == 1:
            self.first_good.append(now - self._returned_at)
        if self._good_since < GOOD_AGAIN:
            return
        # Who asked in vain last keeps others from asking for a second; the next one may keep them for another.
        self._trusted_from = now + 2 * ASK_AGAIN_SECONDS
        after, gap = now - self._returned_at, self._longest_gap
        if gap < PROBE_SECONDS / 2:
            self.recoveries.append(after)
        if after > FIRST_GOOD_SECONDS + GOOD_AGAIN * (PROBE_SECONDS + gap):
            self._broken(f"was trusted after {after:.3f} s, with a call every {gap:.3f} s")

    def _failed(self, begun: float, sending: Any, how: object) -> None:
        """A call got no good response; one that begins a second after its service's return must get one."""
        self._steps.note(self.service.name, "fails a call:", repr(how))
        if self._good_since or not self.service.is_well:
            return
        is_late = begun > self._returned_at + FIRST_GOOD_SECONDS
        if is_late and (isinstance(how, NotSent) or sending.seconds_left() > STEP_SECONDS):
            self._broken(f"is well for {self._steps.now() - self._returned_at:.3f} s, and failed each call")

    def _broken(self, what: str) -> None:
        self._steps.broken(f"The {self.service.name} service {what}")
