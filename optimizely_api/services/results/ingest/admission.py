"""Limits the work that one batch can cause, so that no sender can make it grow without bound.

A conversion is summed up once for every experiment of its visitor, so a small batch can cause much work. Events and
decisions over a limit are left out and counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, select

from optimizely_api.services.results.ingest.batches import Decision, Event
from optimizely_api.services.results.statements import Lookup, OneOf, chunks, paced
from optimizely_api.services.results.tables import VISITOR_EVENT_ID

MAX_EXPERIMENTS = 100  # of one visitor
MAX_EVENT_IDS = 100  # different ids that one visitor converts on
# The cost of a batch (see `_cost`), in visitor totals changed, at 40 to 150 microseconds each. It allows for 200
# conversions if every visitor is in 100 experiments.
MAX_COST = 20_000
FREE_COST = (
    3  # the first three totals per event are free, so a batch of ordinary visitors never hits the limit
)
READ_PER_CHANGED = 10  # reading ten totals takes as long as changing one


@Lookup
def _event_ids(one_of: OneOf) -> Select[Any]:
    c = VISITOR_EVENT_ID.c
    return select(c.visitor_id, c.entity_id).where(one_of(c.visitor_id, "visitors"))


class Received(NamedTuple):
    """An event that was not stored before, with its decisions, visitor and project, and the index of its batch."""

    event: Event
    visitor: int
    project_id: int | None
    batch: int
    decisions: list[Decision]


@dataclass
class Admitted:
    """What to store, from the first `batches` batches. `event_ids` has the new pairs of visitor and event id."""

    batches: int
    received: list[Received] = field(default_factory=list)
    event_ids: list[tuple[int, int]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Visitor:
    experiments: set[int] = field(default_factory=set)
    event_ids: set[int] = field(default_factory=set)
    # The experiments with a decision, and the event ids with a conversion, in this transaction:
    decided: set[int] = field(default_factory=set)
    converted: set[int | None] = field(default_factory=set)


def _cost(event: Event, visitor: _Visitor, newly_decided: set[int]) -> int:
    """The visitor totals that storing the event changes, without the FREE_COST first ones.

    - Each experiment with a first decision in this transaction: one total for each event id that the visitor has
      converted on, and one for ANY_EVENT.
    - A conversion on an event id that is the first in this transaction: one total for each experiment of the visitor.
    - The visitor's first event in this transaction: its totals are read, READ_PER_CHANGED of them at the cost of one.

    Example: a visitor in 30 experiments has converted on 20 event ids, none of it in this transaction. The event is a
    conversion with a decision for one more experiment: 1 * (20 + 1) + 31 + 30 * 20 // 10 - 3 = 109.
    """
    cost = len(newly_decided) * (len(visitor.event_ids) + 1)
    if not event.is_impression and event.entity_id not in visitor.converted:
        cost += len(visitor.experiments | newly_decided)
    if not visitor.decided and not visitor.converted:
        cost += len(visitor.experiments) * len(visitor.event_ids) // READ_PER_CHANGED
    return max(0, cost - FREE_COST)


class Admission:
    """Decides event by event, in the order of arrival."""

    def __init__(self, connection: Connection, assigned: Iterable[tuple[int, int]]) -> None:
        """`assigned` has the stored pairs of visitor and experiment, for all visitors of the events."""
        self.connection = connection
        self.visitors: dict[int, _Visitor] = defaultdict(_Visitor)
        for visitor, experiment in assigned:
            self.visitors[visitor].experiments.add(experiment)

    def admit(self, received: list[Received], batches: int) -> Admitted:
        """What to store in one transaction; batches beyond MAX_COST are left for the next transaction."""
        self._load_event_ids(
            {item.visitor for item in received if item.decisions or not item.event.is_impression}
        )
        self.admitted = Admitted(batches)
        batch, cost_before, cost = -1, 0, 0
        for item in paced(received):
            if item.batch != batch:
                batch, cost_before, cost = item.batch, cost_before + cost, 0
                if cost_before >= MAX_COST:
                    self.admitted.batches = batch
                    break
            cost += self._admit(item, MAX_COST - cost)
        return self.admitted

    def _load_event_ids(self, visitors: set[int]) -> None:
        for chunk in chunks(visitors):
            for visitor, entity_id in _event_ids.rows(self.connection, visitors=chunk):
                self.visitors[visitor].event_ids.add(entity_id)

    def _admit(self, item: Received, allowed_cost: int) -> int:
        """Admit the event or leave it out; return its cost (0 if left out)."""
        visitor, event = self.visitors[item.visitor], item.event
        entity_id = None if event.is_impression else event.entity_id
        is_new_id = entity_id is not None and entity_id not in visitor.event_ids
        if is_new_id and len(visitor.event_ids) >= MAX_EVENT_IDS:
            self.admitted.dropped["a conversion of a visitor with too many event ids"] += 1
            return 0
        decisions = self._decisions(item.decisions, visitor)
        newly_decided = {decision.experiment_id for decision in decisions} - visitor.decided
        cost = _cost(event, visitor, newly_decided)
        if cost > allowed_cost:
            self.admitted.dropped["an event too much for one batch: its visitor is in many experiments"] += 1
            return 0
        visitor.experiments |= newly_decided
        visitor.decided |= newly_decided
        if not event.is_impression:
            visitor.converted.add(entity_id)
        if is_new_id and entity_id is not None:
            visitor.event_ids.add(entity_id)
            self.admitted.event_ids.append((item.visitor, entity_id))
        self.admitted.received.append(
            item._replace(decisions=decisions) if decisions is not item.decisions else item
        )
        return cost

    def _decisions(self, decisions: list[Decision], visitor: _Visitor) -> list[Decision]:
        if len(visitor.experiments) + len(decisions) <= MAX_EXPERIMENTS:
            return decisions
        experiments = set(visitor.experiments)
        kept = []
        for decision in decisions:
            if decision.experiment_id not in experiments and len(experiments) >= MAX_EXPERIMENTS:
                self.admitted.dropped["a decision of a visitor in too many experiments"] += 1
            else:
                experiments.add(decision.experiment_id)
                kept.append(decision)
        return kept
