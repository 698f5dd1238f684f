"""Which comparisons are judged together: tiers of metrics, so that further metrics cost the first one nothing.

The first metric of an experiment stands alone, the second to fifth together, the rest together, as in Optimizely's
Stats Engine (primary, secondary and monitoring metrics). Within each tier: Benjamini and Hochberg's false discovery
control (Journal of the Royal Statistical Society B 57, 1995) over its metrics and all variations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

SECONDARY_METRICS = 4  # these follow the primary one


@dataclass(frozen=True)
class Finding:
    """Of one comparison: the adjusted p-value, the conclusion, and the level of its interval (1 - alpha)."""

    adjusted: float
    is_significant: bool
    alpha: float


def tier_of(position: int) -> int:
    """The tier of the metric at this position of the experiment's list: 0, 1 or 2."""
    if position == 0:
        return 0
    return 1 if position <= SECONDARY_METRICS else 2


def discoveries(p_values: Any, judged: Any, tiers: Sequence[int], alpha: float) -> list[Finding]:
    """The findings, in the order given. What is not `judged` yet is not counted among the comparisons."""
    findings: list[Finding | None] = [None] * len(p_values)
    numbers = np.asarray(tiers)
    for tier in sorted(set(tiers)):
        members = np.flatnonzero(numbers == tier)
        for member, finding in zip(members, _within(p_values[members], judged[members], alpha), strict=True):
            findings[member] = finding
    return [finding for finding in findings if finding is not None]


def _within(p_values: Any, judged: Any, alpha: float) -> list[Finding]:
    adjusted = np.ones(len(p_values))
    if judged.any():
        adjusted[judged] = false_discovery_control(p_values[judged], method="bh")
    # The level comes as 0.9, and 1 - 0.9 is a little less than 0.1: the tolerance undoes that.
    significant = adjusted <= alpha * (1 + 1e-9)
    count, total = int(significant.sum()), int(judged.sum())
    # A comparison that is not judged yet will be one more when it is.
    return [
        Finding(float(q), bool(found), alpha * (count + (not found)) / (total + (not known)))
        for q, found, known in zip(adjusted, significant, judged, strict=True)
    ]
