"""The sums at each look of the past, from the rollup `growth`: prefix sums over the days.

Days of entry whose visitors do not all count, or not in one stratum, are summed up visitor by visitor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Double, case, cast, func, or_, select

from optimizely_api.services.results.ingest.growth import GrowthChanges
from optimizely_api.services.results.ingest.rollup_tables import Assigned, Totals
from optimizely_api.services.results.statements import paced
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.statistics.smoothing import Sizes
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
DayRange = tuple[int, int, int]  # first and last day of entry, stratum


@dataclass(frozen=True)
class Scope:
    """Whose history: of an experiment the variations, the events (or ANY_EVENT), the conversions of a project."""

    experiment_id: int
    variations: Collection[int]
    entities: Collection[int]
    concerns_project: ColumnElement[bool]


@dataclass
class Visitors:
    """Visitors of cut days of a stratum: how many entered by day and variation, and what they did."""

    entered: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    growth: GrowthChanges = field(default_factory=GrowthChanges)

    def add(self, experiment_id: int, assigned: Assigned, totals: Totals) -> None:
        """Add one visitor."""
        self.entered[assigned.entered // DAY_MILLISECONDS, assigned.variation_id] += 1
        self.growth.add(experiment_id, assigned, totals, 1)


@dataclass(frozen=True)
class History:
    """Visitors by variation and totals by variation, event and field, at the end of each day on which either changed.

    The last look is the present, all that counts, unless the history `ends_early`: then the present is one look more.
    Every sum is an array over the looks.
    """

    days: Any
    visitors: dict[int, Any]
    totals: dict[Key, Sizes]
    ends_early: bool = False

    def totals_of(self, variations: Sequence[int], entity_id: int, field: str) -> dict[int, Sizes]:
        """The totals of each variation; without any class where nobody converted."""
        nothing = np.zeros((0, len(self.days)))
        empty = Sizes(np.zeros(0, int), *[nothing] * len(GROWTH_SUMS))
        return {variation: self.totals.get((variation, entity_id, field), empty) for variation in variations}


def load_histories(
    connection: Connection,
    scope: Scope,
    ranges: Sequence[DayRange],
    others: Sequence[Visitors],
    before_day: int | None = None,
) -> list[History]:
    """The history of each stratum, all over the same days: of whole days of entry, and of the `others` of each.

    With `before_day` they end early: with the day before it.
    """
    entered = [*_entered(connection, scope, ranges)]
    grown = [*_grown(connection, scope, ranges)]
    for number, visitors in enumerate(others):
        entered += [(number, *key, count) for key, count in visitors.entered.items()]
        grown += [(number, *key[2:5], *key[6:], *row) for key, row in visitors.growth.rows.items()]
    if before_day is not None:
        entered = [row for row in entered if row[1] < before_day]
        grown = [row for row in grown if row[1] < before_day]
    grown = [row for row in grown if row[3] in scope.entities]
    days = np.unique(np.array([row[1] for row in (*entered, *grown)], dtype=int))
    kept = _kept_looks(len(days))
    return [
        _history(
            days,
            kept,
            scope.variations,
            [row[1:] for row in entered if row[0] == number],
            [row[1:] for row in grown if row[0] == number],
            before_day is not None,
        )
        for number in range(len(others))
    ]


def _history(
    days: Any, kept: Any, variations: Collection[int], entered: Any, grown: Any, ends_early: bool
) -> History:
    place = {int(day): index for index, day in enumerate(days)}
    visitors = {variation: np.zeros(len(days)) for variation in variations}
    for day, variation, count in entered:
        visitors[variation][place[day]] += count
    return History(
        days[kept],
        {variation: counts.cumsum()[kept] for variation, counts in visitors.items()},
        _totals(grown, place, kept),
        ends_early,
    )


def _kept_looks(count: int) -> Any:
    """All days of the first year, then every sixteenth, so that earlier looks stay; and the last one."""
    looks = np.arange(count)
    return looks[(looks < DAILY_LOOKS) | (looks % LATER_STEP == 0) | (looks == count - 1)]


def _entered(connection: Connection, scope: Scope, ranges: Sequence[DayRange]) -> Iterable[Any]:
    if not ranges:
        return []
    c = ENTRY_SLOT.c
    by_slot = [
        (first * SLOTS_OF_DAY, (last + 1) * SLOTS_OF_DAY - 1, number) for first, last, number in ranges
    ]
    stratum, condition = _by_range(c.slot, by_slot)
    day = c.slot // SLOTS_OF_DAY
    query = select(stratum, day, c.variation_id, cast(func.sum(c.visitors), Double))
    query = query.where(
        c.experiment_id == scope.experiment_id, c.variation_id.in_(scope.variations), condition
    )
    return paced(connection.execute(query.group_by(stratum, day, c.variation_id)).all())


def _grown(connection: Connection, scope: Scope, ranges: Sequence[DayRange]) -> Iterable[Any]:
    if not ranges:
        return []
    c = GROWTH.c
    stratum, condition = _by_range(c.entry_day, ranges)
    keys = (stratum, c.day, c.variation_id, c.entity_id, c.field, c.size)
    query = select(*keys, *(func.sum(c[name]) for name in GROWTH_SUMS))
    query = query.where(
        c.experiment_id == scope.experiment_id, c.variation_id.in_(scope.variations), condition
    )
    query = query.where(c.entity_id.in_(scope.entities), scope.concerns_project)
    return paced(connection.execute(query.group_by(*keys)).all())


def _by_range(column: Any, ranges: Sequence[DayRange]) -> tuple[Any, ColumnElement[bool]]:
    """The stratum's number by the range that the column lies in, and whether it lies in any."""
    conditions = [column.between(first, last) for first, last, _ in ranges]
    numbers = [number for *_, number in ranges]
    stratum = case(*zip(conditions, numbers, strict=True), else_=0).label("stratum")
    return stratum, or_(*conditions)


def _totals(rows: Sequence[Any], place: dict[int, int], kept: Any) -> dict[Key, Sizes]:
    by_key: dict[Key, dict[int, Any]] = {}
    for day, variation, entity, field_number, size, *sums in rows:
        classes = by_key.setdefault((variation, entity, GROWTH_FIELDS[field_number]), {})
        if size not in classes:
            classes[size] = np.zeros((len(GROWTH_SUMS), len(place)))
        classes[size][:, place[day]] += sums
    return {key: _sizes(classes, kept) for key, classes in by_key.items()}


def _sizes(classes: dict[int, Any], kept: Any) -> Sizes:
    sums = np.stack([classes[size] for size in sorted(classes)]).cumsum(axis=2)[:, :, kept]
    # A class that everybody has left holds what rounding left over.
    sums = np.where(np.round(sums[:, :1, :]) == 0, 0.0, sums)
    return Sizes(np.array(sorted(classes)), *np.moveaxis(sums, 1, 0))
