"""List attributes: uploaded lists of values that visitors are looked up in.

No response shows the content. It has a table of its own, so that nothing else reads it; the list attribute keeps its
digest, which changes with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.entities.names import name_problems
from optimizely_api.services.experiments.tables import METADATA, list_contents, next_ids
from optimizely_api.services.schema import field_error

MAX_ENTRY_CHARACTERS = 100

LIST_ATTRIBUTES = Entity(
    "ListAttribute", METADATA, next_ids, initial={"description": "", "list_type": "cookies"}
)


@LIST_ATTRIBUTES.complete
async def content_is_kept_apart(
    connection: AsyncConnection, attribute: dict[str, Any], before: dict[str, Any] | None
) -> dict[str, Any]:
    kept = {name: value for name, value in attribute.items() if name != "list_content"}
    content = attribute.get("list_content")
    if content is None:
        return kept
    if problem := _problem_of(content):
        raise field_error("/list_content", problem)
    digest = hashlib.sha256(content.encode()).hexdigest()
    if before is None or digest != before.get("content_sha256"):
        await connection.execute(delete(list_contents).where(list_contents.c.list_attribute_id == kept["id"]))
        await connection.execute(insert(list_contents).values(list_attribute_id=kept["id"], content=content))
    return {**kept, "content_sha256": digest}


def _problem_of(content: str) -> str | None:
    for number, entry in enumerate(content.split(","), 1):
        if len(entry.strip()) > MAX_ENTRY_CHARACTERS:
            return f"has more than {MAX_ENTRY_CHARACTERS} characters in entry {number}"
    return None


@LIST_ATTRIBUTES.reference
async def name_is_unique(
    connection: AsyncConnection, attribute: dict[str, Any], before: dict[str, Any] | None
) -> Iterable[tuple[str, str]]:
    return await name_problems(connection, LIST_ATTRIBUTES.table, attribute, among_archived=True)


@LIST_ATTRIBUTES.derive
async def say_where_the_content_is(connection: AsyncConnection, found: Sequence[dict[str, Any]]) -> None:
    for attribute in found:
        attribute["s3_path"] = f"lists/{attribute['id']}"
