"""Updates assignments and rollups with new events, visitor by visitor.

A visitor belongs to the variation of the earliest decision for the experiment, even if that decision arrives late;
conversions from that millisecond on count. The cells change by the difference between a visitor's old and new totals.
When the earliest decision changes, the totals are summed up again from the raw events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from sqlalchemy import Connection

from optimizely_api.services.results.ingest.admission import Received
from optimizely_api.services.results.ingest.growth import GrowthChanges, paths_of, total_of
from optimizely_api.services.results.ingest.later_decisions import store_later_decisions
from optimizely_api.services.results.ingest.rollup_tables import (
    Assigned,
    CellChanges,
    Pair,
    Total,
    Totals,
    load_totals,
    sum_up_conversions,
    write_assignments,
    write_entry_hours,
    write_totals,
)
from optimizely_api.services.results.statements import paced
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.tables import ANY_EVENT, NO_PROJECT


class _Conversion(NamedTuple):
    happened: int
    entity_id: int | None
    project_id: int | None
    total: Total


def contribution(total: Total) -> tuple[float, ...]:
    """One visitor's contribution to the sums of a cell, in the order of CELL_SUMS."""
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
    """The effect of new events on assignments, visitor totals, cells, growth and entry hours."""

    def __init__(
        self, connection: Connection, received: Collection[Received], before: dict[Pair, Assigned]
    ) -> None:
        """`before` has all stored assignments of the events' visitors."""
        self.connection = connection
        self.before = before
        self.keys: dict[int, str] = {}  # the senders' visitor ids, by ours
        self.decided: dict[Pair, Assigned] = {}
        self.decisions: dict[Pair, set[Assigned]] = defaultdict(set)
        self.conversions: dict[int, list[_Conversion]] = defaultdict(list)
        for item in paced(received):
            self._collect(item)
        self.cells = CellChanges()
        self.growth = GrowthChanges()
        # [visitors, first entry, last activity] by experiment, hour and variation
        self.entry_hours: dict[tuple[int, int, int], list[int]] = {}

    def _collect(self, item: Received) -> None:
        event = item.event
        self.keys[item.visitor] = event.visitor_key
        for decision in item.decisions:
            pair = (item.visitor, decision.experiment_id)
            candidate = Assigned(decision.variation_id, event.happened, item.project_id)
            self.decisions[pair].add(candidate)
            known = self.decided.get(pair)
            if known is None or self._is_earlier(item.visitor, candidate, known):
                self.decided[pair] = candidate
        if not event.is_impression:
            revenue, value = float(event.revenue or 0), event.value or 0.0
            total = Total(1, revenue, value, revenue * revenue, value * value)
            conversion = _Conversion(event.happened, event.entity_id, item.project_id, total)
            self.conversions[item.visitor].append(conversion)

    def _is_earlier(self, visitor: int, one: Assigned, other: Assigned) -> bool:
        if one.entered != other.entered or one.variation_id == other.variation_id:
            return one.entered < other.entered
        # Two decisions in one millisecond. The winner must not depend on the order of arrival, and no variation
        # (such as the baseline) may win more often than another.
        key = self.keys[visitor]
        return neutral_rank(key, one.variation_id) < neutral_rank(key, other.variation_id)

    def update(self) -> None:
        """Update assignments and all rollups; the events themselves must have been inserted before."""
        changed = {
            pair: assigned
            for pair, assigned in paced(self.decided.items())
            if pair not in self.before or self._is_earlier(pair[0], assigned, self.before[pair])
        }
        write_assignments(self.connection, changed)
        after = {**self.before, **changed}
        self._store_later_decisions(changed, after)
        affected = {pair for pair in after if pair in changed or pair[0] in self.conversions}
        old = load_totals(self.connection, {visitor for visitor, _ in self.before.keys() & affected})
        fresh, last_happened = self._sum_up_again(changed)
        for pair in paced(affected):
            old_totals = old.get(pair, {})
            if pair in changed:
                self._move(pair, after[pair], old_totals, fresh[pair])
                self._note_activity(pair, after[pair], last_happened.get(pair, 0))
                # An old total without conversions now (for example because the project changed) becomes zero.
                for key in old_totals.keys() - fresh[pair].keys():
                    fresh[pair][key] = Total()
            else:
                fresh[pair] = self._grow(pair, after[pair], old_totals)
        write_totals(self.connection, fresh)
        self._write()

    def take_out(self, totals: Mapping[Pair, Totals]) -> None:
        """Take the stored assignments with these totals, all that they have, out of cells, growth and entry hours."""
        for pair in paced(self.before):
            self._take_out(pair, totals.get(pair, {}))
        self._write()

    def _write(self) -> None:
        self.cells.write(self.connection)
        self.growth.write(self.connection)
        write_entry_hours(self.connection, self.entry_hours)

    def _store_later_decisions(self, changed: dict[Pair, Assigned], after: dict[Pair, Assigned]) -> None:
        later = {}
        for pair, decisions in paced(self.decisions.items()):
            if pair in changed and pair in self.before:
                decisions.add(self.before[pair])
            first = (after[pair].variation_id, after[pair].entered)
            others = {one for one in decisions if (one.variation_id, one.entered) != first}
            if others:
                later[pair] = others
        if later:
            ranks = {visitor: partial(neutral_rank, self.keys[visitor]) for visitor, _ in later}
            store_later_decisions(self.connection, later, ranks)

    def _sum_up_again(self, changed: dict[Pair, Assigned]) -> tuple[dict[Pair, Totals], dict[Pair, int]]:
        """The totals of the changed pairs from the raw events, and the time of each pair's last conversion."""
        totals: dict[Pair, Totals] = defaultdict(dict)
        last_happened: dict[Pair, int] = {}
        for pair, entity_id, project_id, happened, *sums in sum_up_conversions(self.connection, changed):
            last_happened[pair] = max(last_happened.get(pair, 0), happened)
            _add_conversions(totals[pair], changed[pair], entity_id, project_id, happened, Total(*sums))
        return totals, last_happened

    def _move(self, pair: Pair, after: Assigned, old: Totals, new: Totals) -> None:
        if pair in self.before:
            self._take_out(pair, old)
        self._entry_hour(pair, after)[0] += 1
        self._count(pair, after, new, 1)

    def _take_out(self, pair: Pair, old: Totals) -> None:
        before = self.before[pair]
        self._entry_hour(pair, before)[0] -= 1
        self._count(pair, before, old, -1)

    def _grow(self, pair: Pair, assigned: Assigned, old: Totals) -> Totals:
        """Add the new conversions of a visitor whose assignment stays the same; return the changed totals."""
        added: Totals = {}
        for conversion in self.conversions[pair[0]]:
            if conversion.happened >= assigned.entered:
                _add_conversions(
                    added,
                    assigned,
                    conversion.entity_id,
                    conversion.project_id,
                    conversion.happened,
                    conversion.total,
                )
                self._note_activity(pair, assigned, conversion.happened)
        # A cell has squares of a visitor's total over all days, so the old totals of these events are taken out and
        # all days are added again.
        changed_events = {key[:2] for key in added}
        before = {key: total for key, total in old.items() if key[:2] in changed_events}
        for key, total in before.items():
            if key in added:
                added[key] = added[key].plus(total)
        self._count(pair, assigned, before, -1)
        self._count(pair, assigned, {**before, **added}, 1)
        return added

    def _entry_hour(self, pair: Pair, assigned: Assigned) -> list[int]:
        key = (pair[1], assigned.entry_hour, assigned.variation_id)
        return self.entry_hours.setdefault(key, [0, assigned.entered, assigned.entered])

    def _note_activity(self, pair: Pair, assigned: Assigned, happened: int) -> None:
        entry_hour = self._entry_hour(pair, assigned)
        entry_hour[1] = min(entry_hour[1], assigned.entered)
        entry_hour[2] = max(entry_hour[2], assigned.entered, happened)

    def _count(self, pair: Pair, assigned: Assigned, totals: Totals, sign: int) -> None:
        """Add a visitor's totals to the cells and the growth (`sign` 1), or subtract them again (-1)."""
        paths = paths_of(totals)
        for key, path in paths.items():
            cell = (pair[1], assigned.entry_hour, assigned.variation_id, *key)
            self.cells.add(cell, contribution(total_of(path)), sign)
        self.growth.add(pair[1], assigned, paths, sign)


def neutral_rank(visitor_key: str, variation_id: int) -> bytes:
    """A sort key of variations: the order differs between visitors and is always the same for one visitor."""
    return blake2b(f"{visitor_key}\0{variation_id}".encode(), digest_size=16).digest()


def _add_conversions(
    totals: Totals,
    assigned: Assigned,
    entity_id: int | None,
    project_id: int | None,
    happened: int,
    addition: Total,
) -> None:
    """Add conversions of one day to the totals of their event and of ANY_EVENT.

    An event without a project belongs to the project of its visitor's decision.
    """
    project, day = project_id or assigned.project_id or NO_PROJECT, happened // DAY_MILLISECONDS
    _add(totals, (ANY_EVENT, project, day), addition)
    if entity_id is not None:
        _add(totals, (entity_id, NO_PROJECT, day), addition)


def _add(totals: Totals, key: tuple[int, int, int], addition: Total) -> None:
    known = totals.get(key)
    totals[key] = addition if known is None else known.plus(addition)
