"""Pages: where on a site experiments run and click events happen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.entities.keys import free_key
from optimizely_api.services.experiments.tables import METADATA, next_ids

PAGES = Entity(
    "Page", METADATA, next_ids, initial={"activation_type": "immediate", "page_type": "single_url"}
)
NEEDS_CODE = ("polling", "callback")


@PAGES.complete
async def key_and_conditions_follow_from_name_and_address(
    connection: AsyncConnection, page: dict[str, Any], before: dict[str, Any] | None
) -> dict[str, Any]:
    page = dict(page)
    if page.get("key") is None:
        page["key"] = await free_key(connection, PAGES.table, page)
    if "conditions" not in page:
        address = {"match_type": "simple", "type": "url", "value": page["edit_url"]}
        page["conditions"] = json.dumps(["and", ["or", address]])
    return page


@PAGES.rule
def activation_by_code_needs_code(
    page: dict[str, Any], before: dict[str, Any] | None
) -> Iterator[tuple[str, str]]:
    if page["activation_type"] in NEEDS_CODE and not page.get("activation_code"):
        yield "/activation_code", f"is required with activation_type {page['activation_type']}"


@PAGES.rule
def conditions_are_a_list(page: dict[str, Any], before: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    try:
        is_list = isinstance(json.loads(page["conditions"]), list)
    except (ValueError, RecursionError):
        is_list = False
    if not is_list:
        yield "/conditions", "must be the text of a JSON list, such as " + json.dumps(["and", ["or"]])
