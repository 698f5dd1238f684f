"""Smooths outliers for the test: one order of a million must not hide the effect in thousands of others.

A visitor's total counts up to a bound: four times the upper bound of the size class of the tenth-largest total over all
variations, so four to eight times that total. At most nine visitors are smoothed, and only if they lie far from the
next ones; totals that are merely skewed (such as log-normal ones) nearly all stay unchanged. The bound is the same for
all variations and depends only on data up to the look. Sums in responses stay exact. (Optimizely replaces amounts above
the day's mean plus three standard deviations; there one huge amount moves the bound itself.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizely_api.services.results.ingest.growth import upper_bound
from optimizely_api.start_failures import InvalidVariable

VARIABLE = "RESULTS_SMOOTHING"
FREE_RANK = 10  # the total of this rank, in descending order, sets the bound
# Doublings from the class of that total to the bound. In simulations with equal means of log-normal amounts (sigma 1
# and 2) at a level of 10 %, 15 % of the tests found a difference with 1 doubling, 8 % with 2.
FREE_CLASSES = 2


@dataclass(frozen=True)
class Sizes:
    """Sums over visitors' totals of one field: arrays of (class, look). `sizes` has the signed size classes."""

    sizes: Any
    visitors: Any
    x: Any
    xx: Any
    x_events: Any
    events: Any

    @property
    def sums(self) -> tuple[Any, Any, Any]:
        """Sums over the visitors at each look: x, x squared, x times events."""
        return self.x.sum(axis=0), self.xx.sum(axis=0), self.x_events.sum(axis=0)


def is_smoothing() -> bool:
    """Whether RESULTS_SMOOTHING (environment) is `on`, the default; raises InvalidVariable for a word but `off`."""
    value = os.environ.get(VARIABLE) or "on"
    if value not in ("on", "off"):
        raise InvalidVariable(f"{VARIABLE} must be on or off, not {value!r}")
    return value == "on"


def bounds(sizes: Any, visitors: Any) -> Any:
    """The largest magnitude (class without sign) that is not smoothed, at each look, over all variations' visitors."""
    magnitudes = np.unique(np.abs(sizes))[::-1]
    counts = np.stack([visitors[np.abs(sizes) == magnitude].sum(axis=0) for magnitude in magnitudes])
    is_reached = counts.cumsum(axis=0) >= FREE_RANK
    bound = magnitudes[np.argmax(is_reached, axis=0)] + FREE_CLASSES
    return np.where(is_reached.any(axis=0), bound, magnitudes[0])


def smoothed(totals: dict[int, Sizes]) -> dict[int, Sizes]:
    """The totals of one field, by variation, smoothed unless smoothing is off."""
    sizes = np.concatenate([of_variation.sizes for of_variation in totals.values()])
    if not len(sizes) or not is_smoothing():
        return totals
    visitors = np.concatenate([of_variation.visitors for of_variation in totals.values()])
    largest = bounds(sizes, visitors)
    return {variation: smooth(of_variation, largest) for variation, of_variation in totals.items()}


def smooth(totals: Sizes, largest: Any) -> Sizes:
    """The totals; those in classes above `largest` (a magnitude for each look) are replaced by its upper bound."""
    magnitudes = np.abs(totals.sizes)[:, None]
    upper_bounds = np.array([upper_bound(int(magnitude)) for magnitude in largest])
    bound = upper_bounds[None, :] * np.sign(totals.sizes)[:, None]
    is_outlier = magnitudes > largest[None, :]
    return Sizes(
        totals.sizes,
        totals.visitors,
        np.where(is_outlier, bound * totals.visitors, totals.x),
        np.where(is_outlier, bound * bound * totals.visitors, totals.xx),
        np.where(is_outlier, bound * totals.events, totals.x_events),
        totals.events,
    )
