"""Accounts with many entities, written into a service's tables at once: by the API it would take hours."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments import handlers  # noqa: F401 -- declares the tables of all entities
from optimizely_api.services.experiments.tables import METADATA

Json = dict[str, Any]

ACCOUNT, PROJECTS = 7, 20
FIRST_ID, FIRST_PROJECT = 10_000_000, 100
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 2_000
# fmt: off
WORDS = (
    "checkout", "basket", "headline", "hero", "banner", "price", "shipping", "login", "signup", "filter",
    "button", "colour", "layout", "trial", "newsletter", "mobile", "desktop", "returning", "visitor",
    "segment", "loyalty", "discount", "summer", "winter", "spring", "autumn", "holiday", "flash", "sale",
    "product", "review", "rating", "image", "gallery", "video", "footer", "header", "navigation", "menu",
    "personal", "welcome", "modal", "popup", "exit", "intent",
)
# fmt: on
STATES = ("not_started", "running", "paused", "archived")
KINDS = ("experiments", "layers", "features", "audiences", "pages", "events")


def rows_of(kind: str, number: int, first_id: int, chance: random.Random) -> Iterator[Json]:
    """Rows of a table; a layer for each experiment is the caller's to make."""
    for entity_id in range(first_id, first_id + number):
        name = " ".join(chance.sample(WORDS, 3)).title()
        moments = sorted(EPOCH + timedelta(seconds=chance.randrange(20_000_000)) for _ in range(2))
        row = {
            "id": entity_id,
            "account_id": ACCOUNT,
            "project_id": FIRST_PROJECT + entity_id % PROJECTS,
            "created": moments[0],
            "last_modified": moments[1],
        }
        yield row | _OWN[kind](entity_id, f"{name} {entity_id}", chance)


def _description(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=8))


def _experiment(entity_id: int, name: str, chance: random.Random) -> Json:
    audience = FIRST_ID + chance.randrange(1_000)
    variations = [
        {
            "variation_id": entity_id * 10 + n,
            "name": f"Variation {n}",
            "weight": 5000,
            "status": "active",
            "actions": [],
        }
        for n in range(2)
    ]
    metrics = [{"event_id": FIRST_ID + n, "aggregator": "unique", "scope": "visitor"} for n in range(2)]
    document = {
        "name": name,
        "description": _description(chance),
        "type": "a/b",
        "audience_conditions": json.dumps(["or", {"audience_id": audience}]),
        "variations": variations,
        "metrics": metrics,
        "changes": [],
        "traffic_allocation": 10_000,
        "environments": {"production": {"status": "running"}},
    }
    return {
        "layer_id": entity_id,
        "key": name.lower().replace(" ", "_"),
        "is_classic": False,
        "document": document,
        "stats_config": {"difference_type": "relative", "epoch_enabled": True},
        "status": chance.choice(STATES),
        "awaits_start": False,
    }


def _layer(entity_id: int, name: str, chance: random.Random) -> Json:
    document = {"name": name, "description": _description(chance), "metrics": [], "changes": []}
    return {"type": "personalization", "status": chance.choice(STATES[:3]), "document": document}


def _layer_of_one(entity_id: int, name: str, chance: random.Random) -> Json:
    return {"type": "other", "status": None, "document": {}}


def _entity(**members: Any) -> Any:
    def make(entity_id: int, name: str, chance: random.Random) -> Json:
        document = {"description": _description(chance), **members}
        return {
            "key": name.lower().replace(" ", "_"),
            "name": name,
            "archived": chance.random() < 0.2,
            "document": document,
        }

    return make


def _event(entity_id: int, name: str, chance: random.Random) -> Json:
    event: Json = _entity(category="other", event_type="custom")(entity_id, name, chance)
    return {**event, "is_classic": False, "page_id": None}


def _audience(entity_id: int, name: str, chance: random.Random) -> Json:
    audience: Json = _entity(conditions="[]", platform="web", is_classic=False)(entity_id, name, chance)
    return {**audience, "key": None}


_RULE = {"audience_conditions": "everyone", "enabled": True, "percentage_included": 5000}
_OWN: dict[str, Any] = {
    "experiments": _experiment,
    "layers": _layer,
    "layers of one": _layer_of_one,
    "features": _entity(
        environments={"production": {"id": 1, "is_primary": True, "rollout_rules": [_RULE]}},
        variables=[],
        has_been_on=True,
    ),
    "audiences": _audience,
    "pages": _entity(
        edit_url="https://shop.example", page_type="single_url", activation_type="immediate", conditions="[]"
    ),
    "events": _event,
}


async def insert_crowd(connection: AsyncConnection, number: int) -> None:
    """Insert `number` entities: of each kind as many, in 20 projects of one account."""
    chance = random.Random(1)
    each, first_id = number // len(KINDS), FIRST_ID
    for kind in ("audiences", "events", "pages", "features", "layers", "experiments"):
        if kind == "experiments":
            await _insert(connection, METADATA.tables["layers"], "layers of one", each, first_id, chance)
        await _insert(connection, METADATA.tables[kind], kind, each, first_id, chance)
        first_id += each


async def _insert(
    connection: AsyncConnection, table: Table, kind: str, number: int, first_id: int, chance: random.Random
) -> None:
    rows = list(rows_of(kind, number, first_id, chance))
    for start in range(0, len(rows), BATCH):
        await connection.execute(insert(table), rows[start : start + BATCH])
