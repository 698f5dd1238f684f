"""The policies of the calls of one worker to one service, put together from their options."""

from dataclasses import dataclass

from optimizely_api.upstream.resilience.budget import Budget
from optimizely_api.upstream.resilience.timing import Timing


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """The options of the policies, for every service alike.

    `retry_tokens`: how many calls may be repeated although nothing succeeds; 0 repeats none.
    """

    retry_tokens: float = 10.0


class Policies:
    """What a worker knows of one service, and what follows from it for the next call."""

    __slots__ = ("budget", "timing")

    def __init__(self, options: PolicyOptions, timing: Timing) -> None:
        self.timing = timing
        self.budget = Budget(options.retry_tokens)
