"""Whether visitors come to the variations as the weights say: a sequential test, valid at every look.

M. Lindon and A. Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022): the counts' likelihood
under shares drawn from a Dirichlet distribution around the weights, by that under the weights themselves. Under the
weights this ratio is a martingale that starts at 1, so that it ever reaches 1 / alpha with probability alpha at most
(Ville). Epochs have weights of their own; their ratios are multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import gammaln

ALARM = 0.01
# How closely the Dirichlet distribution surrounds the weights: as if so many visitors had come before. Large enough
# to see 52:48 early; much larger mismatches are seen at once with any value.
CONCENTRATION = 1_000


def mismatch_p_value(epochs: Sequence[tuple[Mapping[int, int], Mapping[int, Any]]]) -> float:
    """The always-valid p-value of "the weights hold", over (weights, visitors) by variation of each epoch in order.

    The visitors are counts, or arrays of counts up to each look. Variations without weight get visitors only by
    name (a whitelist): they are left out, and so is an epoch with fewer than two others.
    """
    log_ratio, best = 0.0, 0.0
    for weights, visitors in epochs:
        expected = {variation: weight for variation, weight in weights.items() if weight > 0}
        if len(expected) < 2:
            continue
        over_looks = log_ratio + _log_ratio(expected, visitors)
        best = max(best, float(np.max(over_looks)))
        log_ratio = float(np.ravel(over_looks)[-1])
    return float(np.exp(-best))


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
