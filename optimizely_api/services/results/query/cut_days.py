"""The history of visitors who entered on a cut day: a day whose visitors do not all count, or not in one stratum.

The rollup `growth` has sums over whole days of entry only. So the totals of these visitors are read, some thousand
visitors at a time, and each day's change of the sums is computed from them as `growth` does, with arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import func, select

from optimizely_api.services.results.ingest.growth import size_classes
from optimizely_api.services.results.query.history import HOURS_OF_DAY, Visitors
from optimizely_api.services.results.query.measurement import Selection
from optimizely_api.services.results.query.stretches import Stretch, hour_times
from optimizely_api.services.results.tables import (
    ASSIGNMENT,
    GROWTH_FIELDS,
    GROWTH_SUMS,
    HOUR_MILLISECONDS,
    VISITOR_TOTAL,
)

VISITORS_AT_ONCE = 5_000


def add_cut_days(selection: Selection, times: Sequence[Stretch], others: Visitors, most: int) -> int | None:
    """Add the visitors who entered at these times to `others` and return their number.

    If there are more than `most`, add none and return None.
    """
    if not times:
        return 0
    a = ASSIGNMENT.c
    entry_hour = a.entered // HOUR_MILLISECONDS
    query = select(entry_hour, a.variation_id, func.count()).where(selection.visitors(times))
    rows = selection.connection.execute(query.group_by(entry_hour, a.variation_id)).all()
    entered: int = sum(row[2] for row in rows)
    if entered > most:
        return None
    by_hour: dict[int, int] = {}
    for hour, variation, count in rows:
        by_hour[hour] = by_hour.get(hour, 0) + count
        others.entered[hour // HOURS_OF_DAY, variation] += count
    for group in _groups(times, by_hour):
        _add_growth(selection, group, others)
    return entered


def _groups(times: Sequence[Stretch], visitors_by_hour: Mapping[int, int]) -> Iterator[list[Stretch]]:
    """The times in groups of about VISITORS_AT_ONCE visitors."""
    group: list[Stretch] = []
    size = 0
    for start, end in times:
        for hour in range(start // HOUR_MILLISECONDS, -(-end // HOUR_MILLISECONDS)):
            visitors = visitors_by_hour.get(hour, 0)
            if group and size + visitors > VISITORS_AT_ONCE:
                yield group
                group, size = [], 0
            first, last = hour_times(hour)
            part = max(start, first), min(end, last)
            if group and group[-1][1] == part[0]:
                part = group.pop()[0], part[1]
            group.append(part)
            size += visitors
    if size:
        yield group


def _add_growth(selection: Selection, times: Sequence[Stretch], others: Visitors) -> None:
    a, t = ASSIGNMENT.c, VISITOR_TOTAL.c
    joined = (t.visitor_id == a.visitor_id) & (t.experiment_id == a.experiment_id)
    keys = (a.variation_id, a.visitor_id, t.entity_id, t.project_id, t.day)
    query = select(*keys, t.events, t.revenue, t.value).join(VISITOR_TOTAL, joined)
    query = query.where(selection.visitors(times), t.entity_id.in_(selection.entities), t.events > 0)
    rows = selection.connection.execute(query.where(selection.concerns_project(t))).all()
    if not rows:
        return
    columns = list(zip(*rows, strict=True))
    variation, visitor, entity, project, day = (np.array(column, np.int64) for column in columns[:5])
    order = np.lexsort((day, project, entity, visitor))
    same = [np.diff(column[order]) == 0 for column in (visitor, entity, project)]
    follows = np.concatenate([[False], np.logical_and.reduce(same)])
    added = np.array(columns[5:], float)[:, order]
    after = _running_totals(added, follows)
    before = np.where(follows, np.roll(after, 1, axis=1), 0.0)
    about = np.stack([day, variation, entity])[:, order]
    for field in range(len(GROWTH_FIELDS)):
        for totals, sign in ((before, -1), (after, 1)):
            _add_classes(others, about, field, totals, sign)


def _running_totals(added: Any, follows: Any) -> Any:
    """Running sums over the days of each path; `follows` is true where a column continues its predecessor's path."""
    # Not differences of one running sum over all columns: these would contain its rounding errors.
    totals = added.copy()
    step_of = np.arange(len(follows)) - np.maximum.accumulate(np.where(follows, 0, np.arange(len(follows))))
    for step in range(1, int(step_of.max()) + 1):
        (index,) = np.nonzero(step_of == step)
        totals[:, index] += totals[:, index - 1]
    return totals


def _add_classes(others: Visitors, about: Any, field: int, totals: Any, sign: int) -> None:
    """Add visitors to the size classes of one field (`sign` 1), or take them out (-1).

    The columns of `about` are day, variation and event, those of `totals` the visitors' totals.
    """
    events, amounts = totals[0], totals[field]
    (index,) = np.nonzero((events != 0) & (amounts != 0))
    if not index.size:
        return
    x, y = amounts[index], events[index]
    keys = np.vstack([about[:, index], size_classes(x)])
    distinct, inverse = np.unique(keys, axis=1, return_inverse=True)
    parts = (np.ones(len(x)), x, x * x, x * y, y)
    sums = [sign * np.bincount(inverse.ravel(), weights=part) for part in parts]
    for (day, variation, entity, size), *numbers in zip(distinct.T.tolist(), *sums, strict=True):
        # The zeros: the experiment, the day of entry and the project are the same for all rows here.
        row = others.growth.rows.setdefault(
            (0, 0, day, variation, entity, 0, field, size), [0.0] * len(GROWTH_SUMS)
        )
        for number, value in enumerate(numbers):
            row[number] += float(value)
