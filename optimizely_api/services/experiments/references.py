"""The ids in experiments and campaigns: of audiences, pages, events, features and extensions of their project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, TableClause, column, select, table, true
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments import audience_conditions
from optimizely_api.services.http.errors import field_errors
from optimizely_api.services.schema import field_error

MAX_IDS = 10_000  # of one kind in a document: one query has fewer than 32,767 parameters


def _of_kind(name: str) -> TableClause:
    # Without their types, PostgreSQL would get ids as the type that the smallest one fits into.
    return table(
        name,
        column("id", BigInteger),
        column("project_id", BigInteger),
        column("archived", Boolean),
        column("document", JSON),
    )


# The tables that ids of a kind are found in. A page is an event too: that it is seen.
TABLES: Mapping[str, tuple[TableClause, ...]] = {
    "audience": (_of_kind("audiences"),),
    "extension": (_of_kind("extensions"),),
    "feature": (_of_kind("features"),),
    "page": (_of_kind("pages"),),
    "event": (_of_kind("events"), _of_kind("pages")),
}


KEPT_OUT_OF_THE_ARCHIVE = ("audience", "feature", "page")  # while an experiment runs that uses them


@dataclass(frozen=True)
class Reference:
    """An id in a document, and where it stands."""

    kind: str
    pointer: str
    id: int


async def check_references(
    connection: AsyncConnection, project_id: int, document: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """400 for each id of nothing in the project, of what is archived, and of a disabled extension.

    Ids that were there before may stay.
    """
    kept = {(one.kind, one.id) for one in references_of(before)}
    named = list(references_of(document))
    new = [one for one in named if (one.kind, one.id) not in kept]
    problems = {}
    for kind in sorted({one.kind for one in new}):
        _check_number([one for one in named if one.kind == kind])
        of_kind = [one for one in new if one.kind == kind]
        found = await _problems_by_id(connection, kind, project_id, {one.id for one in of_kind})
        for one in of_kind:
            if problem := found.get(one.id, f"is no {kind} of this project"):
                problems[one.pointer] = problem
    if problems:
        raise field_errors(problems)


async def lock_used(connection: AsyncConnection, document: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Let nothing that an experiment needs to run go into the archive until the transaction ends.

    Returns the kind and the id of each that is there already. Call it before ids are allocated: who changes a feature
    locks that first.
    """
    used = list(needed_by(document))
    archived: list[tuple[str, int]] = []
    for kind in KEPT_OUT_OF_THE_ARCHIVE:
        of_kind = [one for one in used if one.kind == kind]
        _check_number(of_kind)
        ids = sorted({one.id for one in of_kind})
        if not ids:
            continue
        columns = TABLES[kind][0].c
        query = select(columns.id, columns.archived).where(columns.id.in_(ids)).order_by(columns.id)
        rows = await connection.execute(query.with_for_update(read=True))
        archived += [(kind, row.id) for row in rows if row.archived]
    return archived


def _check_number(of_kind: list[Reference]) -> None:
    if len({one.id for one in of_kind}) > MAX_IDS:
        problem = f"is one of more than {MAX_IDS} ids of the kind {of_kind[0].kind}"
        raise field_error(of_kind[-1].pointer, problem)


async def _problems_by_id(
    connection: AsyncConnection, kind: str, project_id: int, ids: set[int]
) -> dict[int, str | None]:
    """What forbids to name each of the ids that are of the project; None where nothing does."""
    found: dict[int, str | None] = {}
    for rows in TABLES[kind]:
        columns = rows.c
        enabled = columns.document["enabled"].as_boolean() if kind == "extension" else true()
        query = select(columns.id, columns.archived, enabled.label("enabled"))
        query = query.where(columns.id.in_(sorted(ids)), columns.project_id == project_id)
        for row in await connection.execute(query):
            disabled = None if row.enabled else f"is a disabled {kind}"
            found[row.id] = f"is an archived {kind}" if row.archived else disabled
    return found


def references_of(document: Mapping[str, Any]) -> Iterator[Reference]:
    """Every id of another entity in an experiment or a campaign."""
    if "feature_id" in document:
        yield Reference("feature", "/feature_id", document["feature_id"])
    for audience_id in sorted(audience_conditions.audience_ids(document.get("audience_conditions"))):
        yield Reference("audience", "/audience_conditions", audience_id)
    for number, page_id in enumerate(document.get("page_ids", ())):
        yield Reference("page", f"/page_ids/{number}", page_id)
    for number, variation in enumerate(document.get("variations", ())):
        for place, action in enumerate(variation.get("actions", ())):
            yield from _of_action(f"/variations/{number}/actions/{place}", action)
    for number, metric in enumerate(document.get("metrics", ())):
        yield from _of_metric(f"/metrics/{number}", metric)


def _of_action(pointer: str, action: Mapping[str, Any]) -> Iterator[Reference]:
    if "page_id" in action:
        yield Reference("page", f"{pointer}/page_id", action["page_id"])
    for number, change in enumerate(action.get("changes", ())):
        if change["type"] == "extension" and "extension_id" in change:
            yield Reference(
                "extension", f"{pointer}/changes/{number}/extension_id", int(change["extension_id"])
            )


def _of_metric(pointer: str, metric: Mapping[str, Any]) -> Iterator[Reference]:
    if metric.get("event_id") is not None:
        kind = "page" if metric.get("aggregator") in ("bounce", "exit") else "event"
        yield Reference(kind, f"{pointer}/event_id", metric["event_id"])
    for number, part in enumerate(metric.get("metrics", ())):
        yield from _of_metric(f"{pointer}/metrics/{number}", part)


def needed_by(document: Mapping[str, Any]) -> Iterator[Reference]:
    """Every id of what an experiment or a campaign needs to run, which what it measures is not."""
    return (one for one in references_of(document) if not one.pointer.startswith("/metrics"))


def read_conditions(text: str) -> str:
    """The `audience_conditions` as they are kept: with sorted keys; 400 unless they say who takes part."""
    if problem := audience_conditions.problem_of(text):
        raise field_error("/audience_conditions", problem)
    return audience_conditions.canonical(text)
