"""The options of a comparison, with defaults that take about 20 minutes."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from optimizely_api.comparison.rig.modes import USUAL

RESTARTS = ("rolling", "hup")
SCENARIOS = ("one", "cpu", "search", "steady", "ramp", "slow", "restart", "overload", "trace")
QUICK_SCENARIOS = ("one", "ramp")


class CannotCompare(Exception):
    """The comparison cannot run; the message tells the user why."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of one comparison. The report repeats them, so that the comparison can be repeated.

    Rates are in requests per second. A `rolling` restart ends gunicorn's old workers when the new ones can serve; with
    `hup` gunicorn ends blocking ones at once. With `fan_out` the load requests the results of a campaign with that many
    experiments; with 0, one experiment's results, which take three concurrent upstream calls. `share` is of a mode's
    own highest rate, `overloads` are multiples of it; `rate` is the most that all modes get as one equal rate.

    A rate that a mode cannot carry fails only if `trial_seconds` are enough for a queue as long as the objective: with
    the defaults, a rate that is a sixth too high.
    """

    output: Path = Path("comparison")
    modes: tuple[str, ...] = USUAL
    scenarios: tuple[str, ...] = SCENARIOS
    upstreams: str = "stub"
    balancer: bool = True
    quick: bool = False
    repeat: int = 3
    workers: int = min(4, os.cpu_count() or 2)
    threads: int = 32
    delay_ms: float = 50.0
    tail_share: float = 0.0
    tail_factor: float = 10.0
    fail_share: float = 0.0
    fan_out: int = 0
    timeout_seconds: float = 3.0
    objective_ms: float = 1000.0
    arrivals: str = "constant"
    seed: int = 1
    warm_up_seconds: float = 0.5
    trial_seconds: float = 6.0
    search_step: float = 1.12
    ramp_from: float = 2.0
    ramp_to: float = 2000.0
    ramp_seconds: int = 12
    rate: float = 50.0
    share: float = 0.6
    equal_seconds: float = 7.0
    share_seconds: float = 4.0
    slow_seconds: int = 4
    slow_delay_ms: float = 2000.0
    calm_seconds: int = 3
    restart_seconds: int = 12
    restart: str = "rolling"
    overloads: tuple[float, ...] = (1.5, 3.0)
    overload_seconds: int = 15
    recovery_seconds: int = 5
    one_delay_ms: float = 500.0
    one_requests: int = 4
    cpu_ms: float = 20.0
    cpu_seconds: float = 2.0
    blocking_ms: float = 500.0
    blocking_rate: float = 1.0

    def shortened(self) -> "Options":
        """A smoke test in less than 60 seconds: every mode serves a growing load, and there are no ratios."""
        return replace(
            self,
            quick=True,
            repeat=1,
            workers=1,  # a start takes most of a smoke test's time
            scenarios=tuple(name for name in self.scenarios if name in QUICK_SCENARIOS),
            warm_up_seconds=min(self.warm_up_seconds, 0.5),
            ramp_to=min(self.ramp_to, 500.0),
            ramp_seconds=min(self.ramp_seconds, 3),
            slow_seconds=min(self.slow_seconds, 2),
            calm_seconds=min(self.calm_seconds, 1),
            one_delay_ms=min(self.one_delay_ms, 200.0),
            one_requests=min(self.one_requests, 3),
            timeout_seconds=min(self.timeout_seconds, 1.5),
        )
