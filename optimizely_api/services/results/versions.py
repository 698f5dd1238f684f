"""Whether an experiment's results may have changed: a version of its data, and an entity tag for an answer.

An answer follows from the question, from what is stored, and, when its interval is open, from the time: visitors'
clocks may be ahead, and what is dated ahead of ours only counts when its time has come. So the tag is made of

- the question's body;
- the experiment's data version, which grows in the transaction of every event of a visitor who is in it: the event may
  be a conversion, move the visitor's decision, or carry an attribute that a segment asks for;
- the five minutes of the clock that it is computed in, when the interval is open: when it ends now, or later;

and there is none while data are dated beyond what an open interval sees: they will come in with time alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from sqlalchemy import Connection, case, select

from optimizely_api.http.entity_tags import entity_tag
from optimizely_api.services.results.query.questions import ROUNDED_TO_MILLISECONDS, Question
from optimizely_api.services.results.statements import upsert, write
from optimizely_api.services.results.tables import DATA_VERSION

# To be raised when the same question about the same data gets another answer: callers may keep tags for long.
ANSWERS = 3


def data_version(connection: Connection, experiment_id: int) -> int:
    """The version of the experiment's data in the state that the connection sees; 0 before any event."""
    query = select(DATA_VERSION.c.version).where(DATA_VERSION.c.experiment_id == experiment_id)
    version: int | None = connection.execute(query).scalar()
    return version or 0


def raise_versions(connection: Connection, experiments: Iterable[int]) -> None:
    """Let the versions of these experiments grow, in the transaction of what changes their data.

    They are microseconds since 1970, or one more than before where the clock stood still: so that a database brought
    back from a copy does not give other data a version that callers know.
    """
    statement, known = upsert(connection, DATA_VERSION), DATA_VERSION.c.version
    new = statement.excluded.version
    statement = statement.on_conflict_do_update(
        index_elements=["experiment_id"], set_={"version": case((new > known, new), else_=known + 1)}
    )
    now = time.time_ns() // 1000
    write(
        connection, statement, ({"experiment_id": number, "version": now} for number in sorted(experiments))
    )


def results_tag(question: Question, body: bytes, version: int) -> str:
    """The entity tag of the answer to a question that was read of `body`, over data of this version."""
    asked = ANSWERS, question.experiment_id, question.interval.slot, version
    return entity_tag(body, repr(asked))


def answered_until(question: Question, version: int) -> int:
    """The moment that the answer is about, in milliseconds: the end that was asked for, or when the data last changed.

    Where they have not changed in these five minutes, it is the beginning of these. It follows from what the entity
    tag follows from, so that the same answer has the same bytes whichever process computes it, and when.
    """
    interval = question.interval
    if interval.end is not None or interval.slot is None:
        return interval.limit
    changed = version // 1_000_000 * 1_000
    return max(changed, interval.slot * ROUNDED_TO_MILLISECONDS, interval.start or 0)
