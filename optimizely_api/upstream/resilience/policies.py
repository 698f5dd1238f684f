"""The policies of the calls of one worker to one service, put together from their options."""

import math
from dataclasses import dataclass

from optimizely_api.upstream.resilience.budget import Budget
from optimizely_api.upstream.resilience.hedge import Hedged, Hedges
from optimizely_api.upstream.resilience.limit import Limit
from optimizely_api.upstream.resilience.throttle import Throttle
from optimizely_api.upstream.resilience.timing import Timing

SHARE_OF_REQUEST = 0.9  # that a request has left for a call, whatever came before it


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """The options of the policies, for every service alike.

    `retry_tokens`: how many calls may be repeated although nothing succeeds; 0 repeats none.
    `throttle_seconds`: the time over which the throttle counts failures; with 0 nothing is refused, no address rests.
    `fewest_calls`: to how many calls under way a worker restricts itself when the service slows down; 0 for no limit.
    `most_calls`: the most under way when it does not.
    `hedge_share`: the part of the calls that may be sent a second time beside their first attempt; 0 for none.
    """

    retry_tokens: float = 10.0
    throttle_seconds: float = 10.0
    fewest_calls: int = 0
    most_calls: int = 10_000
    hedge_share: float = 0.025


class Policies:
    """What a worker knows of one service, and what follows from it for the next call.

    `time_limit_seconds` is the service's, or less where requests have less: the longest that anybody is sure to wait.
    """

    __slots__ = ("budget", "hedges", "limit", "throttle", "time_limit_seconds", "timing")

    def __init__(
        self,
        options: PolicyOptions,
        timing: Timing,
        time_limit_seconds: float,
        request_seconds: float = math.inf,
    ) -> None:
        self.timing = timing
        self.time_limit_seconds = min(time_limit_seconds, SHARE_OF_REQUEST * request_seconds)
        self.budget = Budget(options.retry_tokens)
        self.throttle = Throttle(options.throttle_seconds, timing)
        self.limit = Limit(options.fewest_calls, options.most_calls, timing)
        self.hedges = Hedges(options.hedge_share, self.budget, self.limit, timing)

    def good(self, call: Hedged, now: float, seconds: float | None) -> None:
        """An attempt has ended with a response of a service that works; `seconds` if they tell how busy it is.

        Fast path: most calls end here.
        """
        self.throttle.succeeded(now)
        budget = self.budget
        if budget.tokens < budget.most_tokens:
            budget.earn()
        self.end(call, seconds)

    def end(self, call: Hedged, seconds: float | None) -> None:
        """An attempt has ended, after so many seconds if they tell how busy the service is."""
        if call.second is not None:
            call.second.cancel()
            call.second = None
        if self.hedges.is_on:
            self.hedges.end(call, seconds)
        if self.limit.is_on:
            self.limit.leave(seconds)
