"""Sample ratio mismatches of an experiment: its visitors by hour of entry against the weights of its epochs."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from optimizely_api.services.results.query.questions import Epoch, Question
from optimizely_api.services.results.statistics.sample_ratio import ALARM, mismatch_p_value
from optimizely_api.services.results.tables import ENTRY_SLOT, SLOT_MILLISECONDS

HEADER = "X-Sample-Ratio-Mismatch"
# SDKs go on deciding by the datafile they have: the first hours of a later epoch are mixed.
SETTLING_SLOTS = 1
MAX_REMEMBERED = (
    10_000  # experiments whose last state is known, so that the log has a line for each change only
)

log = logging.getLogger("optimizely_api.services.results")


def sample_ratio_p_value(connection: Connection, question: Question) -> float:
    """The always-valid p-value of "visitors come as the weights say", over all that is stored; 1 without epochs."""
    if not question.epochs:
        return 1.0
    c = ENTRY_SLOT.c
    query = select(c.slot, c.variation_id, c.visitors).where(c.experiment_id == question.experiment_id)
    rows = [tuple(row) for row in connection.execute(query.order_by(c.slot))]
    return mismatch_p_value([(epoch.weights, _visitors(epoch, rows)) for epoch in question.epochs])


def _visitors(epoch: Epoch, rows: Sequence[Any]) -> dict[int, Any]:
    """Visitors by variation up to each hour that lies wholly in the epoch."""
    first = -(-epoch.start // SLOT_MILLISECONDS) + SETTLING_SLOTS if epoch.start else 0
    end = None if epoch.end is None else bisect_left(rows, (epoch.end // SLOT_MILLISECONDS,))
    own = rows[bisect_left(rows, (first,)) : end]
    place = {slot: index for index, slot in enumerate(sorted({row[0] for row in own}))}
    visitors = {variation: np.zeros(max(len(place), 1)) for variation in epoch.weights}
    for slot, variation, count in own:
        if variation in visitors:
            visitors[variation][place[slot]] += count
    return {variation: counts.cumsum() for variation, counts in visitors.items()}


class MismatchLog:
    """One line in the log when an experiment's alarm begins, and one when it ends."""

    def __init__(self) -> None:
        self._alarmed: dict[int, None] = {}

    def note(self, experiment_id: int, p_value: float) -> None:
        """Log a change of the alarm."""
        fields = {"experiment_id": experiment_id, "p_value": p_value}
        if p_value > ALARM:
            if experiment_id in self._alarmed:
                del self._alarmed[experiment_id]
                log.info("the sample ratio is as the weights say again", extra={"fields": fields})
        elif experiment_id not in self._alarmed:
            if len(self._alarmed) >= MAX_REMEMBERED:
                del self._alarmed[next(iter(self._alarmed))]
            self._alarmed[experiment_id] = None
            log.warning(
                "sample ratio mismatch: visitors do not come as the weights say", extra={"fields": fields}
            )
