"""The growth of the visitors' totals, day by day: the rollup that past looks are read from.

A row has the changes that the conversions of one day made among the visitors who entered on one day: the number of
visitors who entered or left a size class, and the change of the class's sums. The rows up to a day add up to the state
at its end. The size class of a visitor's total is its power of two and its sign, for each of events, revenue and value.
Classes have two uses: sums of amounts of one magnitude are precise, and outliers can be smoothed (`smoothing`).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from sqlalchemy import Connection

from optimizely_api.services.results.ingest.rollup_tables import Assigned, Total, Totals
from optimizely_api.services.results.statements import write
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.tables import GROWTH, GROWTH_SUMS
from optimizely_api.services.storage.rows import upsert

# Exponents of doubles lie between -1073 and 1024. The offset makes them positive, so that a class can have a sign.
_EXPONENT_OFFSET = 1_100

Path = list[tuple[int, Total]]  # (day, the day's conversions) in order, for one visitor and event
Paths = dict[tuple[int, int], Path]  # by event (or ANY_EVENT) and project


def size_class(amount: float) -> int:
    """The class of an amount other than zero; negative amounts have negative classes."""
    exponent = math.frexp(amount)[1] + _EXPONENT_OFFSET
    return exponent if amount > 0 else -exponent


def size_classes(amounts: Any) -> Any:
    """The classes of an array of amounts other than zero."""
    exponents = np.frexp(amounts)[1].astype(np.int64) + _EXPONENT_OFFSET
    return np.where(amounts > 0, exponents, -exponents)


def upper_bound(magnitude: int) -> float:
    """The bound that all amounts of a class are below, in absolute value; `magnitude` is the class without its sign."""
    return math.ldexp(1.0, magnitude - _EXPONENT_OFFSET)


def paths_of(totals: Totals) -> Paths:
    """The path of each event (or ANY_EVENT) and project."""
    by_key: Paths = {}
    for entity_id, project_id, day in sorted(totals):
        by_key.setdefault((entity_id, project_id), []).append((day, totals[entity_id, project_id, day]))
    return by_key


def total_of(path: Path) -> Total:
    """The sum of all days of a path."""
    total = path[0][1]
    for _, addition in path[1:]:
        total = total.plus(addition)
    return total


class GrowthChanges:
    """Changes of the table's rows."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, ...], list[float]] = {}

    def add(self, experiment_id: int, assigned: Assigned, paths: Paths, sign: int) -> None:
        """Add all changes by a visitor's conversions (`sign` 1), or subtract them again (-1)."""
        entry_day = assigned.entered // DAY_MILLISECONDS
        for (entity_id, project_id), path in paths.items():
            before = None
            for day, addition in path:
                key = (experiment_id, entry_day, day, assigned.variation_id, entity_id, project_id)
                if before is not None:
                    self._count(key, before, -sign)
                after = addition if before is None else before.plus(addition)
                self._count(key, after, sign)
                before = after

    def _count(self, key: tuple[int, ...], total: Total, sign: int) -> None:
        events = total.events
        if not events:
            return
        for field, amount in enumerate((float(events), total.revenue, total.value)):
            if not amount:
                continue
            key_of_row = (*key, field, size_class(amount))
            row = self.rows.get(key_of_row)
            if row is None:
                row = self.rows[key_of_row] = [0.0] * len(GROWTH_SUMS)
            row[0] += sign
            row[1] += sign * amount
            row[2] += sign * amount * amount
            row[3] += sign * amount * events
            row[4] += sign * events

    def write(self, connection: Connection) -> None:
        """Add the changes to the table."""
        changed = ((*key, *row) for key, row in self.rows.items() if any(row))
        write(connection, _addition(connection.dialect.name), changed)


@cache
def _addition(dialect: str) -> Any:
    statement = upsert(dialect, GROWTH)
    added = {name: GROWTH.c[name] + statement.excluded[name] for name in GROWTH_SUMS}
    return statement.on_conflict_do_update(index_elements=list(GROWTH.primary_key), set_=added)
