"""How many records of changes there are on each day: so that any page of a long history is found as fast as the first.

A row counts the records of a project, a day, a type of entity and a user; "" for either stands for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments.tables import change_counts, changes
from optimizely_api.services.http.query import Page
from optimizely_api.services.storage.database import RECORDED
from optimizely_api.services.storage.rows import upsert

ALL = ""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEY = ("project_id", "day", "entity_type", "user_name")
COUNTS = change_counts.c


def day_of(moment: datetime) -> int:
    """The day, in UTC, counted from 1970."""
    return (moment - EPOCH).days


def beginning_of(day: int) -> datetime:
    """When the day begins."""
    return EPOCH + timedelta(days=day)


@dataclass(frozen=True)
class Filters:
    """What records are listed; empty means all."""

    project_id: int
    entity_types: Sequence[str]
    user_names: Sequence[str]
    start: datetime | None
    end: datetime | None


async def count_recorded(connection: AsyncConnection) -> None:
    """Count the records that the transaction has made. It is the last of its writes but datafiles.

    Two transactions that count the same do so one after the other: in one order, so that neither waits for both.
    """
    numbers = Counter[tuple[Any, ...]]()
    for one in connection.info[RECORDED]:
        for entity_type in (one["entity_type"], ALL):
            for user_name in {one["user_name"], ALL}:  # schedules have no name: theirs count for all alone
                numbers[one["project_id"], day_of(one["created"]), entity_type, user_name] += 1
    statement = upsert(connection.dialect.name, change_counts)
    more = {"number": COUNTS.number + statement.excluded.number}
    statement = statement.on_conflict_do_update(index_elements=KEY, set_=more)
    for key, number in sorted(numbers.items()):
        await connection.execute(statement.values(**dict(zip(KEY, key, strict=True)), number=number))


async def find_page(
    connection: AsyncConnection, filters: Filters, where: Iterable[ColumnElement[bool]], page: Page
) -> tuple[int, datetime | None, int]:
    """(number of records, before which moment the page's first one is, how many between are on earlier pages).

    `where` are the same filters on the records themselves, for the days that count in part. The moment is None when
    the page is beyond the end.
    """
    numbers = await _numbers(connection, filters, where)
    total, left = sum(number for _, number in numbers), page.offset
    for day, number in numbers:
        if left < number:
            return total, beginning_of(day + 1), left
        left -= number
    return total, None, 0


async def _numbers(
    connection: AsyncConnection, filters: Filters, where: Iterable[ColumnElement[bool]]
) -> list[tuple[int, int]]:
    """(day, its number), from the newest day to the oldest."""
    query = select(COUNTS.day, func.sum(COUNTS.number).label("number")).where(
        COUNTS.project_id == filters.project_id,
        COUNTS.entity_type.in_(filters.entity_types or [ALL]),
        COUNTS.user_name.in_(filters.user_names or [ALL]),
    )
    if filters.start is not None:
        query = query.where(COUNTS.day >= day_of(filters.start))
    if filters.end is not None:
        query = query.where(COUNTS.day <= day_of(filters.end))
    rows = await connection.execute(query.group_by(COUNTS.day).order_by(COUNTS.day.desc()))
    in_part = {day_of(moment) for moment in (filters.start, filters.end) if moment is not None}
    return [
        (row.day, await _number_on(connection, row.day, where) if row.day in in_part else int(row.number))
        for row in rows
    ]


async def _number_on(connection: AsyncConnection, day: int, where: Iterable[ColumnElement[bool]]) -> int:
    created = changes.c.created
    query = select(func.count()).select_from(changes)
    query = query.where(*where, created >= beginning_of(day), created < beginning_of(day + 1))
    return int((await connection.execute(query)).scalar_one())
