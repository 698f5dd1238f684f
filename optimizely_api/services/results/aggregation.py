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

from optimizely_api.services.results.division import Division, Divisions, divide
from optimizely_api.services.results.history import History, Scope, load_histories
from optimizely_api.services.results.history import Visitors as HistoryOfVisitors
from optimizely_api.services.results.later_decisions import first_that_count
from optimizely_api.services.results.looks import DAY_MILLISECONDS
from optimizely_api.services.results.questions import Question
from optimizely_api.services.results.rollup_tables import Assigned, Total, Totals
from optimizely_api.services.results.rollups import contribution
from optimizely_api.services.results.segments import matching_visitors
from optimizely_api.services.results.statements import chunks, paced
from optimizely_api.services.results.stretches import Stretch, Timeline, strata_of
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
    VISITOR_TOTAL,
)

# More visitors than this on days that are cut are not read one by one: then there is no history.
MAX_CUT_VISITORS = 20_000
MAX_CUT_DAYS = 200

Sums = dict[str, float]


@dataclass
class Measurement:
    """Visitors by variation, and the sums of CELL_SUMS by variation, event (or ANY_EVENT) and window (or 0)."""

    visitors: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    sums: dict[tuple[int, int, int], Sums] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys(CELL_SUMS, 0.0))
    )
    first_entered: int | None = None
    # Never below the time of anything, of the variations that were asked for, that counts or will count some day.
    last_activity: int = 0
    # None where it is not known: in a segment, or where too many visitors enter on days that are cut.
    history: History | None = None
    # The same by stratum, in order.
    strata: list[Measurement] = field(default_factory=list)

    def add_sums(self, rows: Iterable[Any], window: int = 0) -> None:
        """Add rows of variation, event and the sums."""
        for variation_id, entity_id, *numbers in rows:
            sums = self.sums[variation_id, entity_id, window]
            for name, number in zip(CELL_SUMS, numbers, strict=True):
                sums[name] += number or 0.0

    def add(self, other: Measurement) -> None:
        """Add what was measured of other visitors."""
        for variation_id, count in other.visitors.items():
            self.visitors[variation_id] += count
        for (variation_id, entity_id, window), sums in other.sums.items():
            self.add_sums([(variation_id, entity_id, *sums.values())], window)


def measure(connection: Connection, question: Question) -> Measurement:
    """Sum up what the question asks for, on a connection that sees one state of the database."""
    return _Measuring(connection, question).run()


class _Measuring:
    def __init__(self, connection: Connection, question: Question) -> None:
        self.connection = connection
        self.question = question
        self.interval = question.interval
        self.variations = [variation.variation_id for variation in question.variations]
        computed = [metric for metric in question.metrics if metric.is_computed]
        self.entities = sorted({metric.event_id or ANY_EVENT for metric in computed if not metric.window})
        self.windows: dict[int, set[int]] = defaultdict(set)
        for metric in computed:
            if metric.window:
                self.windows[metric.window].add(metric.event_id or ANY_EVENT)
        self.strata = strata_of(question)
        self.result = Measurement()  # of the stratum that is being measured

    def run(self) -> Measurement:
        divisions = self._divide()
        is_ambiguous = ANY_EVENT in self.entities and self._is_project_ambiguous()
        by_visitor = [ANY_EVENT] if is_ambiguous else []
        whole = Measurement(last_activity=divisions.last_activity)
        for division in divisions.strata:
            self.result = Measurement()
            self._measure(division, by_visitor)
            whole.strata.append(self.result)
        others = [HistoryOfVisitors() for _ in self.strata]
        whole.last_activity = max(whole.last_activity, self._add_later(whole.strata, others))
        for stratum in whole.strata:
            whole.add(stratum)
        if self.question.segment is None and not by_visitor:
            self._add_histories(divisions, whole.strata, others)
        whole.first_entered = self._first_entered()
        return whole

    def _measure(self, division: Division, by_visitor: Collection[int]) -> None:
        by_cell = [entity for entity in self.entities if entity not in by_visitor]
        if division.slots:
            self._add_visitors_of_slots(division.slots)
            self._add_cells(division.slots, by_cell)
            self._add_totals(division.slot_times, by_visitor)
        if times := division.settled + division.cut:
            self._add_visitors(times)
        self._add_totals(division.settled, self.entities)
        self._add_events(division.cut, self.entities)
        for window, entities in self.windows.items():
            self._add_events(division.slot_times + times, entities, window)

    def _add_later(self, strata: Sequence[Measurement], others: Sequence[HistoryOfVisitors]) -> int:
        """Add visitors whose first decision does not count; returns the time of the last thing they did."""
        timeline, last = Timeline(self.strata), 0
        found = []
        for visitor, assigned in first_that_count(self.connection, self.question):
            for number, *_ in timeline.within(assigned.entered, assigned.entered + 1):
                found.append((visitor, assigned, number))
        for chunk in chunks(found):
            events = self._events_of(visitor for visitor, *_ in chunk)
            for visitor, assigned, number in paced(chunk):
                happened = [event.happened for event in events[visitor]]
                last = max(last, assigned.entered, *happened)
                strata[number].visitors[assigned.variation_id] += 1
                counted = [
                    event
                    for event in events[visitor]
                    if assigned.entered <= event.happened < self.interval.limit
                ]
                self._add_events_of(strata[number], assigned, counted, others[number])
        return last

    def _events_of(self, visitors: Iterable[int]) -> dict[int, list[Any]]:
        c = EVENT.c
        query = select(c.visitor_id, c.happened, c.entity_id, c.project_id, c.revenue, c.value)
        query = query.where(c.visitor_id.in_(list(visitors)), c.is_impression.is_(False))
        events: dict[int, list[Any]] = defaultdict(list)
        for event in paced(self.connection.execute(query)):
            events[event.visitor_id].append(event)
        return events

    def _add_events_of(
        self, stratum: Measurement, assigned: Assigned, events: Sequence[Any], others: HistoryOfVisitors
    ) -> None:
        totals: Totals = {}
        for event in events:
            day = event.happened // DAY_MILLISECONDS
            for entity in self._entities_of(event, assigned):
                totals.setdefault((entity, self.question.project_id, day), Total()).add(_total(event))
        others.add(self.question.experiment_id, assigned, totals)
        for window, entities in ((0, set(self.entities)), *self.windows.items()):
            sums: dict[int, Total] = defaultdict(Total)
            for event in events:
                if not window or event.happened < assigned.entered + window:
                    for entity in self._entities_of(event, assigned) & entities:
                        sums[entity].add(_total(event))
            rows = ((assigned.variation_id, entity, *contribution(total)) for entity, total in sums.items())
            stratum.add_sums(rows, window)

    def _entities_of(self, event: Any, assigned: Assigned) -> set[int]:
        wanted = self.question.project_id
        is_of_project = (event.project_id or assigned.project_id or wanted) == wanted
        entities = {ANY_EVENT} if is_of_project else set()
        return entities if event.entity_id is None else entities | {event.entity_id}

    def _add_histories(
        self, divisions: Divisions, strata: Sequence[Measurement], others: Sequence[HistoryOfVisitors]
    ) -> None:
        ranges = divisions.ranges
        left = MAX_CUT_VISITORS
        for number, times in enumerate(divisions.cut_times(self.strata)):
            left -= self._count(times)
            if left < 0 or len(ranges) + len(times) > MAX_CUT_DAYS:
                return
            self._add_cut_visitors(times, others[number])
        scope = Scope(
            self.question.experiment_id, self.variations, self.entities, self._concerns_project(GROWTH.c)
        )
        is_cut = divisions.last_activity >= self.interval.limit
        before_day = self.interval.limit // DAY_MILLISECONDS if is_cut else None
        histories = load_histories(self.connection, scope, ranges, others, before_day)
        for measured, history in zip(strata, histories, strict=True):
            measured.history = history

    def _count(self, times: Sequence[Stretch]) -> int:
        query = select(func.count()).select_from(ASSIGNMENT).where(self._visitors(times))
        return self.connection.execute(query).scalar_one() if times else 0

    def _add_cut_visitors(self, times: Sequence[Stretch], others: HistoryOfVisitors) -> None:
        """Read visitors of days whose visitors do not all count, one by one."""
        if not times:
            return
        a, t = ASSIGNMENT.c, VISITOR_TOTAL.c
        joined = (t.visitor_id == a.visitor_id) & (t.experiment_id == a.experiment_id)
        joined &= t.entity_id.in_(self.entities) & (t.events > 0) & self._concerns_project(t)
        columns = (*(t[name] for name in ("entity_id", "project_id", "day", "events", "revenue", "value")),)
        query: Select[Any] = select(a.visitor_id, a.variation_id, a.entered, *columns)
        query = query.where(self._visitors(times))
        query = query.select_from(ASSIGNMENT).outerjoin(VISITOR_TOTAL, joined)
        found: dict[int, tuple[Assigned, Totals]] = {}
        for visitor, variation, entered, *row in paced(self.connection.execute(query)):
            _, totals = found.setdefault(visitor, (Assigned(variation, entered, None), {}))
            if row[3]:
                totals[row[0], row[1], row[2]] = Total(*row[3:])
        for assigned, totals in paced(found.values()):
            others.add(self.question.experiment_id, assigned, totals)

    def _first_entered(self) -> int | None:
        first = select(func.min(ASSIGNMENT.c.entered)).where(
            ASSIGNMENT.c.experiment_id == self.question.experiment_id
        )
        value: int | None = self.connection.execute(first).scalar()
        return value

    def _divide(self) -> Divisions:
        c = ENTRY_SLOT.c
        query = (
            select(c.slot, func.min(c.first_entered), func.max(c.last_activity))
            .where(c.experiment_id == self.question.experiment_id, c.variation_id.in_(self.variations))
            .group_by(c.slot)
            .order_by(c.slot)
        )
        slots = ((slot, first, last) for slot, first, last in self.connection.execute(query))
        is_segment = self.question.segment is not None
        timeline, limit = Timeline(self.strata), self.interval.limit
        return divide(slots, timeline, len(self.strata), limit, by_visitor=is_segment)

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

    def _add_events(self, stretches: Sequence[Stretch], entities: Collection[int], window: int = 0) -> None:
        """Add up the visitors' conversions before the interval's end and within the window, one by one."""
        if not stretches:
            return
        visitors = self._visitors(stretches)
        if window:
            visitors &= EVENT.c.happened < ASSIGNMENT.c.entered + window
        single = [entity for entity in entities if entity != ANY_EVENT]
        if single:
            self._add_per_visitor(self._event_totals(visitors, single), window)
        if ANY_EVENT in entities:
            self._add_per_visitor(self._event_totals(visitors, None), window)

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

    def _add_per_visitor(self, totals: Select[Any], window: int = 0) -> None:
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
        self.result.add_sums(self.connection.execute(query), window)


def _total(event: Any) -> Total:
    revenue, value = float(event.revenue or 0), event.value or 0.0
    return Total(1, revenue, value, revenue * revenue, value * value)


def _cell_sum(name: str) -> ColumnElement[float]:
    return CELL.c[name] + CELL.c[f"{name}_rest"] if name in COMPENSATED_SUMS else CELL.c[name]
