"""How much of what has arrived is stored, so that no sender can make the work of storing grow without bound.

A conversion is summed up once for every experiment that its visitor is in: what a small body can multiply is
limited here. What is over a limit is left out and counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from optimizely_api.services.results.ingest.batches import Decision, Event
from optimizely_api.services.results.statements import chunks, paced
from optimizely_api.services.results.tables import VISITOR_EVENT_ID

MAX_EXPERIMENTS = 100  # of one visitor
MAX_EVENT_IDS = 100  # different ones that one visitor converts on
# Visitor totals that one batch may change, at 40 to 150 microseconds each, not counting the first few of every
# event: 200 conversions, if every visitor is in 100 experiments.
MAX_TOTALS = 20_000
FREE_TOTALS = 3  # per event: no batch of visitors who are in few experiments is too much
READ_PER_CHANGED = 10  # so many totals are read in the time that changing one takes


@dataclass(frozen=True, slots=True)
class Received:
    """An event that was not stored before, with the decisions that count, and whose batch and visitor it is."""

    event: Event
    visitor: int
    project_id: int | None
    batch: int
    decisions: list[Decision]


@dataclass
class Admitted:
    """What is to be stored: of the first `batches` batches. `event_ids` are (visitor, id), new ones only."""

    batches: int
    received: list[Received] = field(default_factory=list)
    event_ids: list[tuple[int, int]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass
class _Visitor:
    experiments: set[int] = field(default_factory=set)
    event_ids: set[int] = field(default_factory=set)
    # What this transaction touches of them:
    decided: set[int] = field(default_factory=set)
    converted: set[int | None] = field(default_factory=set)


class Admission:
    """Decides event by event, in the order of arrival."""

    def __init__(self, connection: Connection, assigned: Iterable[tuple[int, int]]) -> None:
        """`assigned` are the pairs of visitor and experiment that are there already, of all visitors met."""
        self.connection = connection
        self.visitors: dict[int, _Visitor] = defaultdict(_Visitor)
        for visitor, experiment in assigned:
            self.visitors[visitor].experiments.add(experiment)

    def admit(self, received: list[Received], batches: int) -> Admitted:
        """All that may be stored together; batches that would be too much work wait for the next time."""
        self._load_event_ids(
            {item.visitor for item in received if item.decisions or not item.event.is_impression}
        )
        self.admitted = Admitted(batches)
        batch, earlier, totals = -1, 0, 0
        for item in paced(received):
            if item.batch != batch:
                batch, earlier, totals = item.batch, earlier + totals, 0
                if earlier >= MAX_TOTALS:
                    self.admitted.batches = batch
                    break
            totals += self._admit(item, MAX_TOTALS - totals)
        return self.admitted

    def _load_event_ids(self, visitors: set[int]) -> None:
        c = VISITOR_EVENT_ID.c
        for chunk in chunks(visitors):
            query = select(c.visitor_id, c.entity_id).where(c.visitor_id.in_(chunk))
            for visitor, entity_id in self.connection.execute(query):
                self.visitors[visitor].event_ids.add(entity_id)

    def _admit(self, item: Received, room: int) -> int:
        """Take the event unless it is too much; returns how many totals it changes, without the free ones."""
        visitor, event = self.visitors[item.visitor], item.event
        entity_id = None if event.is_impression else event.entity_id
        is_new_id = entity_id is not None and entity_id not in visitor.event_ids
        if is_new_id and len(visitor.event_ids) >= MAX_EVENT_IDS:
            self.admitted.dropped["a conversion of a visitor with too many event ids"] += 1
            return 0
        decisions = list(self._decisions(item.decisions, visitor))
        newly_decided = {decision.experiment_id for decision in decisions} - visitor.decided
        totals = len(newly_decided) * (len(visitor.event_ids) + 1)
        if not event.is_impression and entity_id not in visitor.converted:
            totals += len(visitor.experiments | newly_decided)
        if not visitor.decided and not visitor.converted:
            totals += len(visitor.experiments) * len(visitor.event_ids) // READ_PER_CHANGED
        totals = max(0, totals - FREE_TOTALS)
        if totals > room:
            self.admitted.dropped["an event too much for one batch: its visitor is in many experiments"] += 1
            return 0
        visitor.experiments |= newly_decided
        visitor.decided |= newly_decided
        if not event.is_impression:
            visitor.converted.add(entity_id)
        if is_new_id and entity_id is not None:
            visitor.event_ids.add(entity_id)
            self.admitted.event_ids.append((item.visitor, entity_id))
        self.admitted.received.append(Received(event, item.visitor, item.project_id, item.batch, decisions))
        return totals

    def _decisions(self, decisions: Iterable[Decision], visitor: _Visitor) -> Iterator[Decision]:
        experiments = set(visitor.experiments)
        for decision in decisions:
            if decision.experiment_id not in experiments and len(experiments) >= MAX_EXPERIMENTS:
                self.admitted.dropped["a decision of a visitor in too many experiments"] += 1
            else:
                experiments.add(decision.experiment_id)
                yield decision
