"""The options of a comparison, with defaults that take a few minutes."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from optimizely_api.comparison.rig.modes import MODES

RESTARTS = ("rolling", "hup")
SCENARIOS = ("search", "ramp", "slow", "restart", "one", "cpu")


class CannotCompare(Exception):
    """The comparison cannot run; the message tells the user why."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of one comparison. The report repeats them, so that the comparison can be repeated.

    Rates are in requests per second. A `rolling` restart ends gunicorn's old workers when the new ones can serve; with
    `hup` gunicorn ends them at once. With `fan_out` the load requests the results of a campaign with that many
    experiments; with 0, one experiment's results, which take three concurrent upstream calls.
    """

    output: Path = Path("comparison")
    modes: tuple[str, ...] = tuple(MODES)
    scenarios: tuple[str, ...] = SCENARIOS
    upstreams: str = "stub"
    balancer: bool = True
    quick: bool = False
    workers: int = min(4, os.cpu_count() or 2)
    threads: int = 32
    delay_ms: float = 50.0
    tail_share: float = 0.0
    tail_factor: float = 10.0
    fail_share: float = 0.0
    fan_out: int = 0
    timeout_seconds: float = 5.0
    objective_ms: float = 1000.0
    arrivals: str = "constant"
    seed: int = 1
    warm_up_seconds: float = 1.0
    trial_seconds: float = 4.0
    search_step: float = 1.12
    ramp_from: float = 2.0
    ramp_to: float = 2000.0
    ramp_seconds: int = 24
    rate: float = 50.0
    slow_seconds: int = 5
    slow_delay_ms: float = 2000.0
    calm_seconds: int = 5
    restart_seconds: int = 12
    restart: str = "rolling"
    one_delay_ms: float = 500.0
    one_requests: int = 6
    cpu_ms: float = 20.0
    cpu_seconds: float = 4.0
    blocking_ms: float = 500.0
    blocking_rate: float = 1.0

    def shortened(self) -> "Options":
        """A smoke test in less than 90 seconds: the ramp in place of the search, no restart, and no ratios."""
        return replace(
            self,
            quick=True,
            scenarios=tuple(name for name in self.scenarios if name not in ("search", "restart")),
            warm_up_seconds=min(self.warm_up_seconds, 0.5),
            ramp_to=min(self.ramp_to, 1000.0),
            ramp_seconds=min(self.ramp_seconds, 5),
            slow_seconds=min(self.slow_seconds, 2),
            calm_seconds=min(self.calm_seconds, 1),
            slow_delay_ms=min(self.slow_delay_ms, 1000.0),
            one_delay_ms=min(self.one_delay_ms, 200.0),
            one_requests=min(self.one_requests, 3),
            timeout_seconds=min(self.timeout_seconds, 3.0),
            cpu_seconds=min(self.cpu_seconds, 1.0),
        )
