"""From tables to moments, in SQL.

Visitors are divided by their hour of entry. Hours that lie wholly in the interval are read from the
rollups; for hours that the interval cuts, and for segments, the visitors' totals or their events are summed
up. A visitor counts if the first decision lies in the interval, with the conversions from then to the
interval's end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Select,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    or_,
    select,
)

from optimizely_api.services.results.questions import Interval, Question
from optimizely_api.services.results.segments import matching_visitors
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

# With more separate stretches of hours than this, one pass over all visitors is cheaper than many.
MAX_STRETCHES = 50

Sums = dict[str, float]


@dataclass
class Measurement:
    """Visitors by variation, and the sums of CELL_SUMS by variation and event (or ANY_EVENT)."""

    visitors: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    sums: dict[tuple[int, int], Sums] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys(CELL_SUMS, 0.0))
    )
    first_entered: int | None = None

    def add_sums(self, rows: Iterable[Any]) -> None:
        """Add rows of variation, event and the sums."""
        for variation_id, entity_id, *numbers in rows:
            sums = self.sums[variation_id, entity_id]
            for name, number in zip(CELL_SUMS, numbers, strict=True):
                sums[name] += number or 0.0


def measure(connection: Connection, question: Question) -> Measurement:
    """Sum up what the question asks for, on a connection that sees one state of the database."""
    return _Measuring(connection, question).run()


class _Measuring:
    def __init__(self, connection: Connection, question: Question) -> None:
        self.connection = connection
        self.question = question
        self.interval = question.interval
        self.variations = [variation.variation_id for variation in question.variations]
        self.entities = sorted({metric.event_id or ANY_EVENT for metric in question.metrics})
        self.result = Measurement()

    def run(self) -> Measurement:
        if self.interval.is_empty:
            return self.result
        everything = [(self.interval.start, self.interval.end)]
        whole, cut = ([], everything) if self.question.segment is not None else self._divide()
        by_rollup, by_raw = self.entities, list[int]()
        if whole and ANY_EVENT in self.entities and self._is_project_ambiguous():
            by_rollup, by_raw = [entity for entity in self.entities if entity != ANY_EVENT], [ANY_EVENT]
        if whole:
            self._add_visitors_of_slots(whole)
            self._add_cells(whole, by_rollup)
        if cut:
            self._add_visitors(cut)
            self._add_raw(cut, by_rollup)
        if by_raw:
            self._add_raw(everything, by_raw)
        self.result.first_entered = self._first_entered()
        return self.result

    def _first_entered(self) -> int | None:
        first = select(func.min(ASSIGNMENT.c.entered)).where(
            ASSIGNMENT.c.experiment_id == self.question.experiment_id
        )
        value: int | None = self.connection.execute(first).scalar()
        return value

    def _divide(self) -> tuple[list[tuple[int, int]], list[tuple[int | None, int | None]]]:
        """Stretches of slots (first, last) to take whole, and stretches of entry times to sum up."""
        c = ENTRY_SLOT.c
        query = (
            select(c.slot, func.min(c.first_entered), func.max(c.last_activity))
            .where(c.experiment_id == self.question.experiment_id, c.variation_id.in_(self.variations))
            .group_by(c.slot)
            .order_by(c.slot)
        )
        whole: list[tuple[int, int]] = []
        cut: list[tuple[int | None, int | None]] = []
        was_whole: bool | None = None
        for slot, first_entered, last_activity in self.connection.execute(query):
            times = _intersection(self.interval, slot)
            if times is None:
                continue
            is_whole = _is_within(self.interval, first_entered, last_activity)
            goes_on = is_whole == was_whole  # between two slots that follow each other here, nobody entered
            was_whole = is_whole
            if is_whole:
                _append(whole, (slot, slot), goes_on)
            else:
                _append(cut, times, goes_on)
        if len(whole) > MAX_STRETCHES or len(cut) > MAX_STRETCHES:
            return [], [(self.interval.start, self.interval.end)]
        return whole, cut

    def _is_project_ambiguous(self) -> bool:
        """Whether visitors may have conversions under the project and others under none."""
        c = CELL.c
        projects = select(c.project_id).distinct()
        projects = projects.where(
            c.experiment_id == self.question.experiment_id, c.entity_id == ANY_EVENT, c.converting != 0
        )
        found = set(self.connection.execute(projects).scalars())
        return {NO_PROJECT, self.question.project_id} <= found

    def _add_visitors_of_slots(self, stretches: Sequence[tuple[int, int]]) -> None:
        c = ENTRY_SLOT.c
        query = (
            select(c.variation_id, cast(func.sum(c.visitors), Double))
            .where(c.experiment_id == self.question.experiment_id, c.variation_id.in_(self.variations))
            .where(or_(false(), *(c.slot.between(*stretch) for stretch in stretches)))
            .group_by(c.variation_id)
        )
        for variation_id, count in self.connection.execute(query):
            self.result.visitors[variation_id] += int(count)

    def _add_cells(self, stretches: Sequence[tuple[int, int]], entities: Collection[int]) -> None:
        c = CELL.c
        query = (
            select(c.variation_id, c.entity_id, *(func.sum(c[name]) for name in CELL_SUMS))
            .where(c.experiment_id == self.question.experiment_id, c.variation_id.in_(self.variations))
            .where(or_(false(), *(c.slot.between(*stretch) for stretch in stretches)))
            # A cell that everybody has left may hold what rounding left over.
            .where(c.entity_id.in_(entities), c.converting != 0, self._concerns_project(c))
            .group_by(c.variation_id, c.entity_id)
        )
        self.result.add_sums(self.connection.execute(query))

    def _concerns_project(self, c: Any) -> ColumnElement[bool]:
        projects = (self.question.project_id, NO_PROJECT)
        return or_(c.entity_id != ANY_EVENT, c.project_id.in_(projects))

    def _visitors(self, stretches: Sequence[tuple[int | None, int | None]]) -> ColumnElement[bool]:
        """The assignments that count: variation, time of entry, segment."""
        c = ASSIGNMENT.c
        entered = [
            and_(
                c.entered >= (0 if start is None else start),
                *(() if end is None else (c.entered < end,)),
            )
            for start, end in stretches
        ]
        conditions = [
            c.experiment_id == self.question.experiment_id,
            c.variation_id.in_(self.variations),
            or_(false(), *entered),
        ]
        if self.question.segment is not None:
            is_sqlite = self.connection.dialect.name == "sqlite"
            conditions.append(matching_visitors(self.question.segment, is_sqlite=is_sqlite))
        return and_(*conditions)

    def _add_visitors(self, stretches: Sequence[tuple[int | None, int | None]]) -> None:
        c = ASSIGNMENT.c
        query = select(c.variation_id, func.count()).where(self._visitors(stretches))
        for variation_id, count in self.connection.execute(query.group_by(c.variation_id)):
            self.result.visitors[variation_id] += count

    def _add_raw(self, stretches: Sequence[tuple[int | None, int | None]], entities: Collection[int]) -> None:
        single = [entity for entity in entities if entity != ANY_EVENT]
        if single:
            self._add_per_visitor(self._totals(stretches, single))
        if ANY_EVENT in entities:
            self._add_per_visitor(self._totals(stretches, None))

    def _totals(
        self, stretches: Sequence[tuple[int | None, int | None]], entities: Collection[int] | None
    ) -> Select[Any]:
        """One row per visitor (and event) with the conversions in the interval; None asks for any event."""
        visitors = self._visitors(stretches)
        if self.interval.end is None:
            return self._stored_totals(visitors, entities)
        return self._event_totals(visitors, entities)

    def _stored_totals(self, visitors: ColumnElement[bool], entities: Collection[int] | None) -> Select[Any]:
        a, t = ASSIGNMENT.c, VISITOR_TOTAL.c
        names = ("events", "revenue", "value", "revenue_squares", "value_squares")
        joined = (t.visitor_id == a.visitor_id) & (t.experiment_id == a.experiment_id)
        query = select(a.variation_id, t.entity_id)
        if entities is not None:
            # One row per visitor and event already: nothing to add up before squaring.
            query = query.add_columns(*(t[name] for name in names)).join(VISITOR_TOTAL, joined)
            return query.where(visitors, t.entity_id.in_(entities), t.events > 0)
        query = query.add_columns(*(cast(func.sum(t[name]), Double).label(name) for name in names))
        query = query.join(VISITOR_TOTAL, joined)
        query = query.where(visitors, t.entity_id == ANY_EVENT, t.events > 0, self._concerns_project(t))
        return query.group_by(a.variation_id, t.entity_id, a.visitor_id)

    def _event_totals(self, visitors: ColumnElement[bool], entities: Collection[int] | None) -> Select[Any]:
        a, e = ASSIGNMENT.c, EVENT.c
        revenue = cast(func.coalesce(e.revenue, 0), Double)
        value = func.coalesce(e.value, 0.0)
        entity = literal(ANY_EVENT).label("entity_id") if entities is None else e.entity_id
        query = (
            select(
                a.variation_id,
                entity,
                func.count().label("events"),
                func.sum(revenue).label("revenue"),
                func.sum(value).label("value"),
                func.sum(revenue * revenue).label("revenue_squares"),
                func.sum(value * value).label("value_squares"),
            )
            .join(EVENT, (e.visitor_id == a.visitor_id) & (e.happened >= a.entered))
            .where(visitors, e.happened < self.interval.end, e.is_impression.is_(False))
        )
        if entities is not None:
            return query.where(e.entity_id.in_(entities)).group_by(a.variation_id, e.entity_id, a.visitor_id)
        wanted = self.question.project_id
        project = func.coalesce(e.project_id, a.project_id, wanted)
        return query.where(project == wanted).group_by(a.variation_id, a.visitor_id)

    def _add_per_visitor(self, totals: Select[Any]) -> None:
        t = totals.subquery().c
        events, revenue, value = (cast(t[name], Double) for name in ("events", "revenue", "value"))
        sums = (
            func.sum(case((t.events > 0, 1.0), else_=0.0)),
            func.sum(events),
            func.sum(events * events),
            func.sum(revenue),
            func.sum(revenue * revenue),
            func.sum(revenue * events),
            func.sum(t.revenue_squares),
            func.sum(value),
            func.sum(value * value),
            func.sum(value * events),
            func.sum(t.value_squares),
        )
        query = select(t.variation_id, t.entity_id, *sums).group_by(t.variation_id, t.entity_id)
        self.result.add_sums(self.connection.execute(query))


def _intersection(interval: Interval, slot: int) -> tuple[int, int] | None:
    start, end = slot * SLOT_MILLISECONDS, (slot + 1) * SLOT_MILLISECONDS
    if interval.start is not None:
        start = max(start, interval.start)
    if interval.end is not None:
        end = min(end, interval.end)
    return (start, end) if start < end else None


def _is_within(interval: Interval, first: int, last: int) -> bool:
    return (interval.start is None or first >= interval.start) and (
        interval.end is None or last < interval.end
    )


def _append(stretches: list[Any], stretch: tuple[int, int], goes_on: bool) -> None:
    """Append a stretch, or lengthen the last one by it."""
    if goes_on:
        stretch = (stretches.pop()[0], stretch[1])
    stretches.append(stretch)
