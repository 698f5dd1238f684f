"""The sums at each look of the past, from the rollup `growth`: prefix sums over the days."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Double, cast, func, select

from optimizely_api.services.results.looks import DAY_MILLISECONDS
from optimizely_api.services.results.smoothing import Sizes
from optimizely_api.services.results.tables import (
    ENTRY_SLOT,
    GROWTH,
    GROWTH_FIELDS,
    GROWTH_SUMS,
    SLOT_MILLISECONDS,
)

SLOTS_OF_DAY = DAY_MILLISECONDS // SLOT_MILLISECONDS
DAILY_LOOKS = 365  # days with data that are looked at; of later ones, every LATER_STEP-th
LATER_STEP = 16

Key = tuple[int, int, str]  # variation, event (or ANY_EVENT), field


@dataclass(frozen=True)
class History:
    """Visitors by variation and totals by variation, event and field, at the end of each day on which either changed.

    The last look is the present: all that counts. Every sum is an array over the looks.
    """

    days: Any
    visitors: dict[int, Any]
    totals: dict[Key, Sizes]

    def totals_of(self, variations: Sequence[int], entity_id: int, field: str) -> dict[int, Sizes]:
        """The totals of each variation; without any class where nobody converted."""
        nothing = np.zeros((0, len(self.days)))
        empty = Sizes(np.zeros(0, int), *[nothing] * len(GROWTH_SUMS))
        return {variation: self.totals.get((variation, entity_id, field), empty) for variation in variations}


def load_history(
    connection: Connection,
    experiment_id: int,
    variations: Collection[int],
    entities: Collection[int],
    concerns_project: ColumnElement[bool],
) -> History:
    """The whole history of the experiment's visitors, all that is stored about them."""
    entered = _visitors(connection, experiment_id, variations)
    grown = _growth(connection, experiment_id, variations, entities, concerns_project)
    days = np.unique(np.array([row[0] for row in (*entered, *grown)], dtype=int))
    place = {int(day): index for index, day in enumerate(days)}
    kept = _kept_looks(len(days))
    visitors = {variation: np.zeros(len(days)) for variation in variations}
    for day, variation, count in entered:
        visitors[variation][place[day]] += count
    return History(
        days[kept],
        {variation: counts.cumsum()[kept] for variation, counts in visitors.items()},
        _totals(grown, place, kept),
    )


def _kept_looks(count: int) -> Any:
    """All days of the first year, then every sixteenth, so that earlier looks stay; and the last one."""
    looks = np.arange(count)
    return looks[(looks < DAILY_LOOKS) | (looks % LATER_STEP == 0) | (looks == count - 1)]


def _visitors(connection: Connection, experiment_id: int, variations: Collection[int]) -> Sequence[Any]:
    c = ENTRY_SLOT.c
    day = c.slot // SLOTS_OF_DAY
    query = select(day, c.variation_id, cast(func.sum(c.visitors), Double))
    query = query.where(c.experiment_id == experiment_id, c.variation_id.in_(variations))
    return connection.execute(query.group_by(day, c.variation_id)).all()


def _growth(
    connection: Connection,
    experiment_id: int,
    variations: Collection[int],
    entities: Collection[int],
    concerns_project: ColumnElement[bool],
) -> Sequence[Any]:
    c = GROWTH.c
    keys = (c.day, c.variation_id, c.entity_id, c.field, c.size)
    query = select(*keys, *(func.sum(c[name]) for name in GROWTH_SUMS))
    query = query.where(c.experiment_id == experiment_id, c.variation_id.in_(variations))
    query = query.where(c.entity_id.in_(entities), concerns_project)
    return connection.execute(query.group_by(*keys)).all()


def _totals(rows: Sequence[Any], place: dict[int, int], kept: Any) -> dict[Key, Sizes]:
    by_key: dict[Key, dict[int, Any]] = {}
    for day, variation, entity, field, size, *sums in rows:
        classes = by_key.setdefault((variation, entity, GROWTH_FIELDS[field]), {})
        if size not in classes:
            classes[size] = np.zeros((len(GROWTH_SUMS), len(place)))
        classes[size][:, place[day]] += sums
    return {key: _sizes(classes, kept) for key, classes in by_key.items()}


def _sizes(classes: dict[int, Any], kept: Any) -> Sizes:
    sums = np.stack([classes[size] for size in sorted(classes)]).cumsum(axis=2)[:, :, kept]
    # A class that everybody has left holds what rounding left over.
    sums = np.where(np.round(sums[:, :1, :]) == 0, 0.0, sums)
    return Sizes(np.array(sorted(classes)), *np.moveaxis(sums, 1, 0))
