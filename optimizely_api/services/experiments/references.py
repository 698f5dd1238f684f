"""What experiments and campaigns refer to by id: audiences, pages, events and features of their project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Boolean, TableClause, column, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments import audience_conditions
from optimizely_api.services.http.errors import field_errors
from optimizely_api.services.schema import field_error

MAX_IDS = 10_000  # of one kind in a document: one query has fewer than 32,767 parameters


def _of_kind(name: str) -> TableClause:
    # Without their types, PostgreSQL would get ids as the type that the smallest one fits into.
    return table(
        name, column("id", BigInteger), column("project_id", BigInteger), column("archived", Boolean)
    )


# The tables that ids of a kind are found in. A page is an event too: that it is seen.
TABLES: Mapping[str, tuple[TableClause, ...]] = {
    "audience": (_of_kind("audiences"),),
    "feature": (_of_kind("features"),),
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
    named = list(references_of(document))
    new = [one for one in named if (one.kind, one.id) not in kept]
    problems = {}
    for kind in sorted({one.kind for one in new}):
        _check_number([one for one in named if one.kind == kind])
        of_kind = [one for one in new if one.kind == kind]
        archived = await _archived_by_id(connection, kind, project_id, {one.id for one in of_kind})
        for one in of_kind:
            if one.id not in archived:
                problems[one.pointer] = f"is no {kind} of this project"
            elif archived[one.id]:
                problems[one.pointer] = f"is an archived {kind}"
    if problems:
        raise field_errors(problems)


def _check_number(of_kind: list[Reference]) -> None:
    if len({one.id for one in of_kind}) > MAX_IDS:
        problem = f"is one of more than {MAX_IDS} ids of the kind {of_kind[0].kind}"
        raise field_error(of_kind[-1].pointer, problem)


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
    """Every id of an audience, feature, page or event in an experiment or a campaign."""
    if "feature_id" in document:
        yield Reference("feature", "/feature_id", document["feature_id"])
    for audience_id in _audience_ids(document.get("audience_conditions", audience_conditions.EVERYONE)):
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
    if problem := audience_conditions.problem_of(text):
        raise field_error("/audience_conditions", problem)
    return audience_conditions.canonical(text)


def _audience_ids(text: str) -> list[int]:
    # An earlier release stored any text.
    return [] if audience_conditions.problem_of(text) else sorted(audience_conditions.audience_ids(text))
