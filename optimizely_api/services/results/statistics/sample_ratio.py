"""Tests whether the visitors' split over the variations fits the weights: a sequential test, valid at every look.

M. Lindon and A. Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022). The test statistic is a
ratio of two likelihoods of the counts: with shares from a Dirichlet distribution around the weights, and with the
weights themselves. If the weights hold, the ratio is a martingale that starts at 1; the probability that it ever
reaches 1 / alpha is at most alpha (Ville). Each epoch has its own weights; the ratios of all epochs are multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import gammaln

ALARM = 0.01
# The Dirichlet distribution's concentration around the weights: the weight of this many earlier visitors. Large enough
# to find 52:48 early; any value finds much larger mismatches at once.
CONCENTRATION = 1_000


def mismatch_p_value(epochs: Sequence[tuple[Mapping[int, int], Mapping[int, Any]]]) -> float:
    """The always-valid p-value of "the weights hold".

    `epochs` has (weights, visitors), each by variation, in order. The visitors are counts, or arrays of counts up to
    each look. Variations of weight zero are left out, because their visitors come from a whitelist; so are epochs with
    fewer than two other variations.
    """
    log_ratio, largest = 0.0, 0.0
    for weights, visitors in epochs:
        expected = {variation: weight for variation, weight in weights.items() if weight > 0}
        if len(expected) < 2:
            continue
        over_looks = log_ratio + _log_ratio(expected, visitors)
        largest = max(largest, float(np.max(over_looks)))
        log_ratio = float(np.ravel(over_looks)[-1])
    return float(np.exp(-largest))


def _log_ratio(weights: Mapping[int, int], visitors: Mapping[int, Any]) -> Any:
    total_weight = sum(weights.values())
    total: Any = 0
    log_ratio: Any = 0.0
    for variation, weight in weights.items():
        count, share = np.asarray(visitors.get(variation, 0), float), weight / total_weight
        prior = CONCENTRATION * share
        log_ratio = log_ratio + gammaln(prior + count) - gammaln(prior) - count * np.log(share)
        total = total + count
    return log_ratio + gammaln(CONCENTRATION) - gammaln(CONCENTRATION + total)
