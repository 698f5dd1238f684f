"""What experiments and campaigns refer to by id: audiences, pages and events, which must be of their project."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TableClause, column, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.http.errors import field_errors
from optimizely_api.services.schema import field_error

EVERYONE = "everyone"
OPERATORS = ("and", "or", "not")
DEEPEST_CONDITIONS = 20


def _of_kind(name: str) -> TableClause:
    return table(name, column("id"), column("project_id"), column("archived"))


# The tables that ids of a kind are found in. A page is an event too: that it is seen.
TABLES: Mapping[str, tuple[TableClause, ...]] = {
    "audience": (_of_kind("audiences"),),
    "page": (_of_kind("pages"),),
    "event": (_of_kind("events"), _of_kind("pages")),
}


@dataclass(frozen=True)
class Reference:
    """An id in a document, and where it stands."""

    kind: str
    pointer: str
    id: int


async def check_references(
    connection: AsyncConnection, project_id: int, document: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """400 for each id that names nothing of the project, or something archived; ids that were there before may stay."""
    kept = {(one.kind, one.id) for one in references_of(before)}
    new = [one for one in references_of(document) if (one.kind, one.id) not in kept]
    problems = {}
    for kind in sorted({one.kind for one in new}):
        of_kind = [one for one in new if one.kind == kind]
        archived = await _archived_by_id(connection, kind, project_id, {one.id for one in of_kind})
        for one in of_kind:
            if one.id not in archived:
                problems[one.pointer] = f"is no {kind} of this project"
            elif archived[one.id]:
                problems[one.pointer] = f"is an archived {kind}"
    if problems:
        raise field_errors(problems)


async def _archived_by_id(
    connection: AsyncConnection, kind: str, project_id: int, ids: set[int]
) -> dict[int, bool]:
    found: dict[int, bool] = {}
    for rows in TABLES[kind]:
        columns = rows.c
        query = select(columns.id, columns.archived)
        query = query.where(columns.id.in_(sorted(ids)), columns.project_id == project_id)
        found |= {row.id: bool(row.archived) for row in await connection.execute(query)}
    return found


def references_of(document: Mapping[str, Any]) -> Iterator[Reference]:
    """Every id of an audience, page or event in an experiment or a campaign."""
    text = document.get("audience_conditions", EVERYONE)
    for audience_id in sorted(_audience_ids(_parsed(text))):
        yield Reference("audience", "/audience_conditions", audience_id)
    for number, page_id in enumerate(document.get("page_ids", ())):
        yield Reference("page", f"/page_ids/{number}", page_id)
    for number, variation in enumerate(document.get("variations", ())):
        for place, action in enumerate(variation.get("actions", ())):
            yield Reference("page", f"/variations/{number}/actions/{place}/page_id", action["page_id"])
    for number, metric in enumerate(document.get("metrics", ())):
        yield from _of_metric(f"/metrics/{number}", metric)


def _of_metric(pointer: str, metric: Mapping[str, Any]) -> Iterator[Reference]:
    if metric.get("event_id") is not None:
        kind = "page" if metric.get("aggregator") in ("bounce", "exit") else "event"
        yield Reference(kind, f"{pointer}/event_id", metric["event_id"])
    for number, part in enumerate(metric.get("metrics", ())):
        yield from _of_metric(f"{pointer}/metrics/{number}", part)


def read_conditions(text: str) -> str:
    """The `audience_conditions` as they are kept: with sorted keys; 400 unless they say who takes part."""
    if text == EVERYONE:
        return text
    try:
        conditions = json.loads(text)
        _check_conditions(conditions, 1)
    except (ValueError, RecursionError) as exc:
        detail = str(exc) if type(exc) is ValueError else "is no JSON"
        raise field_error("/audience_conditions", detail) from exc
    return json.dumps(conditions, sort_keys=True)


def _check_conditions(node: Any, depth: int) -> None:
    """Raise ValueError unless the node is a list of audiences and lists, which may begin with an operator."""
    if not isinstance(node, list):
        raise ValueError(f'must be "{EVERYONE}" or a list such as ["or", {{"audience_id": 1}}]')
    if depth > DEEPEST_CONDITIONS:
        raise ValueError(f"is deeper than {DEEPEST_CONDITIONS} lists")
    operator, *operands = node if node and isinstance(node[0], str) else ["or", *node]
    if operator not in OPERATORS:
        raise ValueError(f"must begin each list with one of {', '.join(OPERATORS)}")
    if operator == "not" and len(operands) != 1:
        raise ValueError("must have one operand after each not")
    for operand in operands:
        if isinstance(operand, dict):
            if type(operand.get("audience_id")) is not int:
                raise ValueError("must name each audience by a number, its audience_id")
        else:
            _check_conditions(operand, depth + 1)


def _parsed(text: str) -> Any:
    try:
        return [] if text == EVERYONE else json.loads(text)
    except (ValueError, RecursionError):  # stored by an earlier release, which kept any text
        return []


def _audience_ids(node: Any) -> set[int]:
    if isinstance(node, dict):
        audience_id = node.get("audience_id")
        return {audience_id} if type(audience_id) is int else set()
    inner: Iterable[Any] = node if isinstance(node, list) else ()
    return {audience_id for one in inner for audience_id in _audience_ids(one)}
