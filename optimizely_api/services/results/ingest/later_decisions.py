"""Decisions after a visitor's first one: if the first does not count, the next one that counts takes its place.

A decision does not count if it names a variation that the experiment does not have, or was made while the experiment
did not run. Both depend on the question, so some later decisions of each visitor are stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, false, func, not_, or_, select

from optimizely_api.services.results.ingest.rollup_tables import Assigned, Pair
from optimizely_api.services.results.query.questions import Epoch, Question
from optimizely_api.services.results.query.segments import matching_visitors
from optimizely_api.services.results.statements import Lookup, OneOf, chunks, insert_missing, paced
from optimizely_api.services.results.tables import ASSIGNMENT, ENTRY_HOUR, HOUR_MILLISECONDS, LATER_DECISION

END_OF_TIME = 2**62
MAX_LATER = 50  # decisions of one visitor for one experiment; further ones are not stored


def store_later_decisions(
    connection: Connection, later: Mapping[Pair, set[Assigned]], ranks: Mapping[int, Any]
) -> None:
    """Store decisions that are not the first.

    `ranks` has for each visitor a function from variation to rank, which orders decisions of one millisecond.
    """
    counts = _counts(connection, {visitor for visitor, _ in later})
    rows = (
        (
            *pair,
            decision.entered,
            _as_integer(ranks[pair[0]](decision.variation_id)),
            decision.variation_id,
            decision.project_id,
        )
        for pair, decisions in paced(later.items())
        for decision in sorted(decisions, key=lambda decision: decision.entered)[
            : max(0, MAX_LATER - counts[pair])
        ]
    )
    insert_missing(connection, LATER_DECISION, rows)


@Lookup
def _numbers_stored(one_of: OneOf) -> Select[Any]:
    c = LATER_DECISION.c
    query = select(c.visitor_id, c.experiment_id, func.count()).where(one_of(c.visitor_id, "visitors"))
    return query.group_by(c.visitor_id, c.experiment_id)


def _counts(connection: Connection, visitors: Iterable[int]) -> dict[Pair, int]:
    counts: dict[Pair, int] = defaultdict(int)
    for chunk in chunks(visitors):
        for visitor, experiment, count in _numbers_stored.rows(connection, visitors=chunk):
            counts[visitor, experiment] = count
    return counts


def _as_integer(rank: bytes) -> int:
    """The first eight bytes as a signed 64-bit number, in the same order."""
    return int.from_bytes(rank[:8]) - 2**63


def first_that_count(connection: Connection, question: Question) -> Iterator[tuple[int, Assigned]]:
    """The first later decision that counts, for each visitor in the segment whose first decision does not count."""
    listed = [variation.variation_id for variation in question.variations]
    runs = question.epochs
    may_be_unlisted, may_be_untimely = _exceptions(connection, question.experiment_id, listed, runs)
    conditions: list[ColumnElement[bool]] = []
    if may_be_unlisted:
        conditions.append(ASSIGNMENT.c.variation_id.not_in(listed))
    if may_be_untimely:
        conditions.append(_outside(ASSIGNMENT.c.entered, runs))
    if not conditions:
        return
    a, c = ASSIGNMENT.c, LATER_DECISION.c
    order = func.row_number().over(partition_by=c.visitor_id, order_by=(c.entered, c.rank)).label("number")
    query = (
        select(c.visitor_id, c.variation_id, c.entered, c.project_id, order)
        .join(ASSIGNMENT, and_(a.visitor_id == c.visitor_id, a.experiment_id == c.experiment_id))
        .where(a.experiment_id == question.experiment_id, or_(*conditions))
        .where(c.variation_id.in_(listed), not_(_outside(c.entered, runs)))
    )
    if question.segment is not None:
        is_sqlite = connection.dialect.name == "sqlite"
        query = query.where(matching_visitors(question.segment, is_sqlite=is_sqlite))
    numbered = query.subquery().c
    first = select(numbered.visitor_id, numbered.variation_id, numbered.entered, numbered.project_id)
    for visitor, *decision in paced(connection.execute(first.where(numbered.number == 1))):
        yield visitor, Assigned(*decision)


def _exceptions(
    connection: Connection, experiment_id: int, listed: Sequence[int], runs: Sequence[Epoch] | None
) -> tuple[bool, bool]:
    """Whether visitors may have entered unlisted variations, and whether any may have entered outside the runs.

    Read from the few rows of `entry_slot`: in most experiments both are false, and no later decision is looked up.
    """
    c = ENTRY_HOUR.c
    timely = or_(
        false(),
        *(
            and_(
                c.first_entered >= run.start,
                or_((c.entry_hour + 1) * HOUR_MILLISECONDS <= end, c.last_activity < end),
            )
            for run, end in ((run, END_OF_TIME if run.end is None else run.end) for run in runs or ())
        ),
    )
    entered = select(c.entry_hour).where(c.experiment_id == experiment_id, c.visitors > 0).limit(1)
    unlisted = connection.execute(entered.where(c.variation_id.not_in(listed))).first()
    untimely = None if runs is None else connection.execute(entered.where(not_(timely))).first()
    return unlisted is not None, untimely is not None


def _outside(moment: Any, runs: Sequence[Epoch] | None) -> ColumnElement[bool]:
    """The condition that the moment lies in none of the runs, as ranges so that the database can use an index."""
    if runs is None:
        return false()
    gaps, begin = [], 0
    for run in sorted(runs, key=lambda run: run.start):
        if begin < run.start:
            gaps.append(and_(moment >= begin, moment < run.start))
        if run.end is None:
            return or_(false(), *gaps)
        begin = max(begin, run.end)
    return or_(*gaps, moment >= begin)
