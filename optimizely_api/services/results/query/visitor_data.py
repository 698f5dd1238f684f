"""Everything that is stored about one visitor, for a subject access request."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, select

from optimizely_api.contract.times import format_time
from optimizely_api.services.results.ingest.store import find_visitor
from optimizely_api.services.results.statements import paced
from optimizely_api.services.results.tables import (
    ASSIGNMENT,
    ATTRIBUTE,
    EVENT,
    LATER_DECISION,
    VISITOR_ATTRIBUTE,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def visitor_data(connection: Connection, account_id: str, key: str) -> bytes:
    """The attributes, decisions and events as lines of JSON; empty where the account has no such visitor."""
    visitor = find_visitor(connection, account_id, key)
    if visitor is None:
        return b""
    return b"".join(orjson.dumps(line) + b"\n" for line in _lines(connection, visitor))


def _lines(connection: Connection, visitor: int) -> Iterator[dict[str, Any]]:
    a, of_visitor = ATTRIBUTE.c, VISITOR_ATTRIBUTE.c
    query = select(a.entity_id, a.key, a.kind, a.value).join(
        VISITOR_ATTRIBUTE, of_visitor.attribute_id == a.id
    )
    for entity_id, key, kind, value in connection.execute(
        query.where(of_visitor.visitor_id == visitor).order_by(a.id)
    ):
        yield {"type": "attribute", "entity_id": entity_id, "key": key, "kind": kind, "value": value}
    for table in (ASSIGNMENT, LATER_DECISION):
        c = table.c
        decisions = select(c.experiment_id, c.variation_id, c.project_id, c.entered)
        for row in connection.execute(decisions.where(c.visitor_id == visitor).order_by(c.entered)):
            yield {
                "type": "decision",
                "time": _time(row.entered),
                "experiment_id": row.experiment_id,
                "variation_id": row.variation_id,
                "project_id": row.project_id,
            }
    e = EVENT.c
    events = select(EVENT).where(e.visitor_id == visitor).order_by(e.happened, e.id)
    for row in paced(connection.execute(events)):
        yield {
            "type": "event",
            "time": _time(row.happened),
            "uuid": str(uuid.UUID(bytes=bytes(row.uuid))),
            "key": row.key,
            "entity_id": row.entity_id,
            "project_id": row.project_id,
            "revenue": row.revenue,
            "value": row.value,
            "tags": None if row.tags is None else orjson.loads(row.tags),
        }


def _time(milliseconds: int) -> str:
    return format_time(_EPOCH + timedelta(milliseconds=milliseconds))
