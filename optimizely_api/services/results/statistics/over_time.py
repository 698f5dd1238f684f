"""Judges comparisons at many points in time at once, as `inference.judge` does at one.

A point is judged by the past looks before it and, unless the last of these has all data up to the point, by its own
moment as one more look. Array operations over the points take the place of a loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from optimizely_api.services.results.statistics.inference import (
    MAX_VISITORS_REMAINING,
    Comparison,
    Direction,
    Verdict,
    boundary,
    difference_bounds,
    p_value,
    relative_bounds,
)
from optimizely_api.services.results.statistics.tiers import Finding, discoveries

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Looks:
    """The looks that each point is judged by; arrays over the past looks (`lasting`) and over the points.

    Of the past looks before a point, those that are `lasting` count and the last one. `own` says whether the point's
    own moment counts as well.
    """

    lasting: Any
    before: Any
    own: Any


@dataclass(frozen=True)
class Course:
    """A comparison over time: at the past looks (None if they are unknown) and at the points."""

    past: Comparison | None
    points: Comparison
    direction: Direction


def judge_points(
    courses: Sequence[Course], looks: Looks, confidence_level: float, tiers: Sequence[int]
) -> list[list[Verdict]]:
    """The verdicts of each course at each point; `tiers` has the tier of each course."""
    if not courses:
        return []
    over_time = [_OverTime(course, looks) for course in courses]
    alpha, count = 1 - confidence_level, len(looks.before)
    p_values = np.stack([course.p_values for course in over_time])
    judged = np.stack([course.judged for course in over_time])
    by_point = [discoveries(p_values[:, n], judged[:, n], tiers, alpha) for n in range(count)]
    return [
        course.verdicts([findings[number] for findings in by_point])
        for number, course in enumerate(over_time)
    ]


class _OverTime:
    def __init__(self, course: Course, looks: Looks) -> None:
        self.direction, self.points = course.direction, course.points
        if course.past is None:
            none = np.zeros(len(looks.before), int)
            looks = Looks(np.zeros(0, bool), none, none == 0)
            self.past = Comparison(*(np.zeros(0) for _ in fields(Comparison)))
        else:
            self.past = course.past
        self.looks = looks
        self.present = self._latest(self.past, self.points)
        p_past, p_own = p_value(self.past), p_value(self.points)
        self.p_values = self._extreme(p_past, p_own, np.minimum)
        self.judged = self._extreme(self.past.enough, self.points.enough, np.maximum) > 0
        self.deciding = self._differences_at_the_smallest(p_past, p_own)

    def verdicts(self, findings: Sequence[Finding]) -> list[Verdict]:
        """The verdict at each point."""
        alphas = np.array([finding.alpha for finding in findings])
        differences = self._intervals(difference_bounds, alphas)
        relatives = self._intervals(relative_bounds, alphas)
        factors = np.full(len(alphas), np.nan)
        for alpha in np.unique(alphas):
            of_alpha = alphas == alpha
            factors[of_alpha] = factors_to_significance(_at(self.present, of_alpha), float(alpha))
        return [
            self._verdict(number, finding, differences[number], relatives[number], factors[number])
            for number, finding in enumerate(findings)
        ]

    def _verdict(
        self, number: int, finding: Finding, difference_interval: Interval, relative_interval: Interval,
        factor: float,
    ) -> Verdict:  # fmt: skip
        difference, baseline = float(self.present.difference[number]), float(self.present.baseline[number])
        is_known = math.isfinite(difference)
        relative = difference / baseline if is_known and baseline > 0 else None
        status: Literal["equal", "better", "worse"] = "equal"
        if finding.is_significant:
            status = "better" if (self.deciding[number] > 0) == (self.direction == "increasing") else "worse"
        remaining: int | None = 0
        if not finding.is_significant:
            remaining = _visitors_remaining(factor, float(self.present.visitors[number]))
        return Verdict(
            difference=difference if is_known else None,
            relative=relative,
            difference_interval=difference_interval,
            relative_interval=None if relative is None else relative_interval,
            p_value=float(self.p_values[number]),
            significance=min(1 - finding.adjusted, math.nextafter(1, 0)),
            is_significant=finding.is_significant,
            status=status,
            visitors_remaining=remaining,
        )

    def _latest(self, past: Comparison, points: Comparison) -> Comparison:
        """The comparison at the last look of each point."""
        return Comparison(
            *(
                np.where(
                    self.looks.own,
                    getattr(points, field.name),
                    self._last_past(getattr(past, field.name), np.nan),
                )
                for field in fields(Comparison)
            )
        )

    def _last_past(self, values: Any, nothing: float) -> Any:
        """The value at the last past look of each point; `nothing` where there is none."""
        return np.concatenate([[nothing], np.asarray(values, float)])[self.looks.before]

    def _extreme(self, past: Any, own: Any, operation: Any) -> Any:
        """The minimum or maximum over the looks of each point."""
        nothing = np.inf if operation is np.minimum else -np.inf
        lasting = np.where(self.looks.lasting, past, nothing)
        running = operation.accumulate(np.concatenate([[nothing], lasting]))[self.looks.before]
        looked = operation(running, self._last_past(past, nothing))
        return operation(looked, np.where(self.looks.own, own, nothing))

    def _differences_at_the_smallest(self, p_past: Any, p_own: Any) -> Any:
        """The difference at the first look of each point with the smallest p-value."""
        lasting = np.concatenate([[np.inf], np.where(self.looks.lasting, p_past, np.inf)])
        running = np.minimum.accumulate(lasting)
        is_new = np.concatenate([[False], running[1:] < running[:-1]])
        first = np.maximum.accumulate(np.where(is_new, np.arange(len(lasting)), 0))[self.looks.before]
        difference = np.concatenate([[np.nan], self.past.difference])
        smallest, deciding = running[self.looks.before], difference[first]
        last = self._last_past(p_past, np.inf)
        deciding = np.where(last < smallest, difference[self.looks.before], deciding)
        is_own = self.looks.own & (p_own < np.minimum(smallest, last))
        return np.where(is_own, self.points.difference, deciding)

    def _intervals(self, bounds: Any, alphas: Any) -> list[Interval]:
        """The intersection of the intervals of each point's looks, at the point's level (see `looks`)."""
        low, high = np.empty(len(alphas)), np.empty(len(alphas))
        for alpha in np.unique(alphas):
            of_alpha = alphas == alpha
            (past_low, past_high), (own_low, own_high) = bounds(self.past, alpha), bounds(self.points, alpha)
            lows = self._extreme(past_low, own_low, np.maximum)
            highs = self._extreme(past_high, own_high, np.minimum)
            is_empty = lows > highs
            last_low = np.where(self.looks.own, own_low, self._last_past(past_low, -np.inf))
            last_high = np.where(self.looks.own, own_high, self._last_past(past_high, np.inf))
            low[of_alpha] = np.where(is_empty, last_low, lows)[of_alpha]
            high[of_alpha] = np.where(is_empty, last_high, highs)[of_alpha]
        known = np.isfinite(low) & np.isfinite(high)
        return [
            (float(low[number]), float(high[number])) if known[number] else None
            for number in range(len(alphas))
        ]


def _at(comparison: Comparison, chosen: Any) -> Comparison:
    return Comparison(*(np.asarray(getattr(comparison, field.name))[chosen] for field in fields(Comparison)))


def _visitors_remaining(factor: float, visitors: float) -> int | None:
    if math.isnan(factor):
        return None
    remaining = math.ceil((factor - 1) * visitors)
    return remaining if remaining <= MAX_VISITORS_REMAINING else None


def factors_to_significance(comparison: Comparison, alpha: float) -> Any:
    """As `inference.factor_to_significance`, for arrays; nan for never."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        z_squared = comparison.difference**2 / comparison.variance
        readiness = np.asarray(comparison.readiness, float)
        usable = np.isfinite(z_squared) & (z_squared != 0) & (comparison.variance > 0) & (readiness > 0)
        low = np.maximum(1.0, 1 / readiness)

        def is_significant(factor: Any) -> Any:
            return z_squared * factor >= boundary(comparison.effective_visitors * factor, alpha)

        at_once = usable & is_significant(low)
        high, searching = low.copy(), usable & ~at_once
        while searching.any():
            high = np.where(searching, 2 * high, high)
            usable &= ~(searching & (high > MAX_VISITORS_REMAINING))
            searching &= usable & ~is_significant(high)
        low = np.where(at_once, low, np.maximum(low, high / 2))
        halving = usable & ~at_once
        while (halving := halving & (high - low > 1e-9 * high)).any():
            middle = (low + high) / 2
            reached = is_significant(middle)
            high = np.where(halving & reached, middle, high)
            low = np.where(halving & ~reached, middle, low)
    return np.where(usable, high, np.nan)
