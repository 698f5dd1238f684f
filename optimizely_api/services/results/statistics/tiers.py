"""Tiers of metrics whose comparisons are judged together, so that further metrics do not weaken the first one.

The first metric of an experiment is the first tier, the second to fifth are the second, all others the third, as in
Optimizely's Stats Engine (primary, secondary and monitoring metrics). Within each tier: Benjamini and Hochberg's false
discovery control (Journal of the Royal Statistical Society B 57, 1995) over its metrics and all variations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

SECONDARY_METRICS = 4  # after the primary one


@dataclass(frozen=True)
class Finding:
    """The adjusted p-value and the conclusion of one comparison; `alpha` is 1 minus the level of its interval."""

    adjusted: float
    is_significant: bool
    alpha: float


def tier_of(position: int) -> int:
    """The tier of the metric at this position of the experiment's list: 0, 1 or 2."""
    if position == 0:
        return 0
    return 1 if position <= SECONDARY_METRICS else 2


def discoveries(p_values: Any, judged: Any, tiers: Sequence[int], alpha: float) -> list[Finding]:
    """The findings, in the order given. Comparisons that are not `judged` yet do not count."""
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
    # A tolerance for the rounding error of alpha: 1 - 0.9 is a little less than 0.1.
    significant = adjusted <= alpha * (1 + 1e-9)
    count, total = int(significant.sum()), int(judged.sum())
    # A comparison that is not judged yet increases the total when it is.
    return [
        Finding(
            float(q), bool(is_significant), alpha * (count + (not is_significant)) / (total + (not is_judged))
        )
        for q, is_significant, is_judged in zip(adjusted, significant, judged, strict=True)
    ]
