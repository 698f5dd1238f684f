"""The stretches of time in which decisions count, and the strata within which visitors are compared.

A decision counts if it lies in the interval and the experiment ran. Successive stretches with the same split of the
traffic form a stratum. Variations are compared only within a stratum: across strata a rate that changes with time
would make equal variations look different (Simpson's paradox).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from fractions import Fraction

from optimizely_api.services.results.query.questions import Question
from optimizely_api.services.results.tables import HOUR_MILLISECONDS

Stretch = tuple[int, int]  # start and end in milliseconds, the end excluded


def strata_of(question: Question) -> list[list[Stretch]]:
    """The stretches of each stratum, in order; without epochs the whole interval."""
    interval = question.interval
    start, limit = interval.start or 0, interval.limit
    if question.epochs is None:
        return [[(start, limit)]] if start < limit else []
    strata: list[list[Stretch]] = []
    last_shares = None
    for epoch in sorted(question.epochs, key=lambda epoch: epoch.start):
        stretch = max(start, epoch.start), limit if epoch.end is None else min(limit, epoch.end)
        if stretch[0] >= stretch[1]:
            continue
        shares = _shares(epoch.weights) if question.stats_config["epoch_enabled"] else None
        if not strata or shares != last_shares:
            strata.append([])
        last_shares = shares
        if strata[-1] and strata[-1][-1][1] == stretch[0]:
            stretch = strata[-1].pop()[0], stretch[1]
        strata[-1].append(stretch)
    return strata


def _shares(weights: Mapping[int, int]) -> dict[int, Fraction]:
    total = sum(weights.values()) or 1
    return {variation: Fraction(weight, total) for variation, weight in weights.items() if weight}


class Timeline:
    """All stretches in order, each with the number of its stratum; `within` finds them by time."""

    def __init__(self, strata: list[list[Stretch]]) -> None:
        self._stretches = sorted(
            (*stretch, number) for number, stretches in enumerate(strata) for stretch in stretches
        )
        self._ends = [end for _, end, _ in self._stretches]

    def within(self, start: int, end: int) -> Iterator[tuple[int, Stretch, Stretch]]:
        """The stretches between these times, each as (stratum's number, part between the times, whole stretch)."""
        for index in range(bisect_right(self._ends, start), len(self._stretches)):
            first, last, number = self._stretches[index]
            if first >= end:
                return
            yield number, (max(first, start), min(last, end)), (first, last)


def hour_times(hour: int) -> Stretch:
    """The stretch of an hour, numbered from 1970."""
    return hour * HOUR_MILLISECONDS, (hour + 1) * HOUR_MILLISECONDS
