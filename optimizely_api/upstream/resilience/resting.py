"""Addresses that take no connections rest, so that few calls wait for what does not come.

The second failure in a row makes an address rest for one second, each further one for twice as long, up to 30. A host
with other addresses is reached by those. Where all rest, one of them is tried twice a second. An address that has
taken a connection since an attempt began did not fail it: it has more to do than it can, and is no address to avoid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optimizely_api.upstream.resilience.refusals import AddressesRest
from optimizely_api.upstream.resilience.throttle import PROBE_SECONDS
from optimizely_api.upstream.resilience.timing import Timing

FAILURES_BEFORE_REST = 2
SHORTEST_REST_SECONDS = 1.0
LONGEST_REST_SECONDS = 30.0
# That are remembered, of those that took a connection and of those that did not: names may resolve to ever new ones.
MOST_ADDRESSES = 1000

Address = tuple[str, int]  # host and port


@dataclass(slots=True)
class _Failures:
    number: int = 0
    last: float = 0.0
    rests_until: float = 0.0
    tried_at: float = 0.0


class Addresses:
    """The addresses that failed lately, by the attempts of one worker."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._failing: dict[Address, _Failures] = {}
        self._connected_at: dict[Address, float] = {}

    def awake(self, addresses: Sequence[Address]) -> Sequence[Address]:
        """Return those that do not rest, or else the one that is to be tried; raises AddressesRest if none is due."""
        if not self._failing:
            return addresses
        now = self._timing.now()
        resting = [address for address in addresses if self._rests_until(address) > now]
        if len(resting) < len(addresses):
            return [address for address in addresses if address not in resting]
        due = min(resting, key=self._rests_until)
        failures = self._failing[due]
        if now - failures.tried_at < PROBE_SECONDS:
            raise AddressesRest
        failures.tried_at = now
        return [due]

    def connected(self, address: Address) -> None:
        """The address took a connection."""
        self._failing.pop(address, None)
        self._connected_at.pop(address, None)
        self._connected_at[address] = self._timing.now()
        _forget_oldest(self._connected_at)

    def failed(self, address: Address, began: float) -> None:
        """The address took none of an attempt that `began` then.

        Attempts that were under way together fail together, and count once.
        """
        if began < self._connected_at.get(address, 0.0):
            return
        failures = self._failing.pop(address, None) or _Failures()
        self._failing[address] = failures
        _forget_oldest(self._failing)
        if failures.number and began < failures.last:
            return
        failures.last = now = self._timing.now()
        # Not `now`: the end of an attempt that began before the address worked again must not put off the next trial.
        failures.tried_at = max(failures.tried_at, began)
        failures.number += 1
        if (more := failures.number - FAILURES_BEFORE_REST) >= 0:
            rest = min(LONGEST_REST_SECONDS, SHORTEST_REST_SECONDS * 2.0 ** min(more, 10))
            failures.rests_until = now + rest

    def _rests_until(self, address: Address) -> float:
        failures = self._failing.get(address)
        return 0.0 if failures is None else failures.rests_until


def _forget_oldest(addresses: dict[Address, Any]) -> None:
    """Keep those that were put in last."""
    if len(addresses) > MOST_ADDRESSES:
        del addresses[next(iter(addresses))]
