"""How many impressions experiments had between two days: a look-up in sums by day, however many events there are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection, func, select

from optimizely_api.services.results.tables import IMPRESSIONS
from optimizely_api.services.schema import ID, TEXT, Schema, field_error, object_of

MAX_EXPERIMENTS = 1_000  # in one response

_FIRST_DAY = date(1970, 1, 1)
_QUESTION = Schema(
    object_of(
        {
            "first_day": TEXT,
            "last_day": TEXT,
            "after_id": {**ID, "minimum": 0},
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_EXPERIMENTS},
        },
        "first_day",
        "last_day",
        "after_id",
        "limit",
    )
)


@dataclass(frozen=True, slots=True)
class Question:
    """The first and last day (UTC, both included), and how many experiments are wanted, of those with greater ids."""

    first_day: date
    last_day: date
    after_id: int
    limit: int


def read_impressions_question(body: dict[str, Any]) -> Question:
    """Read `{"first_day", "last_day", "after_id", "limit"}`; 400 for anything else."""
    given = _QUESTION.read(body)
    return Question(_day(given, "first_day"), _day(given, "last_day"), given["after_id"], given["limit"])


def count(connection: Connection, question: Question) -> list[dict[str, int]]:
    """`{"experiment_id", "impressions"}` of experiments that had any, of all accounts, in the order of their ids."""
    c = IMPRESSIONS.c
    first, last = ((day - _FIRST_DAY).days for day in (question.first_day, question.last_day))
    query = (
        select(c.experiment_id, func.sum(c.impressions))
        .where(c.experiment_id > question.after_id, c.day.between(first, last))
        .group_by(c.experiment_id)
        .order_by(c.experiment_id)
        .limit(question.limit)
    )
    return [{"experiment_id": row[0], "impressions": int(row[1])} for row in connection.execute(query)]


def _day(given: dict[str, Any], name: str) -> date:
    try:
        return date.fromisoformat(given[name])
    except ValueError:
        raise field_error(f"/{name}", "must be a date such as 2026-01-31") from None
