"""The past of visitors who entered on days whose visitors do not all count, or not in one stratum.

The rollup `growth` knows days of entry as wholes alone. So the totals of these visitors are read, some thousand at a
time, and what each day changed in the sums is worked out of them as `growth` does, over arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import func, select

from optimizely_api.services.results.ingest.growth import size_classes
from optimizely_api.services.results.query.history import SLOTS_OF_DAY, Visitors
from optimizely_api.services.results.query.measurement import Selection
from optimizely_api.services.results.query.stretches import Stretch, slot_times
from optimizely_api.services.results.tables import (
    ASSIGNMENT,
    GROWTH_FIELDS,
    GROWTH_SUMS,
    SLOT_MILLISECONDS,
    VISITOR_TOTAL,
)

VISITORS_AT_ONCE = 5_000


def add_cut_days(selection: Selection, times: Sequence[Stretch], others: Visitors, most: int) -> int | None:
    """Add who entered at these times; returns how many, or None, adding nobody, where they are more than `most`."""
    if not times:
        return 0
    a = ASSIGNMENT.c
    slot = a.entered // SLOT_MILLISECONDS
    query = select(slot, a.variation_id, func.count()).where(selection.visitors(times))
    rows = selection.connection.execute(query.group_by(slot, a.variation_id)).all()
    entered: int = sum(row[2] for row in rows)
    if entered > most:
        return None
    by_slot: dict[int, int] = {}
    for number, variation, count in rows:
        by_slot[number] = by_slot.get(number, 0) + count
        others.entered[number // SLOTS_OF_DAY, variation] += count
    for piece in _pieces(times, by_slot):
        _add_growth(selection, piece, others)
    return entered


def _pieces(times: Sequence[Stretch], by_slot: Mapping[int, int]) -> Iterator[list[Stretch]]:
    """The times in parts of about VISITORS_AT_ONCE."""
    piece: list[Stretch] = []
    size = 0
    for start, end in times:
        for slot in range(start // SLOT_MILLISECONDS, -(-end // SLOT_MILLISECONDS)):
            if piece and size + by_slot.get(slot, 0) > VISITORS_AT_ONCE:
                yield piece
                piece, size = [], 0
            first, last = slot_times(slot)
            part = max(start, first), min(end, last)
            if piece and piece[-1][1] == part[0]:
                part = piece.pop()[0], part[1]
            piece.append(part)
            size += by_slot.get(slot, 0)
    if size:
        yield piece


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
    """The sums along each path; `follows` says whether a column goes on with the path of the one before it."""
    # Not one running sum over all paths: the paths' differences would hold its rounding.
    totals = added.copy()
    place = np.arange(len(follows)) - np.maximum.accumulate(np.where(follows, 0, np.arange(len(follows))))
    for step in range(1, int(place.max()) + 1):
        (index,) = np.nonzero(place == step)
        totals[:, index] += totals[:, index - 1]
    return totals


def _add_classes(others: Visitors, about: Any, field: int, totals: Any, sign: int) -> None:
    """Add to the classes of one field, or take from them, visitors by day, variation and event."""
    events, amounts = totals[0], totals[field]
    (index,) = np.nonzero((events != 0) & (amounts != 0))
    if not index.size:
        return
    x, y = amounts[index], events[index]
    keys = np.vstack([about[:, index], size_classes(x)])
    found, place = np.unique(keys, axis=1, return_inverse=True)
    parts = (np.ones(len(x)), x, x * x, x * y, y)
    sums = [sign * np.bincount(place.ravel(), weights=part) for part in parts]
    for (day, variation, entity, size), *numbers in zip(found.T.tolist(), *sums, strict=True):
        # Neither the experiment nor the day of entry nor the project parts the rows here.
        row = others.growth.rows.setdefault(
            (0, 0, day, variation, entity, 0, field, size), [0.0] * len(GROWTH_SUMS)
        )
        for number, value in enumerate(numbers):
            row[number] += float(value)
