"""Who an experiment or a rollout rule is for: `everyone`, or the text of a JSON list of audiences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import BigInteger, Boolean, column, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments.conditions import OPERATORS, leaves
from optimizely_api.services.http.query import MAX_ID

EVERYONE = "everyone"
MAX_DEPTH = 20
MAX_AUDIENCES = 10_000
WHAT_IT_MUST_BE = (
    'must be "everyone" or the text of a JSON list such as ["or", {"audience_id": 1}, {"audience_id": 2}]'
)

_AUDIENCES = table(
    "audiences", column("id", BigInteger), column("project_id", BigInteger), column("archived", Boolean)
)


def canonical(text: str) -> str:
    """The same conditions as they are answered: JSON with sorted keys; what is no JSON stays as it is."""
    try:
        return text if text == EVERYONE else json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return text


def is_everyone(text: str) -> bool:
    return text == EVERYONE or canonical(text) == "[]"


def same_people(one: str, other: str) -> bool:
    """Whether two conditions say the same, up to how their JSON is written."""
    return (is_everyone(one) and is_everyone(other)) or canonical(one) == canonical(other)


def problem_of(text: str) -> str | None:
    """What is wrong with the conditions, without looking at the audiences; None when nothing is."""
    if is_everyone(text):
        return None
    try:
        ids = list(_audience_ids(json.loads(text), 1))
    except (ValueError, RecursionError):
        return WHAT_IT_MUST_BE
    return f"names more than {MAX_AUDIENCES} audiences" if len(ids) > MAX_AUDIENCES else None


def audience_ids(text: object) -> set[int]:
    """The ids in conditions; also in those of a form that is refused today, which an earlier release stored."""
    try:
        tree = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return set()
    found = leaves(tree) if isinstance(tree, list) else [tree] if isinstance(tree, dict) else []
    ids = (leaf.get("audience_id") for leaf in found)
    return {audience_id for audience_id in ids if type(audience_id) is int and 0 < audience_id <= MAX_ID}


def _audience_ids(node: Any, depth: int) -> Iterator[int]:
    if not isinstance(node, list) or not node or depth > MAX_DEPTH:
        raise ValueError(WHAT_IT_MUST_BE)
    operator, *operands = node if node[0] in OPERATORS else ["or", *node]
    if not operands or (operator == "not" and len(operands) != 1):
        raise ValueError(WHAT_IT_MUST_BE)
    for operand in operands:
        if isinstance(operand, dict):
            yield _audience_id(operand)
        else:
            yield from _audience_ids(operand, depth + 1)


def _audience_id(leaf: dict[str, Any]) -> int:
    audience_id = leaf.get("audience_id")
    if leaf.keys() != {"audience_id"} or type(audience_id) is not int or not 0 < audience_id <= MAX_ID:
        raise ValueError(WHAT_IT_MUST_BE)
    return audience_id


async def unusable_audience(connection: AsyncConnection, project_id: int, named: Iterable[int]) -> str | None:
    """What is wrong with the first of the audiences that does not exist in the project, or is archived."""
    named = sorted(named)
    columns = _AUDIENCES.c
    query = select(columns.id, columns.archived).where(
        columns.id.in_(named), columns.project_id == project_id
    )
    found = {row.id: row.archived for row in await connection.execute(query)} if named else {}
    for audience_id in named:
        if audience_id not in found:
            return f"names audience {audience_id}, which is no audience of this project"
        if found[audience_id]:
            return f"names audience {audience_id}, which is archived"
    return None
