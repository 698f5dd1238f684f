"""Reads and writes assignments and rollups; `rollups` computes the values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, Table, case, func, literal_column, select

from optimizely_api.services.results.statements import Lookup, OneOf, chunks, paced, write
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.tables import (
    ASSIGNMENT,
    CELL,
    CELL_SUMS,
    COMPENSATED_SUMS,
    ENTRY_HOUR,
    EVENT,
    HOUR_MILLISECONDS,
    VISITOR_TOTAL,
)
from optimizely_api.services.storage.rows import upsert

Pair = tuple[int, int]  # visitor, experiment


class Assigned(NamedTuple):
    """A visitor's variation in an experiment, the time of the decision, and the project of the decision's batch."""

    variation_id: int
    entered: int
    project_id: int | None

    @property
    def entry_hour(self) -> int:
        """The hour of entry, numbered from 1970 as in the rollups."""
        return self.entered // HOUR_MILLISECONDS


class Total(NamedTuple):
    """A visitor's conversions on one event (or on any) that count for one experiment."""

    events: int = 0
    revenue: float = 0.0
    value: float = 0.0
    revenue_squares: float = 0.0
    value_squares: float = 0.0

    def plus(self, other: Total) -> Total:
        """The conversions of both."""
        return Total(
            self.events + other.events,
            self.revenue + other.revenue,
            self.value + other.value,
            self.revenue_squares + other.revenue_squares,
            self.value_squares + other.value_squares,
        )


Totals = dict[tuple[int, int, int], Total]  # by event (or ANY_EVENT), project and day


def rounding_error(one: Any, other: Any, total: Any) -> Any:
    """The exact rounding error of the sum `total` of `one` and `other` (Knuth's TwoSum); for floats or SQL columns."""
    part = total - one
    return (one - (total - part)) + (other - part)


@Lookup
def _assignments(one_of: OneOf) -> Select[Any]:
    c = ASSIGNMENT.c
    query = select(c.visitor_id, c.experiment_id, c.variation_id, c.entered, c.project_id)
    return query.where(one_of(c.visitor_id, "visitors"))


@Lookup
def _totals(one_of: OneOf) -> Select[Any]:
    c = VISITOR_TOTAL.c
    keys = (c.visitor_id, c.experiment_id, c.entity_id, c.project_id, c.day)
    return select(*keys, *(c[name] for name in Total._fields)).where(one_of(c.visitor_id, "visitors"))


@Lookup
def conversions(one_of: OneOf) -> Select[Any]:
    a, e = ASSIGNMENT.c, EVENT.c
    day = e.happened // DAY_MILLISECONDS
    # Not a plain column: without statistics PostgreSQL would look up the experiment and read all of its visitors.
    experiment = a.experiment_id + literal_column("0")
    revenue, value = (func.coalesce(column, 0.0) * 1.0 for column in (e.revenue, e.value))
    sums = (func.count(), *(func.sum(x) for x in (revenue, value, revenue * revenue, value * value)))
    return (
        select(a.visitor_id, a.experiment_id, e.entity_id, e.project_id, func.max(e.happened), *sums)
        .join(EVENT, (e.visitor_id == a.visitor_id) & (e.happened >= a.entered))
        .where(e.is_impression.is_(False))
        .where(one_of(a.visitor_id, "visitors"), one_of(experiment, "experiments"))
        .group_by(a.visitor_id, a.experiment_id, e.entity_id, e.project_id, day)
    )


def load_assignments(connection: Connection, visitors: Iterable[int]) -> dict[Pair, Assigned]:
    """All assignments of the visitors."""
    return {
        (row[0], row[1]): Assigned(row[2], row[3], row[4])
        for chunk in chunks(visitors)
        for row in paced(_assignments.rows(connection, visitors=chunk))
    }


def load_totals(connection: Connection, visitors: Iterable[int]) -> dict[Pair, Totals]:
    """All totals of the visitors."""
    totals: dict[Pair, Totals] = defaultdict(dict)
    for chunk in chunks(visitors):
        for row in paced(_totals.rows(connection, visitors=chunk)):
            totals[row[0], row[1]][row[2], row[3], row[4]] = Total(*row[5:])
    return totals


def sum_up_conversions(connection: Connection, pairs: Iterable[Pair]) -> Iterable[Any]:
    """Conversions of each pair, event, project and day, summed up from the raw events.

    Yields (pair, event, project, time of the last conversion, then the fields of a Total).
    """
    for chunk in chunks(pairs):
        visitors = list({visitor for visitor, _ in chunk})
        experiments = list({experiment for _, experiment in chunk})
        # The query finds every combination of these visitors and experiments, so also pairs outside the chunk.
        pairs_of_chunk = set(chunk)
        for row in paced(conversions.rows(connection, visitors=visitors, experiments=experiments)):
            if (row[0], row[1]) in pairs_of_chunk:
                yield (row[0], row[1]), *row[2:]


def write_assignments(connection: Connection, changed: dict[Pair, Assigned]) -> None:
    """Insert the assignments or replace the stored ones."""
    rows = ((*pair, *assigned) for pair, assigned in changed.items())
    write(connection, _replacement(connection.dialect.name, ASSIGNMENT, Assigned._fields), rows)


def write_totals(connection: Connection, totals: dict[Pair, Totals]) -> None:
    """Insert the totals or replace the stored ones."""
    rows = ((*pair, *key, *total) for pair, of_pair in totals.items() for key, total in of_pair.items())
    write(connection, _replacement(connection.dialect.name, VISITOR_TOTAL, Total._fields), rows)


@cache
def _replacement(dialect: str, table: Table, replaced: tuple[str, ...]) -> Any:
    statement = upsert(dialect, table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={name: statement.excluded[name] for name in replaced},
    )


class CellChanges:
    """Changes of the cells: their sums, and the sums' rounding errors."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, ...], list[float]] = {}

    def add(self, key: tuple[int, ...], numbers: Collection[float], sign: int) -> None:
        """Add the numbers of CELL_SUMS to the cell with this primary key (`sign` 1), or subtract them (-1)."""
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = [0.0] * (len(CELL_SUMS) + len(COMPENSATED_SUMS))
        first_rest = len(CELL_SUMS)
        first_compensated = first_rest - len(COMPENSATED_SUMS)
        for index, number in enumerate(numbers):
            if not number:  # most are: few conversions have amounts
                continue
            before = cell[index]
            cell[index] = total = before + sign * number
            if index >= first_compensated:
                rest = first_rest + index - first_compensated
                cell[rest] += rounding_error(before, sign * number, total)

    def write(self, connection: Connection) -> None:
        """Add the changes to the table."""
        rows = ((*key, *sums) for key, sums in self._cells.items())
        write(connection, _cell_addition(connection.dialect.name), rows)


@cache
def _cell_addition(dialect: str) -> Any:
    statement, c = upsert(dialect, CELL), CELL.c
    new = statement.excluded
    changes = {name: c[name] + new[name] for name in CELL_SUMS}
    for name in COMPENSATED_SUMS:
        error = rounding_error(c[name], new[name], c[name] + new[name])
        changes[f"{name}_rest"] = c[f"{name}_rest"] + new[f"{name}_rest"] + error
    return statement.on_conflict_do_update(index_elements=list(CELL.primary_key), set_=changes)


def write_entry_hours(connection: Connection, entry_hours: dict[tuple[int, int, int], list[int]]) -> None:
    """Add [visitors, first entry, last activity] by (experiment, hour, variation): sum, minimum and maximum."""
    rows = ((*key, *numbers) for key, numbers in entry_hours.items())
    write(connection, _entry_hour_addition(connection.dialect.name), rows)


@cache
def _entry_hour_addition(dialect: str) -> Any:
    statement, c = upsert(dialect, ENTRY_HOUR), ENTRY_HOUR.c
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=list(ENTRY_HOUR.primary_key),
        set_={
            "visitors": c.visitors + new.visitors,
            "first_entered": case(
                (new.first_entered < c.first_entered, new.first_entered), else_=c.first_entered
            ),
            "last_activity": case(
                (new.last_activity > c.last_activity, new.last_activity), else_=c.last_activity
            ),
        },
    )
