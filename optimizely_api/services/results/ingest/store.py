"""Stores batches: raw events, attributes, and with `rollups` the rest, all in the caller's transaction.

Only one transaction at a time may store, because the rollups change by the difference between a visitor's old and new
totals. On SQLite `Database.transaction` holds the write lock; on PostgreSQL `store` takes an advisory lock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ARRAY, Connection, Select, Text, bindparam, func, select, text

from optimizely_api.services.results.ingest.admission import Admission, Received
from optimizely_api.services.results.ingest.batches import Attribute, Batch, Event
from optimizely_api.services.results.ingest.event_keys import name_events
from optimizely_api.services.results.ingest.impressions import count_impressions
from optimizely_api.services.results.ingest.rollup_tables import load_assignments
from optimizely_api.services.results.ingest.rollups import Rollup
from optimizely_api.services.results.statements import Lookup, OneOf, chunks, insert_missing, paced, write
from optimizely_api.services.results.tables import (
    ATTRIBUTE,
    EVENT,
    VISITOR,
    VISITOR_ATTRIBUTE,
    VISITOR_EVENT_ID,
)
from optimizely_api.services.results.versions import raise_versions
from optimizely_api.services.storage.rows import upsert

# An arbitrary number; it must only differ from other locks in the same database.
_POSTGRESQL_LOCK = 0x6F70_7265_7375_6C74
# PostgreSQL notices the loss of a machine after some two hours, and would leave the lock to its transaction until then.
LONGEST_IDLE_SECONDS = 30.0  # between two statements

# One transaction stores at a time, and finds everything by the keys of its batches, in indexes. PostgreSQL may choose
# otherwise where autovacuum has left no statistics yet: a scan of a whole table, or of an account, for every batch.
_BEGIN_ON_POSTGRESQL = text(
    "SELECT pg_advisory_xact_lock(:key), set_config('enable_seqscan', 'off', true),"
    " set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),"
    " set_config('idle_in_transaction_session_timeout', :idle, true)"
)

_Identity = tuple[bytes, int | None, int]  # an event's uuid, entity and time


@Lookup
def _events(one_of: OneOf) -> Select[Any]:
    c = EVENT.c
    return select(c.uuid, c.entity_id, c.happened).where(one_of(c.uuid, "uuids"))


@Lookup
def _attributes(one_of: OneOf) -> Select[Any]:
    c = ATTRIBUTE.c
    return select(c.digest, c.id).where(one_of(c.digest, "digests"))


@Lookup
def _visitors(one_of: OneOf) -> Select[Any]:
    c = VISITOR.c
    return select(c.key, c.id).where(c.account_id == bindparam("account_id"), one_of(c.key, "keys"))


@Lookup
def _visitors_on_postgresql(_: OneOf) -> Select[Any]:
    """Each key with the id of its visitor, or null, from a look into the index for each key.

    Without statistics the planner would rather read all visitors of the account for `_visitors`: with 100,000 of them,
    167 s for 2,000 keys in place of 3 ms.
    """
    c = VISITOR.c
    wanted = func.unnest(bindparam("keys", type_=ARRAY(Text))).table_valued("key").render_derived()
    found = select(c.id).where(c.account_id == bindparam("account_id"), c.key == wanted.c.key)
    return select(wanted.c.key, found.scalar_subquery())


VISITORS = {"sqlite": _visitors, "postgresql": _visitors_on_postgresql}


@dataclass
class Stored:
    """The result of `store`: the number of batches stored (the first of those given) and of new events in them.

    `dropped` counts by reason the parts left out by `admission`.
    """

    batches: int
    events: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def store(connection: Connection, batches: Sequence[Batch]) -> Stored:
    """Store the new events of the batches, or of the first batches if all are too much for one transaction.

    At least one batch is stored, and none in part. The caller commits. Runs inside `run_sync` only, because it yields
    to the event loop between slices of work.
    """
    lock_storing(connection)
    name_events(connection, batches)
    fresh = _new_events(connection, batches)
    if not fresh:
        return Stored(len(batches))
    visitors = _visitor_ids(connection, batches, fresh)
    received = [_received(event, number, batches[number], visitors) for event, number in paced(fresh)]
    assigned = load_assignments(connection, set(visitors.values()))
    admitted = Admission(connection, assigned).admit(received, len(batches))
    if admitted.received:
        _insert_events(connection, admitted.received)
        insert_missing(connection, VISITOR_EVENT_ID, admitted.event_ids)
        _insert_attributes(connection, admitted.received)
        Rollup(connection, admitted.received, assigned).update()
        count_impressions(connection, admitted.received)
        raise_versions(connection, _affected_experiments(admitted.received, assigned))
    return Stored(admitted.batches, len(admitted.received), admitted.dropped)


def lock_storing(connection: Connection) -> None:
    """Let no other transaction store until the end of this one."""
    if connection.dialect.name == "postgresql":
        idle = f"{LONGEST_IDLE_SECONDS * 1000:.0f}ms"
        connection.execute(_BEGIN_ON_POSTGRESQL, {"key": _POSTGRESQL_LOCK, "idle": idle})


def _received(event: Event, number: int, batch: Batch, visitors: dict[tuple[str, str], int]) -> Received:
    visitor = visitors[batch.account_id, event.visitor_key]
    return Received(event, visitor, batch.project_id, number, event.decisions)


def _affected_experiments(received: Collection[Received], assigned: Iterable[tuple[int, int]]) -> set[int]:
    """The experiments whose results the events may change: all experiments of their visitors."""
    experiments = {experiment for _, experiment in paced(assigned)}
    return experiments.union(
        decision.experiment_id for item in paced(received) for decision in item.decisions
    )


def _new_events(connection: Connection, batches: Sequence[Batch]) -> list[tuple[Event, int]]:
    """The events that are not stored yet, each with the index of its batch.

    A named one may have been stored before its key had an id.
    """
    former: dict[tuple[bytes, int], int | None] = {}
    fresh: dict[_Identity, tuple[Event, int]] = {}
    for number, batch in enumerate(batches):
        for event in paced(batch.events):
            fresh.setdefault((event.uuid, event.entity_id, event.happened), (event, number))
            if event.is_named:
                former[event.uuid, event.happened] = event.entity_id
    for chunk in chunks({uuid: None for uuid, _, _ in fresh}):
        for uuid, entity_id, happened in _events.rows(connection, uuids=chunk):
            if entity_id is None:
                entity_id = former.get((bytes(uuid), happened))
            fresh.pop((bytes(uuid), entity_id, happened), None)
    return list(fresh.values())


def _visitor_ids(
    connection: Connection, batches: Sequence[Batch], fresh: Collection[tuple[Event, int]]
) -> dict[tuple[str, str], int]:
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for event, number in paced(fresh):
        names[batches[number].account_id][event.visitor_key] = None
    ids: dict[tuple[str, str], int] = {}
    for account_id, keys in names.items():
        ids.update(_find_visitors(connection, account_id, keys))
        missing = [key for key in keys if (account_id, key) not in ids]
        insert_missing(connection, VISITOR, ((account_id, key) for key in missing))
        ids.update(_find_visitors(connection, account_id, missing))
    return ids


def _find_visitors(
    connection: Connection, account_id: str, keys: Iterable[str]
) -> Iterator[tuple[tuple[str, str], int]]:
    query = VISITORS[connection.dialect.name]
    for chunk in chunks(keys):
        for key, number in query.rows(connection, account_id=account_id, keys=chunk):
            if number is not None:
                yield (account_id, key), number


def find_visitor(connection: Connection, account_id: str, key: str) -> int | None:
    """The id of the account's visitor with this key."""
    return dict(_find_visitors(connection, account_id, [key])).get((account_id, key))


def _insert_events(connection: Connection, received: Collection[Received]) -> None:
    rows = (
        (
            event.uuid,
            item.visitor,
            event.happened,
            event.is_impression,
            event.entity_id,
            item.project_id,
            event.key,
            event.revenue,
            event.value,
            event.tags,
        )
        for item in received
        for event in (item.event,)
    )
    write(connection, upsert(connection.dialect.name, EVENT), rows)


def _insert_attributes(connection: Connection, received: Collection[Received]) -> None:
    # Once for each visitor entry: its events share one tuple of attributes.
    entries = {id(item.event.attributes): (item.event.attributes, item.visitor) for item in received}
    pairs = set(paced((item, visitor) for items, visitor in entries.values() for item in items))
    ids = _attribute_ids(connection, {attribute for attribute, _ in pairs})
    rows = ((ids[attribute], visitor) for attribute, visitor in pairs)
    insert_missing(connection, VISITOR_ATTRIBUTE, rows)


def _attribute_ids(connection: Connection, attributes: set[Attribute]) -> dict[Attribute, int]:
    by_digest = {attribute.digest: attribute for attribute in paced(attributes)}
    ids = _find_attributes(connection, by_digest)
    missing = {digest: item for digest, item in by_digest.items() if item not in ids}
    rows = (
        (digest, item.entity_id, item.key, item.kind, item.value, item.value.casefold())
        for digest, item in missing.items()
    )
    insert_missing(connection, ATTRIBUTE, rows)
    return {**ids, **_find_attributes(connection, missing)}


def _find_attributes(connection: Connection, by_digest: dict[bytes, Attribute]) -> dict[Attribute, int]:
    return {
        by_digest[bytes(digest)]: number
        for chunk in chunks(by_digest)
        for digest, number in _attributes.rows(connection, digests=chunk)
    }
