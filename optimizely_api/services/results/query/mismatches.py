"""Sample ratio mismatches of an experiment: compares its visitors by hour of entry with the weights of its epochs."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from optimizely_api.services.results.query.questions import Epoch, Question
from optimizely_api.services.results.statistics.sample_ratio import ALARM, mismatch_p_value
from optimizely_api.services.results.tables import ENTRY_HOUR, HOUR_MILLISECONDS

HEADER = "X-Sample-Ratio-Mismatch"
# SDKs use their old datafile for a while after a change, so the beginning of a later epoch has a mix of weights.
SETTLING_HOURS = 1
MAX_ALARMED = 10_000  # experiments whose alarm is remembered, so that only its changes are logged

log = logging.getLogger("optimizely_api.services.results")


def sample_ratio_p_value(connection: Connection, question: Question) -> float:
    """The always-valid p-value of "the weights hold", over all stored visitors; 1 without epochs."""
    if not question.epochs:
        return 1.0
    c = ENTRY_HOUR.c
    query = select(c.entry_hour, c.variation_id, c.visitors).where(c.experiment_id == question.experiment_id)
    rows = [tuple(row) for row in connection.execute(query.order_by(c.entry_hour))]
    return mismatch_p_value([(epoch.weights, _visitors(epoch, rows)) for epoch in question.epochs])


def _visitors(epoch: Epoch, rows: Sequence[Any]) -> dict[int, Any]:
    """Running totals of visitors by variation, over the hours that lie wholly in the epoch."""
    first = -(-epoch.start // HOUR_MILLISECONDS) + SETTLING_HOURS if epoch.start else 0
    end = None if epoch.end is None else bisect_left(rows, (epoch.end // HOUR_MILLISECONDS,))
    epoch_rows = rows[bisect_left(rows, (first,)) : end]
    index_of = {hour: index for index, hour in enumerate(sorted({row[0] for row in epoch_rows}))}
    visitors = {variation: np.zeros(max(len(index_of), 1)) for variation in epoch.weights}
    for hour, variation, count in epoch_rows:
        if variation in visitors:
            visitors[variation][index_of[hour]] += count
    return {variation: counts.cumsum() for variation, counts in visitors.items()}


class MismatchLog:
    """Logs a line when an experiment's alarm begins, and one when it ends."""

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
            if len(self._alarmed) >= MAX_ALARMED:
                del self._alarmed[next(iter(self._alarmed))]
            self._alarmed[experiment_id] = None
            log.warning(
                "sample ratio mismatch: visitors do not come as the weights say", extra={"fields": fields}
            )
