"""Keys for entities whose callers give none."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

_NOT_OF_A_KEY = re.compile("[^a-z0-9_]+")
SLUG_CHARACTERS = 32


async def free_key(connection: AsyncConnection, table: Table, entity: dict[str, Any]) -> str:
    """`<project id>_<slug of the name>`, with a number appended when that key is taken in the project."""
    slug = _NOT_OF_A_KEY.sub("_", entity["name"].lower())[:SLUG_CHARACTERS].strip("_")
    first = f"{entity['project_id']}_{slug}"
    columns = table.c
    like = select(columns.key).where(
        columns.project_id == entity["project_id"], columns.key.startswith(first, autoescape=True)
    )
    taken = set((await connection.execute(like)).scalars())
    keys = (first if number == 1 else f"{first}_{number}" for number in count(1))
    return next(key for key in keys if key not in taken)
