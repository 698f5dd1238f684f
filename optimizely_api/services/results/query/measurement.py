"""A measurement of an experiment's visitors, and the selection of visitors and conversions for a question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, false, or_

from optimizely_api.services.results.query.history import History
from optimizely_api.services.results.query.questions import Question
from optimizely_api.services.results.query.segments import matching_visitors
from optimizely_api.services.results.query.stretches import Stretch
from optimizely_api.services.results.tables import ANY_EVENT, ASSIGNMENT, CELL_SUMS, NO_PROJECT

Sums = dict[str, Any]


@dataclass
class Measurement:
    """Visitors by variation, and the sums of CELL_SUMS by variation, event (or ANY_EVENT) and window (or 0).

    In a measurement at several times (`timeseries`) each of these numbers is an array.
    """

    visitors: dict[int, Any] = field(default_factory=lambda: defaultdict(int))
    sums: dict[tuple[int, int, int], Sums] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys(CELL_SUMS, 0.0))
    )
    first_entered: int | None = None
    # Upper bound of the timestamps of all activity in the requested variations, counted now or later.
    last_activity: int = 0
    # The same of those whose first decision may count; an interval that ends after it is not cut.
    last_activity_by_hour: int = 0
    # None when unknown: for a segment, or when too many visitors entered on cut days.
    history: History | None = None
    # A measurement for each stratum, in order.
    strata: list[Measurement] = field(default_factory=list)

    def add_sums(self, rows: Iterable[Any], window: int = 0) -> None:
        """Add rows of variation, event and the sums."""
        for variation_id, entity_id, *numbers in rows:
            sums = self.sums[variation_id, entity_id, window]
            for name, number in zip(CELL_SUMS, numbers, strict=True):
                sums[name] += number or 0.0

    def add(self, other: Measurement) -> None:
        """Add the measurement of other visitors."""
        for variation_id, count in other.visitors.items():
            self.visitors[variation_id] += count
        for (variation_id, entity_id, window), sums in other.sums.items():
            self.add_sums([(variation_id, entity_id, *sums.values())], window)


class Selection:
    """The visitors and conversions that a question is about, as SQL conditions.

    `entities` are the events (or ANY_EVENT) of metrics without a window. `windows` has the events of metrics with a
    window, by window.
    """

    def __init__(self, connection: Connection, question: Question) -> None:
        self.connection = connection
        self.question = question
        self.variations = [variation.variation_id for variation in question.variations]
        computed = [metric for metric in question.metrics if metric.is_computed]
        self.entities = sorted({metric.event_id or ANY_EVENT for metric in computed if not metric.window})
        self.windows: dict[int, set[int]] = defaultdict(set)
        for metric in computed:
            if metric.window:
                self.windows[metric.window].add(metric.event_id or ANY_EVENT)

    def concerns_project(self, c: Any) -> ColumnElement[bool]:
        """The condition on rollup rows: about one event, or about any event with the question's project or none."""
        projects = (self.question.project_id, NO_PROJECT)
        return or_(c.entity_id != ANY_EVENT, c.project_id.in_(projects))

    def visitors(self, stretches: Sequence[Stretch]) -> ColumnElement[bool]:
        """The condition on assignments that count: variation, time of entry in `stretches`, segment."""
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
