"""Measures what a question asks for at each of many past times, in one pass over the data.

Full days come from the history that the question's verdicts need anyway. Hours, segments, metrics with a window and
sums per event come from the raw events, by one query: the change that each visitor makes to the sums in each slot of
time, added up over the visitors. (A visitor's square changes by the square after the slot minus the one before it.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Double, Select, case, cast, func, literal, select

from optimizely_api.services.results.ingest.rollup_tables import Assigned, Total
from optimizely_api.services.results.ingest.rollups import contribution
from optimizely_api.services.results.query.history import History
from optimizely_api.services.results.query.later_visitors import (
    entities_of,
    later_visitors,
    total_of_event,
)
from optimizely_api.services.results.query.measurement import Measurement, Selection
from optimizely_api.services.results.query.points import Points
from optimizely_api.services.results.query.questions import Question
from optimizely_api.services.results.query.stretches import Stretch, Timeline, strata_of
from optimizely_api.services.results.statements import paced
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.tables import ANY_EVENT, ASSIGNMENT, CELL_SUMS, EVENT

EntitiesByWindow = Mapping[int, Collection[int]]  # window 0: all conversions count


def measure_points(
    connection: Connection, question: Question, measurement: Measurement, points: Points
) -> list[Measurement]:
    """What `measurement` has at the interval's end, at each point: every number is an array over the points.

    One item for each stratum. `measurement` must have the history of every day.
    """
    selection, strata = Selection(connection, question), strata_of(question)
    histories = [stratum.history for stratum in measurement.strata]
    by_days = points.are_days and None not in histories
    from_events = _read_from_events(selection, by_days=by_days)
    changes = [Changes(points) for _ in strata]
    for stretches, of_stratum in zip(strata, changes, strict=True):
        if not by_days:
            _add_visitors(selection, stretches, of_stratum)
        for window, entities in from_events.items():
            _add_events(selection, stretches, of_stratum, entities, window)
    if not by_days or from_events:
        _add_later(selection, Timeline(strata), changes, from_events, with_visitors=not by_days)
    measured = [of_stratum.measurement() for of_stratum in changes]
    for at_points, history in zip(measured, histories, strict=True):
        if by_days and history is not None:
            _add_history(at_points, history, points)
    return measured


def _read_from_events(selection: Selection, *, by_days: bool) -> EntitiesByWindow:
    """The events (or ANY_EVENT) whose sums are read from the raw events, by window."""
    if not by_days:
        return {0: selection.entities, **selection.windows}
    # The history has no sums of single amounts' squares, which the variance of a sum per event needs.
    per_event = {
        metric.event_id or ANY_EVENT
        for metric in selection.question.metrics
        if metric.is_computed and not metric.window and metric.scope == "event" and metric.field
    }
    return {**({0: per_event} if per_event else {}), **selection.windows}


class Changes:
    """How much each number of a measurement changes in each slot."""

    def __init__(self, points: Points) -> None:
        self.points = points
        self._visitors: dict[int, Any] = defaultdict(lambda: np.zeros(points.count))
        self._sums: dict[tuple[int, int, int], Any] = defaultdict(
            lambda: np.zeros((len(CELL_SUMS), points.count))
        )

    def add_visitors(self, variation_id: int, slot: int, count: int) -> None:
        """Count visitors who entered in the slot."""
        if (index := slot - self.points.first) < self.points.count:
            self._visitors[variation_id][index] += count

    def add_sums(
        self, variation_id: int, entity_id: int, window: int, slot: int, sums: Iterable[float]
    ) -> None:
        """Add the changes of CELL_SUMS in the slot."""
        if (index := slot - self.points.first) < self.points.count:
            self._sums[variation_id, entity_id, window][:, index] += list(sums)

    def measurement(self) -> Measurement:
        """The numbers at each point."""
        measurement = Measurement(visitors=defaultdict(lambda: np.zeros(self.points.count)))
        for variation_id, changes in self._visitors.items():
            measurement.visitors[variation_id] = changes.cumsum()
        for key, sums in self._sums.items():
            measurement.sums[key] = dict(zip(CELL_SUMS, sums.cumsum(axis=1), strict=True))
        return measurement


def _add_visitors(selection: Selection, stretches: Sequence[Stretch], changes: Changes) -> None:
    a = ASSIGNMENT.c
    slot = a.entered // changes.points.spacing
    query = select(a.variation_id, slot, func.count()).where(selection.visitors(stretches))
    for row in paced(selection.connection.execute(query.group_by(a.variation_id, slot))):
        changes.add_visitors(*row)


def _add_events(
    selection: Selection,
    stretches: Sequence[Stretch],
    changes: Changes,
    entities: Collection[int],
    window: int,
) -> None:
    single = [entity for entity in entities if entity != ANY_EVENT]
    wanted: list[Collection[int] | None] = [single] if single else []
    if ANY_EVENT in entities:
        wanted.append(None)
    for of_entities in wanted:
        by_slot = _by_visitor_and_slot(selection, stretches, changes.points, of_entities, window)
        for variation_id, entity_id, slot, *sums in paced(
            selection.connection.execute(_changes_of_sums(by_slot))
        ):
            changes.add_sums(variation_id, entity_id, window, slot, sums)


def _by_visitor_and_slot(
    selection: Selection,
    stretches: Sequence[Stretch],
    points: Points,
    entities: Collection[int] | None,
    window: int,
) -> Select[Any]:
    """One row per visitor, event and slot with the conversions in it; with None, all events count as one."""
    a, e, question = ASSIGNMENT.c, EVENT.c, selection.question
    revenue, value = cast(func.coalesce(e.revenue, 0), Double), func.coalesce(e.value, 0.0)
    entity = literal(ANY_EVENT).label("entity_id") if entities is None else e.entity_id
    slot = (e.happened // points.spacing).label("slot")
    query = (
        select(
            a.variation_id,
            entity,
            a.visitor_id,
            slot,
            cast(func.count(), Double).label("events"),
            func.sum(revenue).label("revenue"),
            func.sum(revenue * revenue).label("revenue_squares"),
            func.sum(value).label("value"),
            func.sum(value * value).label("value_squares"),
        )
        .join(EVENT, (e.visitor_id == a.visitor_id) & (e.happened >= a.entered))
        .where(selection.visitors(stretches), e.happened < (points.first + points.count) * points.spacing)
        .where(e.is_impression.is_(False))
    )
    if window:
        query = query.where(e.happened < a.entered + window)
    if entities is not None:
        query = query.where(e.entity_id.in_(entities))
        return query.group_by(a.variation_id, e.entity_id, a.visitor_id, slot)
    project = func.coalesce(e.project_id, a.project_id, question.project_id)
    query = query.where(project == question.project_id)
    return query.group_by(a.variation_id, a.visitor_id, slot)


def _changes_of_sums(by_slot: Select[Any]) -> Select[Any]:
    """Variation, event, slot and the changes of CELL_SUMS."""
    b = by_slot.subquery().c
    totals = select(
        *b,
        *(
            func.sum(b[name])
            .over(partition_by=(b.visitor_id, b.entity_id), order_by=b.slot)
            .label(f"total_{name}")
            for name in ("events", "revenue", "value")
        ),
    )
    t = totals.subquery().c

    def change_of_product(one: str, other: str) -> ColumnElement[float]:
        after = t[f"total_{one}"] * t[f"total_{other}"]
        return func.sum(after - (t[f"total_{one}"] - t[one]) * (t[f"total_{other}"] - t[other]))

    sums = (
        func.sum(case((t.total_events == t.events, 1.0), else_=0.0)),
        func.sum(t.events),
        change_of_product("events", "events"),
        *(
            column
            for name in ("revenue", "value")
            for column in (
                func.sum(t[name]),
                change_of_product(name, name),
                change_of_product(name, "events"),
                func.sum(t[f"{name}_squares"]),
            )
        ),
    )
    keys = (t.variation_id, t.entity_id, t.slot)
    return select(*keys, *sums).group_by(*keys)


def _add_later(
    selection: Selection,
    timeline: Timeline,
    changes: Sequence[Changes],
    from_events: EntitiesByWindow,
    *,
    with_visitors: bool,
) -> None:
    """Add the visitors whose first decision does not count but a later one does."""
    for number, assigned, events in later_visitors(selection, timeline):
        spacing = changes[number].points.spacing
        if with_visitors:
            changes[number].add_visitors(assigned.variation_id, assigned.entered // spacing, 1)
        for window, entities in from_events.items():
            last = assigned.entered + window if window else np.inf
            counted = [event for event in events if assigned.entered <= event.happened < last]
            for entity in entities:
                of_entity = [event for event in counted if entity in entities_of(selection, event, assigned)]
                _add_visitor(changes[number], assigned, entity, window, of_entity)


def _add_visitor(
    changes: Changes, assigned: Assigned, entity: int, window: int, events: Iterable[Any]
) -> None:
    total, before = Total(), contribution(Total())
    for event in sorted(events, key=lambda event: event.happened):
        total = total.plus(total_of_event(event))
        after = contribution(total)
        differences = (new - old for new, old in zip(after, before, strict=True))
        slot = event.happened // changes.points.spacing
        changes.add_sums(assigned.variation_id, entity, window, slot, differences)
        before = after


def _add_history(measurement: Measurement, history: History, points: Points) -> None:
    """Add the visitors, and the sums without a window, from the history; its days end before those of the points."""
    ends = [time // DAY_MILLISECONDS for time in points.times]
    index = np.searchsorted(history.days, ends)

    def at_points(sums: Any) -> Any:
        return np.concatenate([[0.0], sums])[index]

    for variation_id, visitors in history.visitors.items():
        measurement.visitors[variation_id] = at_points(visitors)
    read_from_events = set(measurement.sums)
    for (variation_id, entity_id, field), sizes in history.totals.items():
        if (variation_id, entity_id, 0) in read_from_events:
            continue
        sums = measurement.sums[variation_id, entity_id, 0]
        x, xx, x_events = (at_points(total) for total in sizes.sums)
        if field == "events":
            sums.update(converting=at_points(sizes.visitors.sum(axis=0)), events=x, events_events=xx)
        else:
            # In place of the squares of single amounts, which only bound the rounding error of the sum here.
            sums.update(
                {field: x, f"{field}_{field}": xx, f"{field}_events": x_events, f"{field}_squares": xx}
            )
