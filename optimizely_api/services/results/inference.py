"""The statistics of the results: valid however often somebody looks. Pure functions, no database.

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
difference gives the interval. No history of earlier looks is needed or kept: each answer stands alone,
and an experiment that was significant at one look may fall below the level at a later one.

The mixing variance is fixed before any data, in units of one visitor's variance, so it fits rates of 0.1 %
as well as revenues. Its value makes the 95 % boundary tightest at TUNED_VISITORS effective visitors
(5,000 in each of two variations): the closed form of Waudby-Smith et al., appendix on choosing rho. Another
value would move power between early and late looks, never the validity.

Several metrics and variations: Benjamini and Hochberg's false discovery control on the always-valid
p-values, and the intervals of Benjamini and Yekutieli (JASA 100, 2005) that go with it, as described for
Optimizely's Stats Engine: among m comparisons of which R are significant, a significant one gets the
interval of level 1 - alpha R / m, any other 1 - alpha (R + 1) / m. So an interval leaves zero out exactly
when its comparison is significant. Comparisons with too little data to be judged are not among the m: what
was not asked yet costs the others nothing.

Small samples, where the normal approximation does not hold yet: each variance is drawn towards that of both
variations together (PRIOR_VISITORS) and, for `count` and `sum`, never below it; and nothing is significant
too early. For `unique`, both variations must be able to expect MIN_CONVERTING visitors who convert and as
many who do not. For `count`, `sum` and everything per event, the amounts of each variation must be worth
MIN_EFFECTIVE equal ones: (sum of x)^2 / (sum of x^2), the number of buyers when all buy alike, far fewer when
a few bring most. (A variation in which nearly nobody buys never gets there; it may be judged all the same
once, by both variations together, MISSING_FACTOR times as many were to be expected.)

What remains, and no finite sample can show to be absent:

* Amounts that are heavier-tailed still. By simulation, two variations of equal means whose amounts are
  log-normal, sigma 1 in one and 1.5 in the other, are ever called different within levels of 10 and 5 %, but
  at 1 % in 2 experiments of 100 when the heavier variation has a tenth of the visitors. With sigma 2 in the
  other these shares are 10, 7.5 and 5.5 %. Metrics of single enormous amounts deserve a cap where they are
  sent.
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
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import lambertw
from scipy.stats import false_discovery_control

# A number, or an array of them: the simulations in the tests judge many experiments in one call.
Numbers = Any
Kind = Literal["proportion", "mean", "ratio"]
Direction = Literal["increasing", "decreasing"]

TUNED_VISITORS = 2_500
TUNED_ALPHA = 0.05
MIXING_VARIANCE = float((-lambertw(-(TUNED_ALPHA**2) * math.exp(-1), k=-1).real - 1) / TUNED_VISITORS)
PRIOR_VISITORS = 100  # the weight of both variations' common variance in each one's own
MIN_CONVERTING = 10  # `unique`: converting visitors that either variation may expect before any conclusion
MIN_EFFECTIVE = 200  # `count` and `sum`: as many equal amounts must those of either variation be worth
MISSING_FACTOR = 5  # so many times as many were to be expected: then their absence is the finding
# A relative change of a few ulps between two means of equal data is arithmetic, not an effect.
ROUNDING = 1e-12
MAX_VISITORS_REMAINING = 10**9  # beyond this an estimate says "never", and is left out


@dataclass(frozen=True)
class Moments:
    """What a variation's visitors sum up to; two of them add up to the moments of both together.

    x is the visitor's part of the metric's numerator (1 if converted, number of events, revenue), y the
    part of the denominator (1 for scope `visitor`, number of events for scope `event`).
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
    """The moments of a metric of scope `visitor`, whose denominator is one for every visitor."""
    return Moments(visitors, converting, x, xx, visitors, visitors, x)


def rate(moments: Moments) -> Numbers:
    """Numerator by denominator; nan where there is no denominator."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(moments.y) > 0, np.divide(moments.x, moments.y), np.nan)


def visitor_variance(moments: Moments) -> Numbers:
    """The variance that one visitor adds to the rate; divided by the visitors it is the rate's variance.

    For a rate per event it is that of the linearised ratio (delta method): the events of one visitor
    are not independent, the visitors are.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.divide(moments.x, moments.y)
        squares = moments.xx - 2 * ratio * moments.xy + ratio * ratio * moments.yy
        mean_y = np.divide(moments.y, moments.visitors)
        variance = squares / np.maximum(np.asarray(moments.visitors) - 1, 1) / (mean_y * mean_y)
        # Below this, the difference of squares is rounding: the visitors are all alike.
        noise = ROUNDING * np.divide(moments.xx, np.maximum(moments.visitors, 1)) / (mean_y * mean_y)
        return np.where(variance > noise, variance, 0.0)


@dataclass(frozen=True)
class Comparison:
    """A variation beside the baseline, as the boundary needs it."""

    baseline: Numbers  # rates
    treatment: Numbers
    baseline_variance: Numbers  # of the rates, not of the visitors
    treatment_variance: Numbers
    effective_visitors: Numbers
    readiness: Numbers  # the data there is, by the data that is needed
    visitors: Numbers  # of both

    @property
    def difference(self) -> Numbers:
        """Treatment minus baseline; exactly zero when only rounding parts them."""
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
    """Set a variation beside the baseline, with variances that small samples cannot make too small."""
    both = baseline + treatment
    common = visitor_variance(both)
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = np.divide(
            np.asarray(baseline.visitors, float) * treatment.visitors, np.maximum(both.visitors, 1)
        )
    readiness = _readiness_of_proportions if kind == "proportion" else _readiness_of_amounts
    return Comparison(
        rate(baseline),
        rate(treatment),
        _rate_variance(baseline, common, kind),
        _rate_variance(treatment, common, kind),
        effective,
        readiness(baseline, treatment),
        both.visitors,
    )


def _readiness_of_proportions(baseline: Moments, treatment: Moments) -> Numbers:
    both = baseline + treatment
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.divide(both.converting, both.visitors)
    rarer = np.minimum(share, 1 - share)
    return rarer * np.minimum(baseline.visitors, treatment.visitors) / MIN_CONVERTING


def _readiness_of_amounts(baseline: Moments, treatment: Moments) -> Numbers:
    both = baseline + treatment
    expected = effective_amounts(both) / np.maximum(both.visitors, 1) / MISSING_FACTOR
    amounts = [np.maximum(effective_amounts(arm), expected * arm.visitors) for arm in (baseline, treatment)]
    return np.minimum(*amounts) / MIN_EFFECTIVE


def effective_amounts(moments: Moments) -> Numbers:
    """How many equal amounts would say as much about the mean; of a rate, numerator or denominator."""
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.divide(np.square(np.asarray(moments.x, float)), moments.xx)
        y = np.divide(np.square(np.asarray(moments.y, float)), moments.yy)
    return np.nan_to_num(np.minimum(x, y), posinf=0.0)


def _rate_variance(moments: Moments, common: Numbers, kind: Kind) -> Numbers:
    """The variance of a variation's rate, drawn towards that of the common variance of both variations."""
    visitors = np.maximum(np.asarray(moments.visitors, float), 1)
    own = visitor_variance(moments)
    own = np.where(np.isfinite(own), own, common)
    variance = (visitors * own + PRIOR_VISITORS * common) / (visitors + PRIOR_VISITORS)
    if kind != "proportion":
        # A few visitors with very large values carry most of the variance of revenues: a small variation
        # that has none of them yet has a low rate and, without this, a far too low variance.
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
    """How large d^2 / V may get before the p-value falls to `alpha`: the inverse of `p_value`."""
    information = np.asarray(effective_visitors, float) * MIXING_VARIANCE
    with np.errstate(divide="ignore"):
        return (1 + 1 / information) * (np.log1p(information) - 2 * math.log(alpha))


def difference_interval(comparison: Comparison, alpha: float) -> tuple[float, float] | None:
    """The interval of the difference, valid at every look with probability 1 - alpha; None if unusable."""
    if not comparison.enough:
        return None
    half = math.sqrt(float(boundary(comparison.effective_visitors, alpha) * comparison.variance))
    difference = float(comparison.difference)
    return difference - half, difference + half


def relative_interval(comparison: Comparison, alpha: float) -> tuple[float, float] | None:
    """The interval of treatment / baseline - 1, valid at every look with probability 1 - alpha.

    Fieller's argument: the lifts k - 1 for which treatment - k * baseline is not significantly different
    from zero. It leaves zero out exactly when `difference_interval` does. None when the baseline's own rate
    is not distinguishable from zero: then no bound on the lift exists.
    """
    if not comparison.enough:
        return None
    limit = float(boundary(comparison.effective_visitors, alpha))
    a, b = float(comparison.baseline), float(comparison.treatment)
    square = a * a - limit * float(comparison.baseline_variance)
    if square <= 0:
        return None
    constant = b * b - limit * float(comparison.treatment_variance)
    # Not negative but by rounding: k = b / a always satisfies the inequality.
    root = math.sqrt(max((a * b) ** 2 - square * constant, 0.0))
    return (a * b - root) / square - 1, (a * b + root) / square - 1


def factor_to_significance(comparison: Comparison, alpha: float) -> float | None:
    """By which factor the visitors must grow until p <= alpha, if the observed effect stays.

    None for never.
    """
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
    """One metric in one variation."""

    moments: Moments
    kind: Kind
    direction: Direction = "increasing"


@dataclass(frozen=True)
class Verdict:
    """What one comparison amounts to; keys of the answer's Datapoint, None where nothing can be said."""

    difference: float | None
    relative: float | None
    difference_interval: tuple[float, float] | None
    relative_interval: tuple[float, float] | None
    p_value: float
    significance: float  # 1 - the p-value adjusted for all comparisons
    is_significant: bool
    status: Literal["equal", "better", "worse"]
    visitors_remaining: int | None


def judge(comparisons: Sequence[tuple[Arm, Arm]], confidence_level: float) -> list[Verdict]:
    """Judge every (baseline, treatment) pair of an experiment together, in the order given.

    Together, because the share of false discoveries is controlled over all metrics and variations.
    """
    if not comparisons:
        return []
    compared = [compare(a.moments, b.moments, b.kind) for a, b in comparisons]
    p_values = np.array([float(p_value(comparison)) for comparison in compared])
    judged = np.array([bool(comparison.enough) for comparison in compared])
    adjusted = np.ones(len(compared))
    if judged.any():
        adjusted[judged] = false_discovery_control(p_values[judged], method="bh")
    alpha = 1 - confidence_level
    # The level comes as 0.9, and 1 - 0.9 is a little less than 0.1: the tolerance undoes that.
    significant = adjusted <= alpha * (1 + 1e-9)
    count, total = int(significant.sum()), int(judged.sum())
    verdicts = []
    for (_, arm), comparison, p, q, found in zip(
        comparisons, compared, p_values, adjusted, significant, strict=True
    ):
        # What is not judged yet will be one comparison more when it is.
        level = alpha * (count + (not found)) / (total + (not comparison.enough))
        verdict = _verdict(comparison, level, bool(found), arm.direction)
        verdicts.append(replace(verdict, p_value=float(p), significance=float(1 - q)))
    return verdicts


def _verdict(comparison: Comparison, alpha: float, significant: bool, direction: Direction) -> Verdict:
    difference = float(comparison.difference)
    known = math.isfinite(difference)
    relative = None
    # Relative to nothing, or to a loss, a change has no meaningful sign: the lift is left out.
    if known and comparison.baseline > 0:
        relative = difference / float(comparison.baseline)
    better = (difference > 0) == (direction == "increasing")
    return Verdict(
        difference=difference if known else None,
        relative=relative,
        difference_interval=difference_interval(comparison, alpha),
        relative_interval=relative_interval(comparison, alpha) if relative is not None else None,
        p_value=1.0,
        significance=0.0,
        is_significant=significant,
        status=("better" if better else "worse") if significant else "equal",
        visitors_remaining=0 if significant else _visitors_remaining(comparison, alpha),
    )


def _visitors_remaining(comparison: Comparison, alpha: float) -> int | None:
    factor = factor_to_significance(comparison, alpha)
    if factor is None:
        return None
    remaining = math.ceil((factor - 1) * float(comparison.visitors))
    return remaining if remaining <= MAX_VISITORS_REMAINING else None
