"""A metric's moments at each look, for the test: from a history, with outliers smoothed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from optimizely_api.services.results.query.history import History
from optimizely_api.services.results.query.questions import Metric, Variation
from optimizely_api.services.results.statistics.inference import Arm, Moments, Numbers, per_visitor
from optimizely_api.services.results.statistics.smoothing import Sizes, smoothed
from optimizely_api.services.results.tables import ANY_EVENT


def arms_over_looks(
    history: History, metric: Metric, variations: Sequence[Variation]
) -> dict[Variation, Arm]:
    """The metric in each variation; the moments are arrays over the looks."""
    entity, ids = metric.event_id or ANY_EVENT, [variation.variation_id for variation in variations]
    events = history.totals_of(ids, entity, "events")
    # Events are the denominator of a rate per event: there only revenue and value are smoothed.
    amounts = events if metric.scope == "event" else smoothed(events)
    if metric.field:
        amounts = smoothed(history.totals_of(ids, entity, metric.field))
    return {
        variation: _arm(metric, history.visitors[number], events[number], amounts[number])
        for variation, number in zip(variations, ids, strict=True)
    }


def _arm(metric: Metric, visitors: Numbers, events: Sizes, amounts: Sizes) -> Arm:
    converting = events.visitors.sum(axis=0)
    x, xx, xy = amounts.sums
    y, yy, _ = events.sums
    if metric.aggregator == "unique":
        x, xx, xy = converting, converting, y
    direction = metric.winning_direction
    if metric.scope == "event":
        return Arm(Moments(visitors, converting, x, xx, y, yy, xy), "ratio", direction)
    moments = per_visitor(visitors, converting, x, xx)
    return Arm(moments, "proportion" if metric.aggregator == "unique" else "mean", direction)


def and_then(past: Arm, present: Arm) -> Arm:
    """The arm over the past looks, with the present as one more look."""
    (old,), (new,) = past.by_epoch, present.by_epoch
    names = [field.name for field in fields(Moments)]
    return replace(
        past, moments=Moments(*(np.append(getattr(old, name), getattr(new, name)) for name in names))
    )


def in_strata(arms: Sequence[Arm]) -> Arm:
    """One arm from a variation's arms in each stratum."""
    return replace(arms[0], moments=tuple(moments for arm in arms for moments in arm.by_epoch))
