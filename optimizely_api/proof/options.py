"""The options of a proof."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from optimizely_api.proof.faults import USUAL


class NotAsMade(Exception):
    """Before any fault, a response of a gateway is not what was put into the services."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of one proof, which its report repeats.

    `rate` is in requests per second. The load ends after `requests`, or after `seconds` if that is earlier.
    `balancer` is HAProxy's configuration, whose port and servers are replaced.
    `gap_seconds` is the mean time from the beginning of one fault to that of the next.
    `every` is {kind of fault: seconds}; if it is not empty, these faults come at these intervals, and no others.
    """

    requests: int = 30_000
    rate: float = 50.0
    seconds: float | None = None
    seed: int = 1
    faults: tuple[str, ...] = field(default=USUAL)
    gap_seconds: float = 2.0
    every: Mapping[str, float] = field(default_factory=dict)
    gateways: int = 2
    workers: int = 2
    balancer: Path = Path("deploy/haproxy.cfg")
    output: Path = Path("proof.json")

    @property
    def load_seconds(self) -> float:
        """How long requests are sent."""
        needed = self.requests / self.rate
        return needed if self.seconds is None else min(needed, self.seconds)
