"""Adds the visitors whose first decision does not count but a later one does, from their raw events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import select

from optimizely_api.services.results.ingest.later_decisions import first_that_count
from optimizely_api.services.results.ingest.rollup_tables import Assigned, Total, Totals
from optimizely_api.services.results.ingest.rollups import contribution
from optimizely_api.services.results.query.history import Visitors as HistoryOfVisitors
from optimizely_api.services.results.query.measurement import Measurement, Selection
from optimizely_api.services.results.query.stretches import Timeline
from optimizely_api.services.results.statements import chunks, paced
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.tables import ANY_EVENT, EVENT


def later_visitors(selection: Selection, timeline: Timeline) -> Iterator[tuple[int, Assigned, list[Any]]]:
    """Each of them as (number of the stratum, decision that counts, all conversions, whenever they happened)."""
    visitors = []
    for visitor, assigned in first_that_count(selection.connection, selection.question):
        for number, *_ in timeline.within(assigned.entered, assigned.entered + 1):
            visitors.append((visitor, assigned, number))
    for chunk in chunks(visitors):
        events = _events_of(selection, (visitor for visitor, *_ in chunk))
        for visitor, assigned, number in paced(chunk):
            yield number, assigned, events[visitor]


def add_later(
    selection: Selection,
    timeline: Timeline,
    strata: Sequence[Measurement],
    others: Sequence[HistoryOfVisitors],
) -> int:
    """Add them to their strata and histories; return the time of their last activity."""
    last_activity, limit = 0, selection.question.interval.limit
    for number, assigned, events in later_visitors(selection, timeline):
        last_activity = max(last_activity, assigned.entered, *(event.happened for event in events))
        strata[number].visitors[assigned.variation_id] += 1
        counted = [event for event in events if assigned.entered <= event.happened < limit]
        _add_events(selection, strata[number], assigned, counted)
        _add_history(selection, others[number], assigned, counted)
    return last_activity


def _events_of(selection: Selection, visitors: Iterable[int]) -> dict[int, list[Any]]:
    c = EVENT.c
    query = select(c.visitor_id, c.happened, c.entity_id, c.project_id, c.revenue, c.value)
    query = query.where(c.visitor_id.in_(list(visitors)), c.is_impression.is_(False))
    events: dict[int, list[Any]] = defaultdict(list)
    for event in paced(selection.connection.execute(query)):
        events[event.visitor_id].append(event)
    return events


def _add_events(
    selection: Selection, stratum: Measurement, assigned: Assigned, events: Sequence[Any]
) -> None:
    for window, entities in ((0, set(selection.entities)), *selection.windows.items()):
        sums: dict[int, Total] = defaultdict(Total)
        for event in events:
            if not window or event.happened < assigned.entered + window:
                for entity in entities_of(selection, event, assigned) & entities:
                    sums[entity] = sums[entity].plus(total_of_event(event))
        rows = ((assigned.variation_id, entity, *contribution(total)) for entity, total in sums.items())
        stratum.add_sums(rows, window)


def _add_history(
    selection: Selection, others: HistoryOfVisitors, assigned: Assigned, events: Sequence[Any]
) -> None:
    project_id, totals = selection.question.project_id, Totals()
    for event in events:
        day = event.happened // DAY_MILLISECONDS
        for entity in entities_of(selection, event, assigned):
            key = (entity, project_id, day)
            totals[key] = totals.get(key, Total()).plus(total_of_event(event))
    others.add(selection.question.experiment_id, assigned, totals)


def entities_of(selection: Selection, event: Any, assigned: Assigned) -> set[int]:
    project_id = selection.question.project_id
    is_of_project = (event.project_id or assigned.project_id or project_id) == project_id
    entities = {ANY_EVENT} if is_of_project else set()
    return entities if event.entity_id is None else entities | {event.entity_id}


def total_of_event(event: Any) -> Total:
    revenue, value = float(event.revenue or 0), event.value or 0.0
    return Total(1, revenue, value, revenue * revenue, value * value)
