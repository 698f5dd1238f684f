"""Keys for entities whose callers give none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

_NOT_OF_A_KEY = re.compile("[^a-z0-9_]+")
SLUG_CHARACTERS = 32


async def free_key(connection: AsyncConnection, tables: Iterable[Table], entity: dict[str, Any]) -> str:
    """`<project id>_<slug of the name>`, with a number appended when the project has that key in one of the tables."""
    slug = _NOT_OF_A_KEY.sub("_", entity["name"].lower())[:SLUG_CHARACTERS].strip("_")
    first = f"{entity['project_id']}_{slug}"
    taken = set[str]()
    for table in tables:
        like = select(table.c.key).where(
            table.c.project_id == entity["project_id"], table.c.key.startswith(first, autoescape=True)
        )
        taken.update((await connection.execute(like)).scalars())
    keys = (first if number == 1 else f"{first}_{number}" for number in count(1))
    return next(key for key in keys if key not in taken)
