"""Whether an experiment's results may have changed: a version of its data, and an entity tag for a response.

A response depends on the question, on the stored data and, if its interval is open (ends now or later), on the time:
visitors' clocks may be ahead, and an event dated in the future counts only when that time has come. So the tag covers

- the request body;
- the experiment's data version, which grows in the transaction of every event of one of its visitors: the event may
  be a conversion, move the visitor's decision, or carry an attribute that a segment asks for;
- the current five minutes of the clock, if the interval is open.

A response has no tag while stored events are dated after the limit of its open interval: they enter it by time alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import Connection, case, literal_column, select

from optimizely_api.http.entity_tags import entity_tag
from optimizely_api.services.results.query.questions import FIVE_MINUTES_MILLISECONDS, Question
from optimizely_api.services.results.statements import write
from optimizely_api.services.results.tables import DATA_VERSION
from optimizely_api.services.storage.rows import upsert

# Increase when the same question over the same data gets a different response; clients keep tags for long.
RESPONSE_VERSION = 4


def data_version(connection: Connection, experiment_id: int) -> int:
    """The version of the experiment's data in the connection's snapshot; 0 before any event."""
    query = select(DATA_VERSION.c.version).where(DATA_VERSION.c.experiment_id == experiment_id)
    version: int | None = connection.execute(query).scalar()
    return version or 0


def raise_versions(connection: Connection, experiments: Iterable[int]) -> None:
    """Increase the versions of these experiments, in the transaction that changes their data.

    A version is the time in microseconds since 1970, or the old version plus one if the clock has not advanced. A
    counter would not do: after a restore from a backup it would give new data a version that clients already know.
    """
    now = time.time_ns() // 1000
    rows = ((number, now) for number in sorted(experiments))
    write(connection, _raise(connection.dialect.name), rows)


@cache
def _raise(dialect: str) -> Any:
    statement, old = upsert(dialect, DATA_VERSION), DATA_VERSION.c.version
    new = statement.excluded.version
    return statement.on_conflict_do_update(
        index_elements=["experiment_id"],
        set_={"version": case((new > old, new), else_=old + literal_column("1"))},
    )


def results_tag(question: Question, body: bytes, version: int) -> str:
    """The entity tag of the response to `question`, read from the request body `body`, over data of this version."""
    state = RESPONSE_VERSION, question.experiment_id, question.interval.five_minutes, version
    return entity_tag(body, repr(state))


def results_end(question: Question, version: int) -> int:
    """The end of the period that the results cover, in milliseconds: the requested end, or the data's last change.

    If the data have not changed in the current five minutes, it is the beginning of these. It depends on nothing that
    the entity tag does not cover: responses with one tag have the same bytes, whichever process computes them and when.
    """
    interval = question.interval
    if interval.end is not None or interval.five_minutes is None:
        return interval.limit
    changed = version // 1_000_000 * 1_000
    return max(changed, interval.five_minutes * FIVE_MINUTES_MILLISECONDS, interval.start or 0)
