"""Measures what a question asks for, in SQL.

Visitors are divided by their hour of entry (`division`). Hours that lie wholly in the interval are read from the
rollup `cell`. For hours that the interval's start cuts, and for segments, the visitors' totals are summed up; for hours
whose visitors were active after its end, their events. A visitor counts if the first decision lies in the interval,
with the conversions from that decision to the interval's end.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Select,
    case,
    cast,
    false,
    func,
    literal,
    or_,
    select,
)

from optimizely_api.services.results.query.cut_days import add_cut_days
from optimizely_api.services.results.query.division import Division, Divisions, HourRange, divide
from optimizely_api.services.results.query.history import Scope, load_histories
from optimizely_api.services.results.query.history import Visitors as HistoryOfVisitors
from optimizely_api.services.results.query.later_visitors import add_later
from optimizely_api.services.results.query.measurement import Measurement, Selection
from optimizely_api.services.results.query.questions import Question
from optimizely_api.services.results.query.stretches import Stretch, Timeline, strata_of
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.tables import (
    ANY_EVENT,
    ASSIGNMENT,
    CELL,
    CELL_SUMS,
    COMPENSATED_SUMS,
    ENTRY_HOUR,
    EVENT,
    GROWTH,
    NO_PROJECT,
    VISITOR_TOTAL,
)

# With more visitors on cut days than this there is no history: reading them takes a second per 100,000.
MAX_CUT_VISITORS = 200_000
MAX_CUT_DAYS = 200


def measure(connection: Connection, question: Question, *, every_day: bool = False) -> Measurement:
    """Sum up what the question asks for, on a connection with a snapshot of the database.

    With `every_day` the histories have all days, also those that are no looks.
    """
    return _Measuring(connection, question, every_day=every_day).run()


class _Measuring:
    def __init__(self, connection: Connection, question: Question, *, every_day: bool) -> None:
        self.connection = connection
        self.every_day = every_day
        self.question = question
        self.interval = question.interval
        self.selection = Selection(connection, question)
        self.variations, self.entities = self.selection.variations, self.selection.entities
        self.strata = strata_of(question)
        self.result = Measurement()  # of the current stratum

    def run(self) -> Measurement:
        divisions = self._divide()
        is_ambiguous = ANY_EVENT in self.entities and self._is_project_ambiguous()
        by_visitor = [ANY_EVENT] if is_ambiguous else []
        measurement = Measurement(
            last_activity=divisions.last_activity, last_activity_by_hour=divisions.last_activity
        )
        for division in divisions.strata:
            self.result = Measurement()
            self._measure(division, by_visitor)
            measurement.strata.append(self.result)
        others = [HistoryOfVisitors() for _ in self.strata]
        last_activity = add_later(self.selection, Timeline(self.strata), measurement.strata, others)
        measurement.last_activity = max(measurement.last_activity, last_activity)
        for stratum in measurement.strata:
            measurement.add(stratum)
        if self.question.segment is None and not by_visitor:
            self._add_histories(divisions, measurement.strata, others)
        measurement.first_entered = self._first_entered()
        return measurement

    def _measure(self, division: Division, by_visitor: Collection[int]) -> None:
        by_cell = [entity for entity in self.entities if entity not in by_visitor]
        if division.cell_hours:
            self._add_visitors_by_hour(division.cell_hours)
            self._add_cells(division.cell_hours, by_cell)
            self._add_totals(division.cell_times, by_visitor)
        if times := division.totals_times + division.events_times:
            self._add_visitors(times)
        self._add_totals(division.totals_times, self.entities)
        self._add_events(division.events_times, self.entities)
        for window, entities in self.selection.windows.items():
            self._add_events(division.cell_times + times, entities, window)

    def _add_histories(
        self, divisions: Divisions, strata: Sequence[Measurement], others: Sequence[HistoryOfVisitors]
    ) -> None:
        ranges = divisions.ranges
        remaining = MAX_CUT_VISITORS
        for number, times in enumerate(divisions.cut_times(self.strata)):
            if len(ranges) + len(times) > MAX_CUT_DAYS:
                return
            entered = add_cut_days(self.selection, times, others[number], remaining)
            if entered is None:
                return
            remaining -= entered
        scope = Scope(
            self.question.experiment_id,
            self.variations,
            self.entities,
            self.selection.concerns_project(GROWTH.c),
        )
        is_cut = divisions.last_activity >= self.interval.limit
        before_day = self.interval.limit // DAY_MILLISECONDS if is_cut else None
        histories = load_histories(
            self.connection, scope, ranges, others, before_day, every_day=self.every_day
        )
        for measured, history in zip(strata, histories, strict=True):
            measured.history = history

    def _first_entered(self) -> int | None:
        first = select(func.min(ASSIGNMENT.c.entered)).where(
            ASSIGNMENT.c.experiment_id == self.question.experiment_id
        )
        value: int | None = self.connection.execute(first).scalar()
        return value

    def _divide(self) -> Divisions:
        c = ENTRY_HOUR.c
        query = (
            select(c.entry_hour, func.min(c.first_entered), func.max(c.last_activity))
            .where(c.experiment_id == self.question.experiment_id, c.variation_id.in_(self.variations))
            .group_by(c.entry_hour)
            .order_by(c.entry_hour)
        )
        hours = ((hour, first, last) for hour, first, last in self.connection.execute(query))
        is_segment = self.question.segment is not None
        timeline, limit = Timeline(self.strata), self.interval.limit
        return divide(hours, timeline, len(self.strata), limit, by_visitor=is_segment)

    def _is_project_ambiguous(self) -> bool:
        """Whether a visitor may have conversions with the question's project and others without a project.

        Such a visitor has two rows in `cell`, whose squares do not add up to the square of the visitor's total.
        """
        c = CELL.c
        projects = select(c.project_id).distinct()
        projects = projects.where(
            c.experiment_id == self.question.experiment_id, c.entity_id == ANY_EVENT, c.converting != 0
        )
        return {NO_PROJECT, self.question.project_id} <= set(self.connection.execute(projects).scalars())

    def _add_visitors_by_hour(self, hours: Sequence[HourRange]) -> None:
        c = ENTRY_HOUR.c
        query = (
            select(c.variation_id, cast(func.sum(c.visitors), Double))
            .where(c.experiment_id == self.question.experiment_id, c.variation_id.in_(self.variations))
            .where(or_(false(), *(c.entry_hour.between(*hour_range) for hour_range in hours)))
            .group_by(c.variation_id)
        )
        for variation_id, count in self.connection.execute(query):
            self.result.visitors[variation_id] += int(count)

    def _add_cells(self, hours: Sequence[HourRange], entities: Collection[int]) -> None:
        c = CELL.c
        query = (
            select(c.variation_id, c.entity_id, *(func.sum(_cell_sum(name)) for name in CELL_SUMS))
            .where(c.experiment_id == self.question.experiment_id, c.variation_id.in_(self.variations))
            .where(or_(false(), *(c.entry_hour.between(*hour_range) for hour_range in hours)))
            # The sums of a cell without converting visitors are rounding errors.
            .where(c.entity_id.in_(entities), c.converting != 0, self.selection.concerns_project(c))
            .group_by(c.variation_id, c.entity_id)
        )
        self.result.add_sums(self.connection.execute(query))

    def _add_visitors(self, stretches: Sequence[Stretch]) -> None:
        c = ASSIGNMENT.c
        query = select(c.variation_id, func.count()).where(self.selection.visitors(stretches))
        for variation_id, count in self.connection.execute(query.group_by(c.variation_id)):
            self.result.visitors[variation_id] += count

    def _add_totals(self, stretches: Sequence[Stretch], entities: Collection[int]) -> None:
        """Add up the totals of each visitor, over all time."""
        if not stretches or not entities:
            return
        a, t = ASSIGNMENT.c, VISITOR_TOTAL.c
        names = ("events", "revenue", "value", "revenue_squares", "value_squares")
        joined = (t.visitor_id == a.visitor_id) & (t.experiment_id == a.experiment_id)
        query = select(a.variation_id, t.entity_id).join(VISITOR_TOTAL, joined)
        query = query.where(self.selection.visitors(stretches), t.entity_id.in_(entities), t.events > 0)
        query = query.where(self.selection.concerns_project(t))
        # Summed up per visitor before squaring: a visitor has a total for each day, and for ANY_EVENT perhaps one
        # with the project and one without.
        query = query.add_columns(*(cast(func.sum(t[name]), Double).label(name) for name in names))
        query = query.group_by(a.variation_id, t.entity_id, a.visitor_id)
        self._add_per_visitor(query)

    def _add_events(self, stretches: Sequence[Stretch], entities: Collection[int], window: int = 0) -> None:
        """Add up the visitors' conversions before the interval's end and within the window, from the raw events."""
        if not stretches:
            return
        visitors = self.selection.visitors(stretches)
        if window:
            visitors &= EVENT.c.happened < ASSIGNMENT.c.entered + window
        single = [entity for entity in entities if entity != ANY_EVENT]
        if single:
            self._add_per_visitor(self._event_totals(visitors, single), window)
        if ANY_EVENT in entities:
            self._add_per_visitor(self._event_totals(visitors, None), window)

    def _event_totals(self, visitors: ColumnElement[bool], entities: Collection[int] | None) -> Select[Any]:
        """One row per visitor (and event) with the conversions in the interval; with None, all events in one row."""
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
        project = func.coalesce(e.project_id, a.project_id, self.question.project_id)
        return query.where(project == self.question.project_id).group_by(a.variation_id, a.visitor_id)

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


def _cell_sum(name: str) -> ColumnElement[float]:
    return CELL.c[name] + CELL.c[f"{name}_rest"] if name in COMPENSATED_SUMS else CELL.c[name]
