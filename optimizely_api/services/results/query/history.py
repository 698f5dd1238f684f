"""The sums at each past look: prefix sums over the days of the rollup `growth`.

Cut days (days of entry whose visitors do not all count, or not in one stratum) are summed up visitor by visitor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Double, case, cast, func, or_, select

from optimizely_api.services.results.ingest.growth import GrowthChanges, paths_of
from optimizely_api.services.results.ingest.rollup_tables import Assigned, Totals
from optimizely_api.services.results.statements import paced
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.statistics.smoothing import Sizes
from optimizely_api.services.results.tables import (
    ENTRY_HOUR,
    GROWTH,
    GROWTH_FIELDS,
    GROWTH_SUMS,
    HOUR_MILLISECONDS,
)

HOURS_OF_DAY = DAY_MILLISECONDS // HOUR_MILLISECONDS
DAILY_LOOKS = 365  # the first days with data have a look each; of later days, every LATER_STEP-th has one
LATER_STEP = 16

Key = tuple[int, int, str]  # variation, event (or ANY_EVENT), field
DayRange = tuple[int, int, int]  # first and last day of entry, stratum


@dataclass(frozen=True)
class Scope:
    """The experiment, variations, events (or ANY_EVENT) and project that a history is about."""

    experiment_id: int
    variations: Collection[int]
    entities: Collection[int]
    concerns_project: ColumnElement[bool]


@dataclass
class Visitors:
    """The visitors of a stratum's cut days: their number by day of entry and variation, and their growth rows."""

    entered: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    growth: GrowthChanges = field(default_factory=GrowthChanges)

    def add(self, experiment_id: int, assigned: Assigned, totals: Totals) -> None:
        """Add one visitor."""
        self.entered[assigned.entered // DAY_MILLISECONDS, assigned.variation_id] += 1
        self.growth.add(experiment_id, assigned, paths_of(totals), 1)


@dataclass(frozen=True)
class History:
    """Visitors by variation and totals by variation, event and field, at the end of each day on which either changed.

    Every sum is an array over the looks. The last look includes everything that counts, unless the history
    `ends_early`: then the caller adds the present as one more look.
    """

    days: Any
    visitors: dict[int, Any]
    totals: dict[Key, Sizes]
    ends_early: bool = False

    def totals_of(self, variations: Sequence[int], entity_id: int, field: str) -> dict[int, Sizes]:
        """The totals of each variation; a variation without conversions has no size class."""
        no_rows = np.zeros((0, len(self.days)))
        empty = Sizes(np.zeros(0, int), *[no_rows] * len(GROWTH_SUMS))
        return {variation: self.totals.get((variation, entity_id, field), empty) for variation in variations}


def load_histories(
    connection: Connection,
    scope: Scope,
    ranges: Sequence[DayRange],
    others: Sequence[Visitors],
    before_day: int | None = None,
    *,
    every_day: bool = False,
) -> list[History]:
    """The history of each stratum, all over the same days: the whole days of entry in `ranges`, and `others`.

    With `before_day` the histories end with the day before it; with `every_day` they have all days with data.
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
    looks = np.arange(len(days)) if every_day else _select_looks(len(days))
    return [
        _history(
            days,
            looks,
            scope.variations,
            [row[1:] for row in entered if row[0] == number],
            [row[1:] for row in grown if row[0] == number],
            before_day is not None,
        )
        for number in range(len(others))
    ]


def _history(
    days: Any, looks: Any, variations: Collection[int], entered: Any, grown: Any, ends_early: bool
) -> History:
    index_of = {int(day): index for index, day in enumerate(days)}
    visitors = {variation: np.zeros(len(days)) for variation in variations}
    for day, variation, count in entered:
        visitors[variation][index_of[day]] += count
    return History(
        days[looks],
        {variation: counts.cumsum()[looks] for variation, counts in visitors.items()},
        _totals(grown, index_of, looks),
        ends_early,
    )


def _select_looks(count: int) -> Any:
    """The indexes of the days that are looks: DAILY_LOOKS, then every LATER_STEP-th, and the last day.

    A further day of data never removes an earlier look: looks must not depend on when the question is asked.
    """
    days = np.arange(count)
    return days[are_lasting_looks(days) | (days == count - 1)]


def are_lasting_looks(days: Any) -> Any:
    """Whether the days with data, numbered from 0, are looks for good; the last one is a look as long as it is."""
    return (days < DAILY_LOOKS) | (days % LATER_STEP == 0)


def _entered(connection: Connection, scope: Scope, ranges: Sequence[DayRange]) -> Iterable[Any]:
    if not ranges:
        return []
    c = ENTRY_HOUR.c
    hour_ranges = [
        (first * HOURS_OF_DAY, (last + 1) * HOURS_OF_DAY - 1, number) for first, last, number in ranges
    ]
    stratum, condition = _by_range(c.entry_hour, hour_ranges)
    day = c.entry_hour // HOURS_OF_DAY
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
    """Two SQL expressions: the number of the stratum whose range contains the column, and whether any does."""
    conditions = [column.between(first, last) for first, last, _ in ranges]
    numbers = [number for *_, number in ranges]
    stratum = case(*zip(conditions, numbers, strict=True), else_=0).label("stratum")
    return stratum, or_(*conditions)


def _totals(rows: Sequence[Any], index_of: dict[int, int], looks: Any) -> dict[Key, Sizes]:
    by_key: dict[Key, dict[int, Any]] = {}
    for day, variation, entity, field_number, size, *sums in rows:
        classes = by_key.setdefault((variation, entity, GROWTH_FIELDS[field_number]), {})
        if size not in classes:
            classes[size] = np.zeros((len(GROWTH_SUMS), len(index_of)))
        classes[size][:, index_of[day]] += sums
    return {key: _sizes(classes, looks) for key, classes in by_key.items()}


def _sizes(classes: dict[int, Any], looks: Any) -> Sizes:
    sums = np.stack([classes[size] for size in sorted(classes)]).cumsum(axis=2)[:, :, looks]
    # The sums of a class without visitors are rounding errors.
    sums = np.where(np.round(sums[:, :1, :]) == 0, 0.0, sums)
    return Sizes(np.array(sorted(classes)), *np.moveaxis(sums, 1, 0))
