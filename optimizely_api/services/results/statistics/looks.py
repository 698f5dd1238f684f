"""Looks: the times at which an experiment is judged, and what several looks say together.

A p-value that is valid at every look stays valid as the smallest one up to now, and an interval as the intersection
of all up to now. The looks must not depend on who asks: they are the ends of the days (UTC), and the interval's end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

DAY_MILLISECONDS = 86_400_000


def running_intersection(low: Any, high: Any) -> tuple[float, float] | None:
    """What the intervals of all looks have in common; the last look's where that is nothing, None without bounds."""
    low, high = np.ravel(low), np.ravel(high)
    ends = float(np.max(low)), float(np.min(high))
    if ends[0] > ends[1]:
        ends = float(low[-1]), float(high[-1])
    return ends if np.isfinite(ends).all() else None
