"""Which experiments a visitor was in: the first decision for each, which the visitor's events told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from optimizely_api.services.http.query import MAX_ID
from optimizely_api.services.results.tables import ASSIGNMENT, HOLDBACK, VISITOR
from optimizely_api.services.schema import ID, TEXT, Schema, object_of

MOST_AT_ONCE = 100

_TIME = {"type": "integer", "minimum": -(2**62), "maximum": 2**62}
_QUESTION = Schema(
    object_of(
        {
            "account_id": ID,
            "visitor_id": TEXT,
            "start_time": _TIME,
            "end_time": _TIME,
            "page": {"type": "integer", "minimum": 1, "maximum": 10**9},
            "per_page": {"type": "integer", "minimum": 1, "maximum": MOST_AT_ONCE},
        },
        *("account_id", "visitor_id", "page", "per_page"),
    )
)


@dataclass(frozen=True, slots=True)
class Question:
    """Whose decisions, in which milliseconds since 1970 (both included), and which of them, the newest first."""

    account_id: int
    visitor_id: str
    page: int
    per_page: int
    start_time: int | None = None
    end_time: int | None = None


def read_decisions_question(body: dict[str, Any]) -> Question:
    """Read a question; 400 for anything else."""
    return Question(**_QUESTION.read(body))


def list_decisions(connection: Connection, question: Question) -> tuple[int, list[dict[str, Any]]]:
    """The number of decisions, and those of the page; without `variation_id` for a visitor who was held back."""
    c = ASSIGNMENT.c
    query = select(c.experiment_id, c.variation_id, c.entered).join(VISITOR, VISITOR.c.id == c.visitor_id)
    query = query.where(
        VISITOR.c.account_id == str(question.account_id), VISITOR.c.key == question.visitor_id
    )
    query = query.where(c.experiment_id.between(1, MAX_ID))  # senders may name any number
    if question.start_time is not None:
        query = query.where(c.entered >= question.start_time)
    if question.end_time is not None:
        query = query.where(c.entered <= question.end_time)
    counted = query.with_only_columns(func.count(), maintain_column_froms=True)
    total = connection.execute(counted).scalar_one()
    query = query.order_by(c.entered.desc(), c.experiment_id.desc()).limit(question.per_page)
    rows = connection.execute(query.offset((question.page - 1) * question.per_page))
    return total, [_decision(*row) for row in rows]


def _decision(experiment_id: int, variation_id: int, entered: int) -> dict[str, Any]:
    decision = {"experiment_id": experiment_id, "timestamp": entered, "is_holdback": variation_id == HOLDBACK}
    return decision if variation_id == HOLDBACK else {**decision, "variation_id": variation_id}
