"""The statistics of the results, valid however often somebody looks. Pure functions, no database.

Two families, one boundary:

* `unique`: the mixture sequential probability ratio test (mSPRT) of R. Johari, P. Koomen, L. Pekelis and
  D. Walsh, "Always Valid Inference: Continuous Monitoring of A/B Tests" (Operations Research 70(3), 2022,
  arXiv:1512.04922), for the difference of two proportions, with the estimated variance in place of the known.
* `count`, `sum` and everything per event: the asymptotic confidence sequence of I. Waudby-Smith, D. Arbour,
  R. Sinha, E. Kennedy and A. Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences"
  (Annals of Statistics 52(6), 2024, arXiv:2103.06476), for the difference of two means.

Both mix a likelihood ratio over a normal distribution of effects (Robbins 1970). With d the observed
difference, V its estimated variance, t = n_a n_b / (n_a + n_b) the effective number of visitors and
r = MIXING_VARIANCE, the mixed ratio against "no difference" is

    L = (1 + t r)^(-1/2) exp( d^2 / (2 V) * t r / (1 + t r) )

and 1 / L is an always-valid p-value: under no difference the probability that it is ever at or below alpha
is at most alpha (Ville's inequality), up to the normal approximation. Asking L < 1 / alpha for every other
difference gives the interval. What holds at every look also holds of all looks together: over several looks the
p-value is the smallest one, and the interval what the intervals have in common (`looks`).

The mixing variance is fixed before any data, in units of one visitor's variance, so it fits rates of 0.1 %
as well as revenues. Its value makes the 95 % boundary tightest at TUNED_VISITORS effective visitors
(5,000 in each of two variations): the closed form of Waudby-Smith et al., appendix on choosing rho. Another
value would move power between early and late looks, never the validity.

Several metrics and variations: Benjamini and Hochberg's false discovery control on the always-valid
p-values, within each tier of metrics (`tiers`), and the intervals of Benjamini and Yekutieli (JASA 100, 2005)
that go with it, as described for Optimizely's Stats Engine: among m comparisons of a tier of which R are
significant, a significant one gets the interval of level 1 - alpha R / m, any other 1 - alpha (R + 1) / m. So a
look's interval leaves zero out exactly when its comparison is significant. Comparisons with too little data to
be judged are not among the m: what was not asked yet costs the others nothing.

Changes of the traffic's allocation begin epochs: see `compare_epochs`.

Small samples, where the normal approximation does not hold yet: each variance is drawn towards that of both
variations together (PRIOR_VISITORS) and, for `count` and `sum`, never below it; and nothing is significant
too early. For `unique`, both variations must be able to expect MIN_CONVERTING visitors who convert and as
many who do not. For `count`, `sum` and everything per event, the amounts of each variation must be worth
MIN_EFFECTIVE equal ones: (sum of x)^2 / (sum of x^2), the number of buyers when all buy alike, far fewer when
a few bring most. (A variation in which nearly nobody buys never gets there; it may be judged all the same
once, by both variations together, MISSING_FACTOR times as many were to be expected.)

What remains, and no finite sample can show to be absent:

* Amounts that are heavier-tailed still. By simulation, two variations of equal means whose amounts are
  log-normal, sigma 1 in one and 1.5 in the other, are ever called different within levels of 10, 5 and 1 %;
  when the heavier variation has a tenth of the visitors, in up to 10, 6.5 and 3 % of experiments. With sigma 2
  in the other these shares are 10, 7.5 and 5.5 %. Metrics of single enormous amounts deserve a cap where they
  are sent.
* Amounts on both sides of zero (refunds) that nearly cancel out are worth few equal ones, so that they are
  judged late.
* Visitors whose value still grows. The theory is about visitors who enter one after the other, each with a
  value that is known at once. Conversions that come long after the entry change the values of visitors that
  were counted already, which it does not cover: a visitor's value should be final soon after entry, soon
  compared with the time between the looks that matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from scipy.special import lambertw

from optimizely_api.services.results.statistics.looks import running_intersection
from optimizely_api.services.results.statistics.tiers import Finding, discoveries

# A number, or an array of them: the simulations in the tests judge many experiments in one call.
Numbers = Any
Kind = Literal["proportion", "mean", "ratio"]
Direction = Literal["increasing", "decreasing"]

TUNED_VISITORS = 2_500
TUNED_ALPHA = 0.05
MIXING_VARIANCE = float((-lambertw(-(TUNED_ALPHA**2) * math.exp(-1), k=-1).real - 1) / TUNED_VISITORS)
PRIOR_VISITORS = 100  # the weight of both variations' common variance in each one's own
MIN_CONVERTING = 10  # `unique`: the converting visitors to expect in each variation before it is judged
MIN_EFFECTIVE = (
    100  # `count` and `sum`: the effective number of amounts each variation needs before it is judged
)
# If this many times more amounts were expected and did not come, their absence is itself evidence.
MISSING_FACTOR = 5
# A relative difference of a few ulps between two means of equal data is a rounding error, not an effect.
ROUNDING = 1e-12
MAX_VISITORS_REMAINING = 10**9  # a larger estimate means "never" and is left out


@dataclass(frozen=True)
class Moments:
    """Sums over a variation's visitors; the sum of two Moments are those of both groups of visitors together.

    x is a visitor's part of the metric's numerator (1 if converted, number of events, revenue), y a visitor's part of
    the denominator (1 for scope `visitor`, number of events for scope `event`).
    """

    visitors: Numbers = 0
    converting: Numbers = 0
    x: Numbers = 0.0
    xx: Numbers = 0.0
    y: Numbers = 0.0
    yy: Numbers = 0.0
    xy: Numbers = 0.0

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.visitors + other.visitors,
            self.converting + other.converting,
            self.x + other.x,
            self.xx + other.xx,
            self.y + other.y,
            self.yy + other.yy,
            self.xy + other.xy,
        )


def per_visitor(visitors: Numbers, converting: Numbers, x: Numbers, xx: Numbers) -> Moments:
    """The moments of a metric of scope `visitor`: the denominator is one for every visitor."""
    return Moments(visitors, converting, x, xx, visitors, visitors, x)


def rate(moments: Moments) -> Numbers:
    """Numerator divided by denominator; nan if the denominator is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(moments.y) > 0, np.divide(moments.x, moments.y), np.nan)


def visitor_variance(moments: Moments) -> Numbers:
    """The variance of the rate for a single visitor; divided by the number of visitors it is the rate's variance.

    For a rate per event it is the variance of the linearised ratio (delta method), because visitors are independent
    but the events of one visitor are not.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.divide(moments.x, moments.y)
        squares = moments.xx - 2 * ratio * moments.xy + ratio * ratio * moments.yy
        mean_y = np.divide(moments.y, moments.visitors)
        variance = squares / np.maximum(np.asarray(moments.visitors) - 1, 1) / (mean_y * mean_y)
        # A smaller difference of squares is a rounding error: all visitors are equal.
        noise = ROUNDING * np.divide(moments.xx, np.maximum(moments.visitors, 1)) / (mean_y * mean_y)
        return np.where(variance > noise, variance, 0.0)


@dataclass(frozen=True)
class Comparison:
    """A variation compared with the baseline: the input of the test."""

    baseline: Numbers  # rates
    treatment: Numbers
    baseline_variance: Numbers  # of the rates, not of the visitors
    treatment_variance: Numbers
    effective_visitors: Numbers
    readiness: Numbers  # the amount of data divided by the amount needed; judged from 1 on
    visitors: Numbers  # of both variations

    def at(self, look: int) -> Comparison:
        """The comparison at one of the looks of its arrays."""
        return Comparison(*(np.ravel(getattr(self, field.name))[look] for field in fields(self)))

    @property
    def difference(self) -> Numbers:
        """Treatment minus baseline; exactly zero if they differ by a rounding error only."""
        difference = self.treatment - self.baseline
        size = np.maximum(np.abs(self.treatment), np.abs(self.baseline))
        return np.where(np.abs(difference) <= ROUNDING * size, 0.0, difference)

    @property
    def variance(self) -> Numbers:
        """The variance of the difference."""
        return self.baseline_variance + self.treatment_variance

    @property
    def enough(self) -> Numbers:
        """Whether there is enough data for the normal approximation (MIN_CONVERTING, MIN_EFFECTIVE)."""
        with np.errstate(invalid="ignore"):
            usable = np.isfinite(self.difference) & np.isfinite(self.variance) & (self.variance > 0)
            return usable & (np.asarray(self.readiness) >= 1)


def compare(baseline: Moments, treatment: Moments, kind: Kind) -> Comparison:
    """Compare a variation with the baseline; small samples cannot make the variances too small."""
    return compare_epochs((baseline,), (treatment,), kind)


def compare_epochs(baselines: Sequence[Moments], treatments: Sequence[Moments], kind: Kind) -> Comparison:
    """Compare within each epoch and weight the epochs by their shares of the visitors of both variations.

    Within an epoch the traffic's split is constant, so changes over time affect both variations equally; across epochs
    they do not (Simpson's paradox). The weighted sum is the mean over visitors of the difference at their time of
    entry. An epoch in which one of the variations has no rate gets no weight.
    """
    both = [a + b for a, b in zip(baselines, treatments, strict=True)]
    rates = [(rate(a), rate(b)) for a, b in zip(baselines, treatments, strict=True)]
    sizes = [
        np.where(np.isfinite(a) & np.isfinite(b), np.asarray(two.visitors, float), 0.0)
        for (a, b), two in zip(rates, both, strict=True)
    ]
    total = sum(sizes)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = [np.divide(size, total) for size in sizes]  # nan if no epoch has a rate in both variations
        inverse: Numbers = 0.0
        for share, a, b, two in zip(shares, baselines, treatments, both, strict=True):
            effective = np.asarray(a.visitors, float) * b.visitors / np.maximum(two.visitors, 1)
            inverse = inverse + _weighed(share * share, 1 / effective)
        effective_visitors = np.nan_to_num(1 / inverse, posinf=0.0)
    common = [visitor_variance(two) for two in both]
    readiness = _readiness_of_proportions if kind == "proportion" else _readiness_of_amounts
    return Comparison(
        sum(_weighed(share, a) for share, (a, _) in zip(shares, rates, strict=True)),
        sum(_weighed(share, b) for share, (_, b) in zip(shares, rates, strict=True)),
        _stratified_variance(shares, baselines, common, kind),
        _stratified_variance(shares, treatments, common, kind),
        effective_visitors,
        readiness(shares, baselines, treatments),
        sum(two.visitors for two in both),
    )


def _weighed(share: Numbers, number: Numbers) -> Numbers:
    """The product; zero if the share is zero, even if the number is nan or infinite."""
    with np.errstate(invalid="ignore"):
        return np.where(share == 0, 0.0, share * number)


def _stratified_variance(
    shares: Sequence[Numbers], arms: Sequence[Moments], common: Sequence[Numbers], kind: Kind
) -> Numbers:
    return sum(
        _weighed(share * share, _rate_variance(arm, of_both, kind))
        for share, arm, of_both in zip(shares, arms, common, strict=True)
    )


def _readiness_of_proportions(
    shares: Sequence[Numbers], baselines: Sequence[Moments], treatments: Sequence[Moments]
) -> Numbers:
    rarer: Numbers = 0.0
    for share, a, b in zip(shares, baselines, treatments, strict=True):
        both = a + b
        with np.errstate(invalid="ignore", divide="ignore"):
            converting = np.divide(both.converting, both.visitors)
        smaller = np.minimum(a.visitors, b.visitors)
        rarer = rarer + _weighed(share > 0, np.minimum(converting, 1 - converting) * smaller)
    return rarer / MIN_CONVERTING


def _readiness_of_amounts(
    shares: Sequence[Numbers], baselines: Sequence[Moments], treatments: Sequence[Moments]
) -> Numbers:
    """Effective amounts by MIN_EFFECTIVE, weighted as in the comparison.

    An amount weighs share / visitors: more in an epoch with many visitors of which this variation has few.
    """
    both = [a + b for a, b in zip(baselines, treatments, strict=True)]
    visitors = np.maximum(sum(two.visitors for two in both), 1)
    expected = _weighed_amounts([1.0] * len(both), both) / visitors / MISSING_FACTOR
    amounts = []
    for arms in (baselines, treatments):
        with np.errstate(invalid="ignore", divide="ignore"):
            weights = [
                # An epoch without visitors (yet) has no share; 0 / 0 would make all amounts unknown.
                np.where(np.asarray(arm.visitors) > 0, share / np.asarray(arm.visitors, float), 0.0)
                for share, arm in zip(shares, arms, strict=True)
            ]
        present = sum(arm.visitors for arm in arms)
        amounts.append(np.maximum(_weighed_amounts(weights, arms), expected * present))
    return np.minimum(*amounts) / MIN_EFFECTIVE


def _weighed_amounts(weights: Sequence[Numbers], arms: Sequence[Moments]) -> Numbers:
    sums = {
        name: sum(
            _weighed(weight ** (len(name)), np.asarray(getattr(arm, name), float))
            for weight, arm in zip(weights, arms, strict=True)
        )
        for name in ("x", "xx", "y", "yy")
    }
    return effective_amounts(Moments(**sums))


def effective_amounts(moments: Moments) -> Numbers:
    """The number of equal amounts with the same information on the mean; for a rate the smaller one of x and y."""
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.divide(np.square(np.asarray(moments.x, float)), moments.xx)
        y = np.divide(np.square(np.asarray(moments.y, float)), moments.yy)
    return np.nan_to_num(np.minimum(x, y), posinf=0.0)


def _rate_variance(moments: Moments, common: Numbers, kind: Kind) -> Numbers:
    """The variance of a variation's rate, drawn towards the common variance of both variations."""
    visitors = np.maximum(np.asarray(moments.visitors, float), 1)
    own = visitor_variance(moments)
    own = np.where(np.isfinite(own), own, common)
    variance = (visitors * own + PRIOR_VISITORS * common) / (visitors + PRIOR_VISITORS)
    if kind != "proportion":
        # A few visitors with very large values make up most of the variance of revenues. A small variation without
        # such a visitor yet has a low rate and would have a far too low variance.
        variance = np.maximum(variance, common)
    return variance / visitors


def p_value(comparison: Comparison) -> Numbers:
    """The always-valid p-value of "no difference"; 1 while there is too little data."""
    information = np.asarray(comparison.effective_visitors, float) * MIXING_VARIANCE
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        z_squared = comparison.difference**2 / comparison.variance
        log_ratio = z_squared / 2 * information / (1 + information) - np.log1p(information) / 2
        value = np.exp(-np.maximum(log_ratio, 0.0))
    return np.where(comparison.enough, value, 1.0)


def boundary(effective_visitors: Numbers, alpha: float) -> Numbers:
    """The value of d^2 / V at which the p-value is `alpha`: the inverse of `p_value`."""
    information = np.asarray(effective_visitors, float) * MIXING_VARIANCE
    with np.errstate(divide="ignore"):
        return (1 + 1 / information) * (np.log1p(information) - 2 * math.log(alpha))


def difference_bounds(comparison: Comparison, alpha: float) -> tuple[Numbers, Numbers]:
    """Both ends of the difference's interval, valid at every look with probability 1 - alpha; infinite if unusable."""
    with np.errstate(invalid="ignore"):
        half = np.sqrt(boundary(comparison.effective_visitors, alpha) * comparison.variance)
        difference = comparison.difference
        return (
            np.where(comparison.enough, difference - half, -np.inf),
            np.where(comparison.enough, difference + half, np.inf),
        )


def relative_bounds(comparison: Comparison, alpha: float) -> tuple[Numbers, Numbers]:
    """Both ends of the interval of treatment / baseline - 1, valid at every look with probability 1 - alpha.

    Fieller's method: the lifts k - 1 for which treatment - k * baseline is not significantly different from zero. The
    interval excludes zero exactly when the difference's interval does. It is infinite when the baseline's rate is not
    significantly different from zero: then the lift has no bounds.
    """
    limit = boundary(comparison.effective_visitors, alpha)
    a, b = comparison.baseline, comparison.treatment
    with np.errstate(invalid="ignore", divide="ignore"):
        square = a * a - limit * comparison.baseline_variance
        constant = b * b - limit * comparison.treatment_variance
        # Negative only by a rounding error: k = b / a always satisfies the inequality.
        root = np.sqrt(np.maximum((a * b) ** 2 - square * constant, 0.0))
        usable = np.asarray(comparison.enough) & (square > 0)
        return (
            np.where(usable, (a * b - root) / square - 1, -np.inf),
            np.where(usable, (a * b + root) / square - 1, np.inf),
        )


def difference_interval(comparison: Comparison, alpha: float) -> tuple[float, float] | None:
    """The present look's interval of the difference; None without bounds."""
    return running_intersection(*difference_bounds(comparison.at(-1), alpha))


def relative_interval(comparison: Comparison, alpha: float) -> tuple[float, float] | None:
    """The present look's interval of the lift; None without bounds."""
    return running_intersection(*relative_bounds(comparison.at(-1), alpha))


def factor_to_significance(comparison: Comparison, alpha: float) -> float | None:
    """The factor by which the visitors must grow until p <= alpha if the effect stays the same; None for never."""
    if not (np.isfinite(comparison.difference) and np.isfinite(comparison.variance)):
        return None
    if not comparison.difference or not comparison.variance > 0 or not comparison.readiness > 0:
        return None
    low = max(1.0, 1 / float(comparison.readiness))
    if _significant_after(comparison, low, alpha):
        return low
    high = low
    while not _significant_after(comparison, high, alpha):
        high *= 2
        if high > MAX_VISITORS_REMAINING:
            return None
    low = max(low, high / 2)
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if _significant_after(comparison, middle, alpha) else (middle, high)
    return high


def _significant_after(comparison: Comparison, factor: float, alpha: float) -> bool:
    z_squared = float(comparison.difference**2 / comparison.variance) * factor
    return z_squared >= float(boundary(comparison.effective_visitors * factor, alpha))


@dataclass(frozen=True)
class Arm:
    """One metric in one variation.

    `moments` has one item for each epoch, or is a single one. Its fields are numbers, or arrays over the looks with the
    present look last.
    """

    moments: Moments | tuple[Moments, ...]
    kind: Kind
    direction: Direction = "increasing"

    @property
    def by_epoch(self) -> tuple[Moments, ...]:
        """The moments of each epoch."""
        return self.moments if isinstance(self.moments, tuple) else (self.moments,)


@dataclass(frozen=True)
class Verdict:
    """The conclusion about one comparison; fields are None if undefined."""

    difference: float | None
    relative: float | None
    difference_interval: tuple[float, float] | None
    relative_interval: tuple[float, float] | None
    p_value: float
    significance: float  # 1 - the p-value adjusted for the comparisons of its tier, always below 1
    is_significant: bool
    status: Literal["equal", "better", "worse"]
    visitors_remaining: int | None


def judge(
    comparisons: Sequence[tuple[Arm, Arm]], confidence_level: float, tiers: Sequence[int] | None = None
) -> list[Verdict]:
    """Judge every (baseline, treatment) pair of an experiment, in the order given.

    `tiers` has the tier of each pair (see `tiers`); None puts all into one.
    """
    if not comparisons:
        return []
    over_looks = [compare_epochs(a.by_epoch, b.by_epoch, b.kind) for a, b in comparisons]
    p_values = np.array([np.min(p_value(comparison)) for comparison in over_looks])
    judged = np.array([bool(np.any(comparison.enough)) for comparison in over_looks])
    alpha = 1 - confidence_level
    findings = discoveries(p_values, judged, [0] * len(comparisons) if tiers is None else tiers, alpha)
    return [
        _verdict(comparison, float(p), finding, arm.direction)
        for comparison, p, finding, (_, arm) in zip(over_looks, p_values, findings, comparisons, strict=True)
    ]


def _verdict(comparison: Comparison, p: float, finding: Finding, direction: Direction) -> Verdict:
    present = comparison.at(-1)
    difference = float(present.difference)
    is_known = math.isfinite(difference)
    relative = None
    # Relative to a baseline of zero or below, a change has no meaningful sign: the lift is left out.
    if is_known and present.baseline > 0:
        relative = difference / float(present.baseline)
    status: Literal["equal", "better", "worse"] = "equal"
    if finding.is_significant:
        # The direction is that of the look with the smallest p-value; a later look may differ by chance.
        deciding = float(np.ravel(comparison.difference)[int(np.argmin(p_value(comparison)))])
        status = "better" if (deciding > 0) == (direction == "increasing") else "worse"
    alpha = finding.alpha
    return Verdict(
        difference=difference if is_known else None,
        relative=relative,
        difference_interval=running_intersection(*difference_bounds(comparison, alpha)),
        relative_interval=None
        if relative is None
        else running_intersection(*relative_bounds(comparison, alpha)),
        p_value=p,
        # Below 1 even if the p-value is too small for 1 - p to differ from 1 in a double.
        significance=min(1 - finding.adjusted, math.nextafter(1, 0)),
        is_significant=finding.is_significant,
        status=status,
        visitors_remaining=0 if finding.is_significant else _visitors_remaining(present, alpha),
    )


def _visitors_remaining(comparison: Comparison, alpha: float) -> int | None:
    factor = factor_to_significance(comparison, alpha)
    if factor is None:
        return None
    remaining = math.ceil((factor - 1) * float(comparison.visitors))
    return remaining if remaining <= MAX_VISITORS_REMAINING else None
