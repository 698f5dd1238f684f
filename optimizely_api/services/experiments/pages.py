"""Pages: where on a site experiments run and click events happen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from aiohttp import web
from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.entities.keys import free_key
from optimizely_api.services.experiments.running import running_user
from optimizely_api.services.experiments.tables import METADATA, events, next_ids
from optimizely_api.services.http.errors import conflict
from optimizely_api.services.schema import BOOLEAN

Json = dict[str, Any]


class Pages(Entity):
    """Pages, of which those for single use are changed by their owners alone."""

    async def update(
        self, connection: AsyncConnection, entity_id: int, body: Json, at: datetime, if_match: str = ""
    ) -> Json:
        """Change a page; 409 for one that belongs to the `url_targeting` of an experiment or campaign."""
        page = await self.get(connection, entity_id)
        if any(page.get(name) != value for name, value in self._change.read(body).items()):
            _refuse_single_use(page)
        return await super().update(connection, entity_id, body, at, if_match)

    async def archive(
        self, connection: AsyncConnection, entity_id: int, at: datetime, if_match: str = ""
    ) -> None:
        """Archive a page; 409 for one that belongs to the `url_targeting` of an experiment or campaign."""
        _refuse_single_use(await self.get(connection, entity_id))
        await super().archive(connection, entity_id, at, if_match)

    async def change_by_owner(
        self, connection: AsyncConnection, entity_id: int, body: Json, at: datetime
    ) -> Json:
        """Change a page for single use, as its owner says."""
        return await super().update(connection, entity_id, body, at)


def _refuse_single_use(page: Json) -> None:
    if page.get("single_use"):
        raise conflict(
            f"page {page['id']} is for single use: change the url_targeting of its experiment or campaign"
        )


PAGES = Pages(
    "Page",
    METADATA,
    next_ids,
    initial={"activation_type": "immediate", "page_type": "single_url"},
    internal={"single_use": BOOLEAN},
)
NEEDS_CODE = ("polling", "callback")


@PAGES.complete
async def key_and_conditions_follow_from_name_and_address(
    connection: AsyncConnection, page: dict[str, Any], before: dict[str, Any] | None
) -> dict[str, Any]:
    page = dict(page)
    if page.get("key") is None:
        page["key"] = await free_key(connection, (PAGES.table, events), page)
    if "conditions" not in page:
        page["conditions"] = default_conditions(page["edit_url"])
    if before is None or page["conditions"] != before["conditions"]:
        page["conditions"] = _canonical(page["conditions"])
    return page


def default_conditions(edit_url: str) -> str:
    """The conditions that only this address meets."""
    address = {"match_type": "simple", "type": "url", "value": edit_url}
    return json.dumps(["and", ["or", address]])


def _canonical(text: str) -> str:
    """The same JSON as every response has it, with sorted keys; what is no JSON stays, for a rule to refuse."""
    try:
        return json.dumps(json.loads(text), sort_keys=True, allow_nan=False)
    except (ValueError, RecursionError):
        return text


@PAGES.complete
async def a_page_of_a_running_experiment_is_not_archived(
    connection: AsyncConnection, page: dict[str, Any], before: dict[str, Any] | None
) -> dict[str, Any]:
    if before is None or before["archived"] or not page["archived"]:
        return page
    if experiment_id := await running_user(connection, "page", page["id"]):
        raise conflict(
            f"page {page['id']} cannot be archived: experiment {experiment_id}, which runs, uses it"
        )
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


def listed() -> ColumnElement[bool]:
    """Pages for single use are read by their ids alone."""
    is_listed: ColumnElement[bool] = PAGES.table.c.document["single_use"].as_boolean().is_not(True)
    return is_listed


def where_listed(request: web.Request) -> list[ColumnElement[bool]]:
    """Of pages, those that lists have."""
    return [listed()]
