"""What a page of a long history of changes costs: `python -m tests.services.benchmark_changes`.

A project has 1,000,000 records of 400 days, by ten users. The figures are those of `benchmark_search`.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments.change_counts import ALL, day_of
from optimizely_api.services.experiments.tables import change_counts, changes
from tests.services.measuring import run

RECORDS, DAYS, ENTITIES = 1_000_000, 400, 20_000
PROJECT, ACCOUNT = 100, 7
KINDS = ("attribute", "audience", "campaign", "event", "experiment", "feature", "page")
USERS = tuple(f"user{number}@example.com" for number in range(10))
BEGINNING = datetime(2025, 6, 1, tzinfo=UTC)
BATCH = 5_000
LIMIT_MILLISECONDS = 50
PAGES = (1, 100, 10_000)
FILTERS = {
    "all": "",
    "a user": f"&user={USERS[3]}",
    "a type": "&entity_type=page",
    "a user and a type": f"&user={USERS[3]}&entity_type=page",
    "a month": "&start_time=2025-09-03T05:00:00Z&end_time=2025-10-03T17:00:00Z",
    "an entity": "&entity=experiment:10000004",
}


async def _prepare(connection: AsyncConnection) -> None:
    chance = random.Random(1)
    counts = dict[tuple[Any, ...], int]()
    step = timedelta(days=DAYS) / RECORDS
    for start in range(0, RECORDS, BATCH):
        rows = [_row(BEGINNING + index * step, chance) for index in range(start, start + BATCH)]
        await connection.execute(insert(changes), rows)
        for row in rows:
            for entity_type in (row["entity_type"], ALL):
                for user in (row["user_name"], ALL):
                    key = (day_of(row["created"]), entity_type, user)
                    counts[key] = counts.get(key, 0) + 1
    names = ("day", "entity_type", "user_name")
    values = [
        {"project_id": PROJECT, **dict(zip(names, key, strict=True)), "number": n}
        for key, n in counts.items()
    ]
    for start in range(0, len(values), BATCH):
        await connection.execute(insert(change_counts), values[start : start + BATCH])


def _row(created: datetime, chance: random.Random) -> dict[str, Any]:
    number = chance.randrange(ENTITIES)
    return {
        "account_id": ACCOUNT,
        "project_id": PROJECT,
        "entity_type": KINDS[number % len(KINDS)],
        "entity_id": 10_000_000 + number,
        "entity_name": f"Entity {number}",
        "change_type": "update",
        "revision": 2,
        "changes": [{"property": "name", "description": "Changed name", "before": "One", "after": "Two"}],
        "summary": f"Changed entity {number}",
        "source": "api",
        "user_id": "7",
        "user_name": chance.choice(USERS),
        "created": created,
    }


if __name__ == "__main__":
    path = f"/changes?account_id={ACCOUNT}&project_id={PROJECT}&per_page=100"
    paths = {
        f"{name}, page {page:,}": f"{path}&page={page}{filters}"
        for name, filters in FILTERS.items()
        for page in PAGES
    }
    run(__doc__ or "", paths, _prepare, LIMIT_MILLISECONDS)
