"""Storing batches: raw events, attributes, and through `rollups` the rest, all in the caller's transaction.

Only one transaction at a time may store (SQLite's write lock; on PostgreSQL an advisory lock), because the
rollups are moved by the difference between what a visitor's totals were and what they are now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from sqlalchemy import Connection, select, text

from optimizely_api.services.results.batches import Attribute, Batch
from optimizely_api.services.results.rollups import Received, Rollup
from optimizely_api.services.results.statements import chunks, insert_missing, upsert
from optimizely_api.services.results.tables import ATTRIBUTE, EVENT, VISITOR, VISITOR_ATTRIBUTE

# Any fixed number will do; it only has to differ from other users' of the same database.
_POSTGRESQL_LOCK = 0x6F70_7265_7375_6C74


def store(connection: Connection, batches: Sequence[Batch]) -> int:
    """Store what is new in the batches, each uuid once; returns the number of new events.

    Nothing is committed here: the batches are stored when the caller's transaction is.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRESQL_LOCK})
    received = _new_events(connection, batches)
    if not received:
        return 0
    visitors = _visitor_ids(connection, received)
    _insert_events(connection, received, visitors)
    _insert_attributes(connection, received, visitors)
    Rollup(connection, received, visitors).update()
    return len(received)


def _new_events(connection: Connection, batches: Sequence[Batch]) -> list[Received]:
    received: dict[bytes, Received] = {}
    for batch in batches:
        for event in batch.events:
            received.setdefault(event.uuid, Received(event, batch.account_id, batch.project_id))
    for chunk in chunks(list(received)):
        for (known,) in connection.execute(select(EVENT.c.uuid).where(EVENT.c.uuid.in_(chunk))):
            del received[bytes(known)]
    return list(received.values())


def _visitor_ids(connection: Connection, received: Collection[Received]) -> dict[tuple[str, str], int]:
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for item in received:
        names[item.account_id][item.event.visitor_key] = None
    ids: dict[tuple[str, str], int] = {}
    for account_id, keys in names.items():
        ids.update(_find_visitors(connection, account_id, keys))
        missing = [key for key in keys if (account_id, key) not in ids]
        insert_missing(connection, VISITOR, [{"account_id": account_id, "key": key} for key in missing])
        ids.update(_find_visitors(connection, account_id, missing))
    return ids


def _find_visitors(
    connection: Connection, account_id: str, keys: Iterable[str]
) -> Iterator[tuple[tuple[str, str], int]]:
    for chunk in chunks(keys):
        query = select(VISITOR.c.key, VISITOR.c.id)
        query = query.where(VISITOR.c.account_id == account_id, VISITOR.c.key.in_(chunk))
        for key, number in connection.execute(query):
            yield (account_id, key), number


def _insert_events(
    connection: Connection, received: Collection[Received], visitors: dict[tuple[str, str], int]
) -> None:
    rows = [
        {
            "uuid": item.event.uuid,
            "visitor_id": visitors[item.account_id, item.event.visitor_key],
            "happened": item.event.happened,
            "is_impression": item.event.is_impression,
            "entity_id": item.event.entity_id,
            "project_id": item.project_id,
            "key": item.event.key,
            "revenue": item.event.revenue,
            "value": item.event.value,
            "tags": item.event.tags,
        }
        for item in received
    ]
    connection.execute(upsert(connection, EVENT), rows)


def _insert_attributes(
    connection: Connection, received: Collection[Received], visitors: dict[tuple[str, str], int]
) -> None:
    pairs = {
        (attribute, visitors[item.account_id, item.event.visitor_key])
        for item in received
        for attribute in item.event.attributes
    }
    ids = _attribute_ids(connection, {attribute for attribute, _ in pairs})
    rows = [{"attribute_id": ids[attribute], "visitor_id": visitor} for attribute, visitor in pairs]
    insert_missing(connection, VISITOR_ATTRIBUTE, rows)


def _attribute_ids(connection: Connection, attributes: set[Attribute]) -> dict[Attribute, int]:
    by_digest = {attribute.digest: attribute for attribute in attributes}
    ids = _find_attributes(connection, by_digest)
    missing = {digest: item for digest, item in by_digest.items() if item not in ids}
    rows = [
        {
            "digest": digest,
            "entity_id": item.entity_id,
            "key": item.key,
            "kind": item.kind,
            "value": item.value,
        }
        for digest, item in missing.items()
    ]
    insert_missing(connection, ATTRIBUTE, rows)
    return {**ids, **_find_attributes(connection, missing)}


def _find_attributes(connection: Connection, by_digest: dict[bytes, Attribute]) -> dict[Attribute, int]:
    c = ATTRIBUTE.c
    return {
        by_digest[bytes(digest)]: number
        for chunk in chunks(by_digest)
        for digest, number in connection.execute(select(c.digest, c.id).where(c.digest.in_(chunk)))
    }
