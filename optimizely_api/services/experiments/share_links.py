"""Addresses that show a page as a variation would make it, for people who try it out.

Each project has one token, which such an address carries. The snippet that reads it is not part of this service.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments import audience_conditions
from optimizely_api.services.experiments.pages import PAGES
from optimizely_api.services.experiments.tables import preview_tokens
from optimizely_api.services.storage.rows import insert_missing

Json = dict[str, Any]

TOKEN_BYTES = 32


async def keep_token(connection: AsyncConnection, project_id: int, variations: Sequence[Json]) -> None:
    """Give the project a token, if these are the first variations there that change a page."""
    if any(variation.get("actions") for variation in variations):
        token = secrets.token_hex(TOKEN_BYTES)
        await insert_missing(connection, preview_tokens, project_id=project_id, token=token)


async def with_links(connection: AsyncConnection, experiments: Sequence[Json]) -> list[Json]:
    """The experiments, whose variations' actions have a `share_link` where their page has an address."""
    page_ids = sorted({action["page_id"] for one in experiments for action in _actions(one)})
    if not page_ids:
        return list(experiments)
    edit_url = PAGES.table.c.document["edit_url"].as_string().label("edit_url")
    pages = select(PAGES.table.c.id, edit_url).where(PAGES.table.c.id.in_(page_ids))
    addresses = {row.id: row.edit_url for row in await connection.execute(pages)}
    projects = {one["project_id"] for one in experiments}
    query = select(preview_tokens).where(preview_tokens.c.project_id.in_(projects))
    tokens = {row.project_id: row.token for row in await connection.execute(query)}
    return [_linked(one, addresses, tokens.get(one["project_id"])) for one in experiments]


def _actions(experiment: Json) -> Iterator[Json]:
    for variation in experiment["variations"]:
        yield from variation.get("actions", ())


def _linked(experiment: Json, addresses: Mapping[int, str], token: str | None) -> Json:
    if token is None:
        return experiment
    audiences = sorted(audience_conditions.audience_ids(experiment["audience_conditions"]))

    def linked(variation: Json, action: Json) -> Json:
        query = {
            "optimizely_token": token,
            "optimizely_x": variation["variation_id"],
            "optimizely_x_audiences": ",".join(map(str, audiences)),
            "optimizely_preview_layer_ids": experiment["campaign_id"],
            "optimizely_snippet": f"s3-{experiment['project_id']}",
        }
        link = _link(addresses.get(action["page_id"], ""), query.items())
        return {**action, "share_link": link} if link else action

    variations = [
        {**variation, "actions": [linked(variation, action) for action in variation.get("actions", ())]}
        for variation in experiment["variations"]
    ]
    return {**experiment, "variations": variations}


def _link(address: str, query: Iterable[tuple[str, object]]) -> str:
    """The address with more parameters; empty for text that is no address of the web."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return ""
    more = urlencode(list(query), safe=",")
    return parts._replace(query=f"{parts.query}&{more}" if parts.query else more).geturl()
