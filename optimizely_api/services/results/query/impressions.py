"""How many impressions experiments had between two days: a look-up in sums by day, however many events there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection, func, select

from optimizely_api.services.results.tables import IMPRESSIONS
from optimizely_api.services.schema import ID, TEXT, Schema, field_error, list_of, object_of

MAX_EXPERIMENTS = 1_000  # of one question: bounds the rows that it reads to so many a day

_FIRST_DAY = date(1970, 1, 1)
_QUESTION = Schema(
    object_of(
        {"experiment_ids": list_of(ID, most=MAX_EXPERIMENTS), "first_day": TEXT, "last_day": TEXT},
        "experiment_ids",
        "first_day",
        "last_day",
    )
)


@dataclass(frozen=True, slots=True)
class Question:
    """Which experiments, and the first and last day (UTC, both included)."""

    experiment_ids: Sequence[int]
    first_day: date
    last_day: date


def read_impressions_question(body: dict[str, Any]) -> Question:
    """Read `{"experiment_ids", "first_day", "last_day"}`; 400 for anything else."""
    given = _QUESTION.read(body)
    return Question(given["experiment_ids"], _day(given, "first_day"), _day(given, "last_day"))


def count(connection: Connection, question: Question) -> list[dict[str, int]]:
    """`{"experiment_id", "impressions"}` of each experiment that had any, in the order of their ids."""
    c = IMPRESSIONS.c
    first, last = ((day - _FIRST_DAY).days for day in (question.first_day, question.last_day))
    query = (
        select(c.experiment_id, func.sum(c.impressions))
        .where(c.experiment_id.in_(question.experiment_ids), c.day.between(first, last))
        .group_by(c.experiment_id)
        .order_by(c.experiment_id)
    )
    return [{"experiment_id": row[0], "impressions": int(row[1])} for row in connection.execute(query)]


def _day(given: dict[str, Any], name: str) -> date:
    try:
        return date.fromisoformat(given[name])
    except ValueError:
        raise field_error(f"/{name}", "must be a date such as 2026-01-31") from None
