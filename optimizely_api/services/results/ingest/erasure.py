"""Erases a visitor: afterwards results are those of a database that never had the visitor.

The rollups lose the visitor's contributions, as `rollups` takes them out when a visitor's first decision changes. The
counts of impressions stay: accounts are billed by them, and they name nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, and_, case, delete, exists, func, select, update

from optimizely_api.services.results.ingest.rollup_tables import load_assignments, load_totals
from optimizely_api.services.results.ingest.rollups import Rollup
from optimizely_api.services.results.ingest.store import find_visitor, lock_storing
from optimizely_api.services.results.tables import (
    ASSIGNMENT,
    ATTRIBUTE,
    CELL,
    ENTRY_HOUR,
    EVENT,
    GROWTH,
    GROWTH_SUMS,
    HOUR_MILLISECONDS,
    LATER_DECISION,
    VISITOR,
    VISITOR_ATTRIBUTE,
    VISITOR_EVENT_ID,
    VISITOR_TOTAL,
)
from optimizely_api.services.results.versions import raise_versions

_OF_A_VISITOR = (LATER_DECISION, ASSIGNMENT, VISITOR_TOTAL, VISITOR_EVENT_ID, VISITOR_ATTRIBUTE, EVENT)


def erase_visitor(connection: Connection, account_id: str, key: str) -> None:
    """Erase the visitor with this key, if the account has one. The caller commits. Runs inside `run_sync`."""
    lock_storing(connection)
    visitor = find_visitor(connection, account_id, key)
    if visitor is None:
        return
    assigned = load_assignments(connection, [visitor])
    rollup = Rollup(connection, (), assigned)
    rollup.take_out(load_totals(connection, [visitor]))
    of_visitor = VISITOR_ATTRIBUTE.c.visitor_id == visitor
    attributes = connection.scalars(select(VISITOR_ATTRIBUTE.c.attribute_id).where(of_visitor)).all()
    for table in _OF_A_VISITOR:
        connection.execute(delete(table).where(table.c.visitor_id == visitor))
    connection.execute(delete(VISITOR).where(VISITOR.c.id == visitor))
    _erase_unused(connection, attributes)
    for key_of_row in rollup.entry_hours:
        _bound_again(connection, *key_of_row)
    experiments = {experiment for _, experiment in assigned}
    _drop_empty_rows(connection, experiments)
    raise_versions(connection, experiments)


def _erase_unused(connection: Connection, attributes: Iterable[int]) -> None:
    """Erase the values of attributes that only this visitor had: one may be an email address."""
    for number in attributes:
        others = exists().where(VISITOR_ATTRIBUTE.c.attribute_id == number)
        connection.execute(delete(ATTRIBUTE).where(ATTRIBUTE.c.id == number, ~others))


def _bound_again(connection: Connection, experiment: int, hour: int, variation: int) -> None:
    """Set the bounds of an hour of entry to those of its remaining visitors."""
    a, e = ASSIGNMENT.c, EVENT.c
    converted = and_(e.visitor_id == a.visitor_id, e.happened >= a.entered, e.is_impression.is_(False))
    last = func.max(case((e.happened > a.entered, e.happened), else_=a.entered))
    begin = hour * HOUR_MILLISECONDS
    query = (
        select(func.min(a.entered), last)
        .select_from(ASSIGNMENT.outerjoin(EVENT, converted))
        .where(a.experiment_id == experiment, a.variation_id == variation)
        .where(a.entered >= begin, a.entered < begin + HOUR_MILLISECONDS)
    )
    first_entered, last_activity = connection.execute(query).one()
    if first_entered is None:
        return  # without visitors, and dropped
    c = ENTRY_HOUR.c
    row = update(ENTRY_HOUR).where(
        c.experiment_id == experiment, c.entry_hour == hour, c.variation_id == variation
    )
    connection.execute(row.values(first_entered=first_entered, last_activity=last_activity))


def _drop_empty_rows(connection: Connection, experiments: Collection[int]) -> None:
    """Drop the rows of these experiments' rollups that nobody is left in."""
    is_empty = {
        CELL: CELL.c.converting == 0,
        ENTRY_HOUR: ENTRY_HOUR.c.visitors == 0,
        GROWTH: and_(*(GROWTH.c[name] == 0 for name in GROWTH_SUMS)),
    }
    for table, condition in is_empty.items():
        connection.execute(delete(table).where(table.c.experiment_id.in_(experiments), condition))
