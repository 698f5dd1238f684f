"""Keeps the index as the entities are: with each of their changes."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments.audiences import AUDIENCES
from optimizely_api.services.experiments.events import EVENTS
from optimizely_api.services.experiments.features import FEATURES
from optimizely_api.services.experiments.groups import GROUPS
from optimizely_api.services.experiments.pages import PAGES
from optimizely_api.services.experiments.search.index import GROUP, fill, index

__all__ = ["fill"]


@AUDIENCES.stored
async def audience_is_searched(connection: AsyncConnection, audience: dict[str, Any]) -> None:
    await index(connection, "audience", [audience["id"]])


@EVENTS.stored
async def event_is_searched(connection: AsyncConnection, event: dict[str, Any]) -> None:
    await index(connection, "event", [event["id"]])


@FEATURES.stored
async def feature_is_searched(connection: AsyncConnection, feature: dict[str, Any]) -> None:
    await index(connection, "feature", [feature["id"]])


@GROUPS.stored
async def members_of_a_group_are_known(connection: AsyncConnection, group: dict[str, Any]) -> None:
    await index(connection, GROUP, [group["id"]])


@PAGES.stored
async def page_is_searched(connection: AsyncConnection, page: dict[str, Any]) -> None:
    await index(connection, "page", [page["id"]])
