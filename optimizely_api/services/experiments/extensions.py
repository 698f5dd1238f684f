"""Extensions: building blocks with fields of their own, that variations insert into pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.definitions import defaults
from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.experiments.tables import METADATA, next_ids
from optimizely_api.services.experiments.usage import counts_of_users

EXTENSIONS = Entity("Extension", METADATA, next_ids, initial={"description": "", "enabled": True})
WITH_CHOICES = ("dropdown", "multi_select")


@EXTENSIONS.prepare
def code_that_is_left_out_stays(extension: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    kept = before["implementation"] if before else defaults("Implementation")
    return {**extension, "implementation": {**kept, **extension["implementation"]}}


@EXTENSIONS.rule
def fields_have_different_names(
    extension: dict[str, Any], before: dict[str, Any] | None
) -> Iterator[tuple[str, str]]:
    names = set[str]()
    for number, field in enumerate(extension["fields"]):
        if field["api_name"] in names:
            yield f"/fields/{number}/api_name", "stands there twice"
        names.add(field["api_name"])


@EXTENSIONS.rule
def default_values_are_json(
    extension: dict[str, Any], before: dict[str, Any] | None
) -> Iterator[tuple[str, str]]:
    for number, field in enumerate(extension["fields"]):
        if not _is_json(field["default_value"]):
            yield f"/fields/{number}/default_value", 'must be the text of JSON, such as "red" with its quotes'


@EXTENSIONS.rule
def fields_to_choose_from_have_choices(
    extension: dict[str, Any], before: dict[str, Any] | None
) -> Iterator[tuple[str, str]]:
    for number, field in enumerate(extension["fields"]):
        if field["field_type"] in WITH_CHOICES and not field.get("options", {}).get("choices"):
            yield f"/fields/{number}/options", f"needs choices with field_type {field['field_type']}"


@EXTENSIONS.derive
async def count_experiments(connection: AsyncConnection, found: Sequence[dict[str, Any]]) -> None:
    """How many experiments that are not archived use each extension."""
    counts = await counts_of_users(connection, "extension", [extension["id"] for extension in found])
    for extension in found:
        extension["experiment_count"] = counts[extension["id"]]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
