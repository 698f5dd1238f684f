"""From tables to moments, in SQL.

Visitors are divided by their hour of entry. Hours that lie wholly in the interval are read from the
rollups. For hours that its start cuts, and for segments, the visitors' totals are summed up; for hours whose
visitors did something after its end, their events. A visitor counts if the first decision lies in the
interval, with the conversions from then to the interval's end.
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

from optimizely_api.services.results.history import History, load_history
from optimizely_api.services.results.questions import Interval, Question
from optimizely_api.services.results.segments import matching_visitors
from optimizely_api.services.results.tables import (
    ANY_EVENT,
    ASSIGNMENT,
    CELL,
    CELL_SUMS,
    COMPENSATED_SUMS,
    ENTRY_SLOT,
    EVENT,
    GROWTH,
    NO_PROJECT,
    SLOT_MILLISECONDS,
    VISITOR_TOTAL,
)

# After more separate stretches of hours than this, one pass over all later visitors is cheaper than many.
MAX_STRETCHES = 50

Sums = dict[str, float]
Stretch = tuple[int, int]  # of slots, both included, or of times, the last one not


@dataclass
class _Division:
    """The hours of entry, neighbours of one kind joined: slots to read from the rollups, times for the rest."""

    slots: list[Stretch] = field(default_factory=list)
    # Nobody who entered then did anything after the interval's end: the visitors' totals can be used.
    settled: list[Stretch] = field(default_factory=list)
    cut: list[Stretch] = field(default_factory=list)

    @property
    def slot_times(self) -> list[Stretch]:
        """The slots as times of entry."""
        return [(first * SLOT_MILLISECONDS, (last + 1) * SLOT_MILLISECONDS) for first, last in self.slots]


@dataclass
class Measurement:
    """Visitors by variation, and the sums of CELL_SUMS by variation and event (or ANY_EVENT)."""

    visitors: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    sums: dict[tuple[int, int], Sums] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys(CELL_SUMS, 0.0))
    )
    first_entered: int | None = None
    # Never below the time of anything, of the variations that were asked for, that counts or will count some day.
    last_activity: int = 0
    # None where rollups alone do not give it: in a segment, or where the interval cuts the data.
    history: History | None = None

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
        division = self._divide()
        is_ambiguous = ANY_EVENT in self.entities and self._is_project_ambiguous()
        by_visitor = [ANY_EVENT] if is_ambiguous else []
        by_cell = [entity for entity in self.entities if entity not in by_visitor]
        if division.slots:
            self._add_visitors_of_slots(division.slots)
            self._add_cells(division.slots, by_cell)
            self._add_totals(division.slot_times, by_visitor)
        if times := division.settled + division.cut:
            self._add_visitors(times)
        self._add_totals(division.settled, by_cell)
        self._add_totals(division.settled, by_visitor)
        self._add_events(division.cut)
        if not times and not by_visitor:
            self.result.history = load_history(
                self.connection,
                self.question.experiment_id,
                self.variations,
                self.entities,
                self._concerns_project(GROWTH.c),
            )
        self.result.first_entered = self._first_entered()
        return self.result

    def _first_entered(self) -> int | None:
        first = select(func.min(ASSIGNMENT.c.entered)).where(
            ASSIGNMENT.c.experiment_id == self.question.experiment_id
        )
        value: int | None = self.connection.execute(first).scalar()
        return value

    def _divide(self) -> _Division:
        c = ENTRY_SLOT.c
        query = (
            select(c.slot, func.min(c.first_entered), func.max(c.last_activity))
            .where(c.experiment_id == self.question.experiment_id, c.variation_id.in_(self.variations))
            .group_by(c.slot)
            .order_by(c.slot)
        )
        division = _Division()
        last: list[Stretch] | None = None
        is_full = False
        for slot, first_entered, last_activity in self.connection.execute(query):
            self.result.last_activity = max(self.result.last_activity, last_activity)
            times = _intersection(self.interval, slot)
            if times is None:
                continue
            kind = division.cut if is_full else self._kind(division, first_entered, last_activity)
            if kind is not last and len(kind) >= MAX_STRETCHES:
                is_full, kind = True, division.cut
            stretch = (slot, slot) if kind is division.slots else times
            if kind is last:  # between two slots that follow each other here, nobody entered
                stretch = (kind.pop()[0], stretch[1])
            kind.append(stretch)
            last = kind
        return division

    def _kind(self, division: _Division, first_entered: int, last_activity: int) -> list[Stretch]:
        if last_activity >= self.interval.limit:
            return division.cut
        is_started = self.interval.start is None or first_entered >= self.interval.start
        return division.slots if is_started and self.question.segment is None else division.settled

    def _is_project_ambiguous(self) -> bool:
        """Whether visitors may have conversions under the project and others under none."""
        c = CELL.c
        projects = select(c.project_id).distinct()
        projects = projects.where(
            c.experiment_id == self.question.experiment_id, c.entity_id == ANY_EVENT, c.converting != 0
        )
        found = set(self.connection.execute(projects).scalars())
        return {NO_PROJECT, self.question.project_id} <= found

    def _add_visitors_of_slots(self, stretches: Sequence[Stretch]) -> None:
        c = ENTRY_SLOT.c
        query = (
            select(c.variation_id, cast(func.sum(c.visitors), Double))
            .where(c.experiment_id == self.question.experiment_id, c.variation_id.in_(self.variations))
            .where(or_(false(), *(c.slot.between(*stretch) for stretch in stretches)))
            .group_by(c.variation_id)
        )
        for variation_id, count in self.connection.execute(query):
            self.result.visitors[variation_id] += int(count)

    def _add_cells(self, stretches: Sequence[Stretch], entities: Collection[int]) -> None:
        c = CELL.c
        query = (
            select(c.variation_id, c.entity_id, *(func.sum(_cell_sum(name)) for name in CELL_SUMS))
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

    def _visitors(self, stretches: Sequence[Stretch]) -> ColumnElement[bool]:
        """The assignments that count: variation, time of entry, segment."""
        c = ASSIGNMENT.c
        entered = [and_(c.entered >= start, c.entered < end) for start, end in stretches]
        conditions = [
            c.experiment_id == self.question.experiment_id,
            c.variation_id.in_(self.variations),
            or_(false(), *entered),
        ]
        if self.question.segment is not None:
            is_sqlite = self.connection.dialect.name == "sqlite"
            conditions.append(matching_visitors(self.question.segment, is_sqlite=is_sqlite))
        return and_(*conditions)

    def _add_visitors(self, stretches: Sequence[Stretch]) -> None:
        c = ASSIGNMENT.c
        query = select(c.variation_id, func.count()).where(self._visitors(stretches))
        for variation_id, count in self.connection.execute(query.group_by(c.variation_id)):
            self.result.visitors[variation_id] += count

    def _add_totals(self, stretches: Sequence[Stretch], entities: Collection[int]) -> None:
        """Add up what the rollups know of each visitor, whenever it happened."""
        if not stretches or not entities:
            return
        a, t = ASSIGNMENT.c, VISITOR_TOTAL.c
        names = ("events", "revenue", "value", "revenue_squares", "value_squares")
        joined = (t.visitor_id == a.visitor_id) & (t.experiment_id == a.experiment_id)
        query = select(a.variation_id, t.entity_id).join(VISITOR_TOTAL, joined)
        query = query.where(self._visitors(stretches), t.entity_id.in_(entities), t.events > 0)
        query = query.where(self._concerns_project(t))
        # A visitor has one a day, and may have two of any event, of the project and of none: one number before
        # squaring.
        query = query.add_columns(*(cast(func.sum(t[name]), Double).label(name) for name in names))
        query = query.group_by(a.variation_id, t.entity_id, a.visitor_id)
        self._add_per_visitor(query)

    def _add_events(self, stretches: Sequence[Stretch]) -> None:
        """Add up the visitors' conversions before the interval's end, one by one."""
        if not stretches:
            return
        visitors = self._visitors(stretches)
        single = [entity for entity in self.entities if entity != ANY_EVENT]
        if single:
            self._add_per_visitor(self._event_totals(visitors, single))
        if ANY_EVENT in self.entities:
            self._add_per_visitor(self._event_totals(visitors, None))

    def _event_totals(self, visitors: ColumnElement[bool], entities: Collection[int] | None) -> Select[Any]:
        """One row per visitor (and event) with the conversions in the interval; None asks for any event."""
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
            .where(visitors, e.happened < self.interval.limit, e.is_impression.is_(False))
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


def _cell_sum(name: str) -> ColumnElement[float]:
    return CELL.c[name] + CELL.c[f"{name}_rest"] if name in COMPENSATED_SUMS else CELL.c[name]


def _intersection(interval: Interval, slot: int) -> Stretch | None:
    start = max(slot * SLOT_MILLISECONDS, interval.start or 0)
    end = min((slot + 1) * SLOT_MILLISECONDS, interval.limit)
    return (start, end) if start < end else None
