"""Webhooks: addresses of callers that are called, by `delivery`, when something of a project changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.projects.tables import METADATA, next_ids

SECRET_CHARACTERS = 32  # at least

WEBHOOKS = Entity(
    "Webhook",
    METADATA,
    next_ids,
    initial={"active": True, "description": "", "events": ["project.datafile_updated"]},
    internal={"secret": {"type": "string", "minLength": SECRET_CHARACTERS}},
    deletes=True,
    recorded=False,
)


@WEBHOOKS.rule
def is_called_over_http(webhook: dict[str, Any], before: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    try:
        parts = urlsplit(webhook["url"])
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        is_address = False
    if not is_address or any(character.isspace() for character in webhook["url"]):
        yield "/url", "must be an address with http or https, such as https://hooks.shop.example/datafile"


@WEBHOOKS.rule
def has_a_secret_for_signatures(
    webhook: dict[str, Any], before: dict[str, Any] | None
) -> Iterator[tuple[str, str]]:
    if not webhook.get("secret"):
        yield "/secret", "is required"


@WEBHOOKS.derive
async def the_secret_is_never_shown_again(
    connection: AsyncConnection, webhooks: Sequence[dict[str, Any]]
) -> None:
    for webhook in webhooks:
        del webhook["secret"]
