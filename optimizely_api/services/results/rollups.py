"""Assignments and rollups: what new events change in them, worked out visitor by visitor.

A visitor belongs to the variation of the earliest decision for the experiment, also when that decision
arrives late; conversions from that millisecond on count. The cells are moved by the difference between what
a visitor's totals were and what they are now. When the earliest decision changes, the totals are summed up
again from the raw events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, case, func, select

from optimizely_api.services.results.batches import Event
from optimizely_api.services.results.statements import chunks, upsert
from optimizely_api.services.results.tables import (
    ANY_EVENT,
    ASSIGNMENT,
    CELL,
    CELL_SUMS,
    ENTRY_SLOT,
    EVENT,
    NO_PROJECT,
    SLOT_MILLISECONDS,
    VISITOR_TOTAL,
)

TOTAL_SUMS = ("events", "revenue", "value", "revenue_squares", "value_squares")


@dataclass(frozen=True, slots=True)
class Received:
    """An event that was not stored before, with its batch's account and project."""

    event: Event
    account_id: str
    project_id: int | None


@dataclass(frozen=True, slots=True)
class Assigned:
    """To which variation a visitor belongs, since when, and in which project that was said."""

    variation_id: int
    entered: int
    project_id: int | None

    @property
    def slot(self) -> int:
        """The hour of entry, as the rollups number hours."""
        return self.entered // SLOT_MILLISECONDS


@dataclass(slots=True)
class Total:
    """A visitor's conversions on one event (or on any), as far as they count for one experiment."""

    events: int = 0
    revenue: float = 0.0
    value: float = 0.0
    revenue_squares: float = 0.0
    value_squares: float = 0.0

    def add(self, other: Total) -> None:
        """Add the conversions of `other`."""
        self.events += other.events
        self.revenue += other.revenue
        self.value += other.value
        self.revenue_squares += other.revenue_squares
        self.value_squares += other.value_squares


@dataclass(frozen=True, slots=True)
class _Conversion:
    happened: int
    entity_id: int | None
    project_id: int | None
    total: Total


_Pair = tuple[int, int]  # visitor, experiment
_Totals = dict[tuple[int, int], Total]  # by event (or ANY_EVENT) and project


def contribution(total: Total) -> tuple[float, ...]:
    """What one visitor's total adds to the sums of a cell, in the order of CELL_SUMS."""
    events = total.events
    return (
        1 if events else 0,
        events,
        events * events,
        total.revenue,
        total.revenue * total.revenue,
        total.revenue * events,
        total.revenue_squares,
        total.value,
        total.value * total.value,
        total.value * events,
        total.value_squares,
    )


class Rollup:
    """The effect of new events on assignments, visitor totals, cells and entry slots."""

    def __init__(
        self, connection: Connection, received: Collection[Received], visitors: dict[tuple[str, str], int]
    ) -> None:
        self.connection = connection
        self.decided: dict[_Pair, Assigned] = {}
        self.conversions: dict[int, list[_Conversion]] = defaultdict(list)
        for item in received:
            self._sort_in(item, visitors[item.account_id, item.event.visitor_key])
        self.cells: dict[tuple[int, ...], list[float]] = {}
        self.slots: dict[tuple[int, int, int], list[int]] = {}  # visitors, first entry, last activity

    def _sort_in(self, item: Received, visitor: int) -> None:
        event = item.event
        for decision in event.decisions:
            pair = (visitor, decision.experiment_id)
            candidate = Assigned(decision.variation_id, event.happened, item.project_id)
            known = self.decided.get(pair)
            if known is None or _is_earlier(candidate, known):
                self.decided[pair] = candidate
        if not event.is_impression:
            revenue, value = float(event.revenue or 0), event.value or 0.0
            total = Total(1, revenue, value, revenue * revenue, value * value)
            conversion = _Conversion(event.happened, event.entity_id, item.project_id, total)
            self.conversions[visitor].append(conversion)

    def update(self) -> None:
        """Bring assignments and all rollups up to date with the events, which have been inserted already."""
        touched = {visitor for visitor, _ in self.decided} | self.conversions.keys()
        before = self._load_assignments(touched)
        changed = {
            pair: assigned
            for pair, assigned in self.decided.items()
            if pair not in before or _is_earlier(assigned, before[pair])
        }
        self._write_assignments(changed)
        after = {**before, **changed}
        affected = {pair for pair in after if pair in changed or pair[0] in self.conversions}
        old = self._load_totals({visitor for visitor, _ in before.keys() & affected})
        fresh, last_happened = self._sum_up_again(changed)
        for pair in affected:
            old_totals = old.get(pair, {})
            if pair in changed:
                self._move(pair, before.get(pair), after[pair], old_totals, fresh.get(pair, {}))
                self._note_activity(pair, after[pair], last_happened.get(pair, 0))
            else:
                fresh[pair] = self._grow(pair, after[pair], old_totals)
        self._write(changed, old, fresh)

    def _load_assignments(self, visitors: Iterable[int]) -> dict[_Pair, Assigned]:
        c = ASSIGNMENT.c
        query = select(c.visitor_id, c.experiment_id, c.variation_id, c.entered, c.project_id)
        return {
            (row[0], row[1]): Assigned(row[2], row[3], row[4])
            for chunk in chunks(visitors)
            for row in self.connection.execute(query.where(c.visitor_id.in_(chunk)))
        }

    def _load_totals(self, visitors: Iterable[int]) -> dict[_Pair, _Totals]:
        c = VISITOR_TOTAL.c
        query = select(
            c.visitor_id, c.experiment_id, c.entity_id, c.project_id, *(c[name] for name in TOTAL_SUMS)
        )
        totals: dict[_Pair, _Totals] = defaultdict(dict)
        for chunk in chunks(visitors):
            for row in self.connection.execute(query.where(c.visitor_id.in_(chunk))):
                totals[row[0], row[1]][row[2], row[3]] = Total(*row[4:])
        return totals

    def _write_assignments(self, changed: dict[_Pair, Assigned]) -> None:
        if not changed:
            return
        rows = [
            {
                "visitor_id": visitor,
                "experiment_id": experiment,
                "variation_id": assigned.variation_id,
                "entered": assigned.entered,
                "project_id": assigned.project_id,
            }
            for (visitor, experiment), assigned in changed.items()
        ]
        self._upsert(ASSIGNMENT, rows, ("variation_id", "entered", "project_id"))

    def _upsert(self, table: Table, rows: list[dict[str, Any]], replaced: Iterable[str]) -> None:
        statement = upsert(self.connection, table)
        self.connection.execute(
            statement.on_conflict_do_update(
                index_elements=list(table.primary_key),
                set_={name: statement.excluded[name] for name in replaced},
            ),
            rows,
        )

    def _sum_up_again(self, changed: dict[_Pair, Assigned]) -> tuple[dict[_Pair, _Totals], dict[_Pair, int]]:
        """The totals of the changed pairs from the raw events, and when the last of these happened."""
        a, e = ASSIGNMENT.c, EVENT.c
        revenue, value = (func.coalesce(column, 0.0) * 1.0 for column in (e.revenue, e.value))
        sums = (func.count(), *(func.sum(x) for x in (revenue, value, revenue * revenue, value * value)))
        query = (
            select(a.visitor_id, a.experiment_id, e.entity_id, e.project_id, func.max(e.happened), *sums)
            .join(EVENT, (e.visitor_id == a.visitor_id) & (e.happened >= a.entered))
            .where(e.is_impression.is_(False))
            .group_by(a.visitor_id, a.experiment_id, e.entity_id, e.project_id)
        )
        totals: dict[_Pair, _Totals] = defaultdict(dict)
        last: dict[_Pair, int] = {}
        for chunk in chunks({visitor for visitor, _ in changed}):
            for row in self.connection.execute(query.where(a.visitor_id.in_(chunk))):
                pair = (row[0], row[1])
                if pair in changed:
                    last[pair] = max(last.get(pair, 0), row[4])
                    _count_in(totals[pair], changed[pair], row[2], row[3], Total(*row[5:]))
        return totals, last

    def _move(
        self, pair: _Pair, before: Assigned | None, after: Assigned, old: _Totals, new: _Totals
    ) -> None:
        experiment = pair[1]
        if before is not None:
            self._slot(experiment, before)[0] -= 1
            for key, total in old.items():
                self._add_to_cell(experiment, before, key, contribution(total), -1)
        self._slot(experiment, after)[0] += 1
        for key, total in new.items():
            self._add_to_cell(experiment, after, key, contribution(total), 1)

    def _grow(self, pair: _Pair, assigned: Assigned, old: _Totals) -> _Totals:
        """Add the new conversions of a visitor who stays where he was; returns the totals that changed."""
        grown: _Totals = {}
        for conversion in self.conversions[pair[0]]:
            if conversion.happened >= assigned.entered:
                _count_in(grown, assigned, conversion.entity_id, conversion.project_id, conversion.total)
                self._note_activity(pair, assigned, conversion.happened)
        for key, total in grown.items():
            known = old.get(key)
            if known is not None:
                self._add_to_cell(pair[1], assigned, key, contribution(known), -1)
                total.add(known)
            self._add_to_cell(pair[1], assigned, key, contribution(total), 1)
        return grown

    def _slot(self, experiment: int, assigned: Assigned) -> list[int]:
        key = (experiment, assigned.slot, assigned.variation_id)
        return self.slots.setdefault(key, [0, assigned.entered, assigned.entered])

    def _note_activity(self, pair: _Pair, assigned: Assigned, happened: int) -> None:
        slot = self._slot(pair[1], assigned)
        slot[1] = min(slot[1], assigned.entered)
        slot[2] = max(slot[2], assigned.entered, happened)

    def _add_to_cell(
        self, experiment: int, assigned: Assigned, key: tuple[int, int], sums: tuple[float, ...], sign: int
    ) -> None:
        cell_key = (experiment, assigned.slot, assigned.variation_id, *key)
        cell = self.cells.get(cell_key)
        if cell is None:
            self.cells[cell_key] = [sign * number for number in sums]
        else:
            for index, number in enumerate(sums):
                cell[index] += sign * number

    def _write(
        self, changed: Collection[_Pair], old: dict[_Pair, _Totals], new: dict[_Pair, _Totals]
    ) -> None:
        rows = [_total_row(pair, key, total) for pair, totals in new.items() for key, total in totals.items()]
        for pair in changed:
            # Of a visitor summed up again, what is no longer found (another project, say) goes.
            gone = old.get(pair, {}).keys() - new.get(pair, {}).keys()
            rows += [_total_row(pair, key, Total()) for key in gone]
        if rows:
            self._upsert(VISITOR_TOTAL, rows, TOTAL_SUMS)
        self._write_cells()
        self._write_slots()

    def _write_cells(self) -> None:
        if not self.cells:
            return
        statement = upsert(self.connection, CELL)
        keys = [column.name for column in CELL.primary_key]
        rows = [
            dict(zip((*keys, *CELL_SUMS), (*key, *sums), strict=True)) for key, sums in self.cells.items()
        ]
        self.connection.execute(
            statement.on_conflict_do_update(
                index_elements=keys,
                set_={name: CELL.c[name] + statement.excluded[name] for name in CELL_SUMS},
            ),
            rows,
        )

    def _write_slots(self) -> None:
        if not self.slots:
            return
        statement, c = upsert(self.connection, ENTRY_SLOT), ENTRY_SLOT.c
        new = statement.excluded
        keys = [column.name for column in ENTRY_SLOT.primary_key]
        names = (*keys, "visitors", "first_entered", "last_activity")
        self.connection.execute(
            statement.on_conflict_do_update(
                index_elements=keys,
                set_={
                    "visitors": c.visitors + new.visitors,
                    "first_entered": case(
                        (new.first_entered < c.first_entered, new.first_entered), else_=c.first_entered
                    ),
                    "last_activity": case(
                        (new.last_activity > c.last_activity, new.last_activity), else_=c.last_activity
                    ),
                },
            ),
            [dict(zip(names, (*key, *numbers), strict=True)) for key, numbers in self.slots.items()],
        )


def _is_earlier(one: Assigned, other: Assigned) -> bool:
    # Two decisions in one millisecond: the lower variation id, so that the order of arrival plays no part.
    return (one.entered, one.variation_id) < (other.entered, other.variation_id)


def _count_in(
    totals: _Totals, assigned: Assigned, entity_id: int | None, project_id: int | None, addition: Total
) -> None:
    """Count conversions under their event and under the project's "any event".

    An event whose sender named no project belongs to the project of its visitor's decision.
    """
    project = project_id or assigned.project_id or NO_PROJECT
    totals.setdefault((ANY_EVENT, project), Total()).add(addition)
    if entity_id is not None:
        totals.setdefault((entity_id, NO_PROJECT), Total()).add(addition)


def _total_row(pair: _Pair, key: tuple[int, int], total: Total) -> dict[str, Any]:
    return {
        "visitor_id": pair[0],
        "experiment_id": pair[1],
        "entity_id": key[0],
        "project_id": key[1],
        "events": total.events,
        "revenue": total.revenue,
        "value": total.value,
        "revenue_squares": total.revenue_squares,
        "value_squares": total.value_squares,
    }
