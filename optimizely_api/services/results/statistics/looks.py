"""Looks: the times at which an experiment is judged, and how several looks are combined.

If a p-value is valid at every look, the smallest one up to now is valid too; so is the intersection of the intervals up
to now. Looks must not depend on the requests: they are the ends of the days (UTC), and the interval's end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

DAY_MILLISECONDS = 86_400_000


def running_intersection(low: Any, high: Any) -> tuple[float, float] | None:
    """The intersection of the intervals of all looks; the last look's if it is empty, None without bounds."""
    low, high = np.ravel(low), np.ravel(high)
    ends = float(np.max(low)), float(np.min(high))
    if ends[0] > ends[1]:
        ends = float(low[-1]), float(high[-1])
    return ends if np.isfinite(ends).all() else None
