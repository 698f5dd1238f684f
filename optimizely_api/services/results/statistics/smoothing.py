"""Amounts far out, smoothed for the test: one order of a million must not hide what thousands of others say.

A visitor's total counts for at most a bound, which follows from the tenth-largest total of all variations together:
four to eight times as much (the upper bound of its size class, times four). So up to nine visitors are smoothed,
only if they lie far from the next ones: totals that are merely skewed (log-normal, say) nearly all stay as they
are. The bound is the same for all variations and follows from the data up to the look alone. Sums that are
shown stay exact. (Optimizely replaces amounts above the day's mean plus three standard deviations: one huge amount
moves that bound itself.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizely_api.services.results.ingest.growth import upper_bound
from optimizely_api.start_failures import InvalidVariable

VARIABLE = "RESULTS_SMOOTHING"
FREE_RANK = 10  # the total of this rank, from above, sets the bound
# Doublings above the class of that total. With 1, equal means of log-normal amounts of sigma 1 and 2 are ever called
# different in 15 % at a level of 10 %; with 2 in 8 %.
FREE_CLASSES = 2


@dataclass(frozen=True)
class Sizes:
    """Visitors' totals of one field by size class: arrays of (class, look); `sizes` are the classes with their sign."""

    sizes: Any
    visitors: Any
    x: Any
    xx: Any
    x_events: Any
    events: Any

    @property
    def sums(self) -> tuple[Any, Any, Any]:
        """Over the visitors, at each look: x, x squared, x times events."""
        return self.x.sum(axis=0), self.xx.sum(axis=0), self.x_events.sum(axis=0)


def is_smoothing() -> bool:
    """Whether RESULTS_SMOOTHING (environment; `on` by default) is not `off`; raises InvalidVariable for other words."""
    value = os.environ.get(VARIABLE) or "on"
    if value not in ("on", "off"):
        raise InvalidVariable(f"{VARIABLE} must be on or off, not {value!r}")
    return value == "on"


def bounds(sizes: Any, visitors: Any) -> Any:
    """At each look the largest class (without sign) whose amounts stay; of all variations' visitors together."""
    magnitudes = np.unique(np.abs(sizes))[::-1]
    counts = np.stack([visitors[np.abs(sizes) == one].sum(axis=0) for one in magnitudes])
    is_reached = counts.cumsum(axis=0) >= FREE_RANK
    found = magnitudes[np.argmax(is_reached, axis=0)] + FREE_CLASSES
    return np.where(is_reached.any(axis=0), found, magnitudes[0])


def smoothed(totals: dict[int, Sizes]) -> dict[int, Sizes]:
    """The totals of one field, by variation, as they are tested."""
    sizes = np.concatenate([one.sizes for one in totals.values()])
    if not len(sizes) or not is_smoothing():
        return totals
    largest = bounds(sizes, np.concatenate([one.visitors for one in totals.values()]))
    return {variation: smooth(one, largest) for variation, one in totals.items()}


def smooth(totals: Sizes, largest: Any) -> Sizes:
    """The totals with those in classes above `largest` (of each look) replaced by its upper bound."""
    magnitudes = np.abs(totals.sizes)[:, None]
    most = np.array([upper_bound(int(one)) for one in largest])[None, :] * np.sign(totals.sizes)[:, None]
    out = magnitudes > largest[None, :]
    return Sizes(
        totals.sizes,
        totals.visitors,
        np.where(out, most * totals.visitors, totals.x),
        np.where(out, most * most * totals.visitors, totals.xx),
        np.where(out, most * totals.events, totals.x_events),
        totals.events,
    )
