"""The index of search: it finds what reading everything finds, on both databases, and each write keeps it so."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, select, text

from optimizely_api.services.experiments.search.index import fill
from optimizely_api.services.experiments.search.match import FTS
from optimizely_api.services.experiments.search.words import endings_of, words_of
from optimizely_api.services.experiments.tables import search_entries, search_results, uses
from optimizely_api.services.storage.database import Database
from tests.services.conftest import Caller, migrate_to
from tests.services.test_experiments import OWNER, TWO, make

NAMES = (
    "Checkout flow",
    "checkoutFlow 2",
    "Größe der STRASSE",
    "Straße",
    "購入テスト",
    "ΣΊΣΥΦΟΣ",
    "O'Brien's \"100 %\" \\ off",
    "İstanbul",
    "cafe\u0301",
    "---",
)
QUERIES = (
    *(
        "",
        "CHECKOUT",
        "heckou",
        "out flow",
        "flow 2",
        "check_flow",
        "straße",
        "STRASSE",
        "größe",
        "GRÖSSE",
        "テスト",
    ),
    *(
        "購",
        "σίσυφοσ",
        "'",
        '"100',
        "\\",
        "%",
        "_",
        "o'brien",
        "café",
        "2",
        "İSTANBUL",
        "off OR 2",
        "NEAR(a b)",
        "*",
    ),
)
KINDS = ("experiment", "campaign", "feature", "audience", "page", "event")
PATHS = {"campaign": "/layers?type=personalization&"} | {
    kind: f"/{kind}s?" for kind in KINDS if kind != "campaign"
}


async def everything(experiments: Caller) -> list[dict[str, Any]]:
    """All entities that search knows, as their own lists show them."""
    found = []
    for kind, path in PATHS.items():
        status, body = await experiments.get(f"{path}per_page=1000")
        assert status == 200, body
        # A page is found as a page, not as the event that it is seen.
        found += [{**item, "kind": kind} for item in body["items"] if item.get("event_type") != "pageview"]
    return found


def runs(*texts: str | None) -> list[str]:
    """Their words, by the contract's words: runs of letters and digits in one case."""
    import unicodedata

    folded = (unicodedata.normalize("NFKC", one or "").casefold() for one in texts)
    return [run for one in folded for run in re.findall(r"[^\W_]+", one)]


def passes(entity: dict[str, Any], query: str) -> bool:
    own = runs(entity.get("name"), entity.get("key"))
    wanted = runs(query)
    if query.strip() and not wanted:
        return False
    return all(any(word in run for run in own) or word == str(entity["id"]) for word in wanted)


def is_archived(entity: dict[str, Any]) -> bool:
    return bool(entity.get("archived")) or entity.get("status") == "archived"


def audiences_of(entity: dict[str, Any]) -> set[int]:
    return {int(number) for number in re.findall(r'"audience_id\\*": *([0-9]+)', json.dumps(entity))}


def on_in(entities: Iterable[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Experiments that run in an environment, and features that are on in it."""
    found = []
    for entity in entities:
        environment = entity.get("environments", {}).get(key, {})
        rules = environment.get("rollout_rules", ())
        if environment.get("status") == "running" or any(rule["enabled"] for rule in rules):
            found.append(entity)
    return found


class Shop:
    """Random writes of all kinds of entities, by the API of the service."""

    def __init__(self, experiments: Caller, seed: int) -> None:
        self._experiments, self._chance = experiments, random.Random(seed)
        self._made: dict[str, list[int]] = {kind: [] for kind in (*KINDS, "attribute")}
        self._number = 0

    async def write(self) -> None:
        """Create, change, act on or archive something. What the service refuses changes nothing."""
        kind = self._chance.choice(tuple(self._made))
        if not self._made[kind] or self._chance.random() < 0.4:
            await self._create(kind)
            return
        path = f"/{'layer' if kind == 'campaign' else kind}s/{self._chance.choice(self._made[kind])}"
        if self._chance.random() < 0.15:
            await self._experiments.delete(path)
        elif kind in ("experiment", "campaign") and self._chance.random() < 0.6:
            action = self._chance.choice(("start", "pause", "resume", "unarchive"))
            await self._experiments.patch(f"{path}?action={action}", {})
        else:
            await self._experiments.patch(path, {**self._name(), **self._changes(kind)})

    async def _create(self, kind: str) -> None:
        self._number += 1
        keyed = {} if kind in ("campaign", "audience") else {"key": f"{kind}_key_{self._number}"}
        own = {"page": {"edit_url": "https://shop.example"}, "event": {"event_type": "custom"}}.get(kind, {})
        body = {**OWNER, **self._name(), **keyed, **own, **self._changes(kind)}
        if kind == "experiment":
            body |= {"variations": TWO, "metrics": [], **self._campaign()}
        path = "/layers" if kind == "campaign" else f"/{kind}s"
        status, made = await self._experiments.post(path, body)
        if status == 201:
            self._made[kind].append(made["id"])

    def _name(self) -> dict[str, str]:
        return {"name": f"{self._chance.choice(NAMES)} {self._chance.randrange(40)}"}

    def _campaign(self) -> dict[str, Any]:
        if not self._made["campaign"] or self._chance.random() < 0.6:
            return {}
        return {"campaign_id": self._chance.choice(self._made["campaign"]), "type": "personalization"}

    def _changes(self, kind: str) -> dict[str, Any]:
        audiences = self._made["audience"]
        if kind == "audience" and self._made["attribute"]:
            number = self._chance.choice(self._made["attribute"])
            leaf = {"type": "custom_attribute", "name": f"attribute_key_{number}", "value": "gold"}
            return {"conditions": json.dumps(["and", leaf])} if self._chance.random() < 0.5 else {}
        if not audiences or self._chance.random() < 0.3:
            return {"description": f"about {self._chance.choice(NAMES)}"}
        conditions = json.dumps(["or", {"audience_id": self._chance.choice(audiences)}])
        if kind == "experiment":
            return {
                "audience_conditions": conditions,
                "environments": {
                    "production": {"is_primary": True},
                    "staging": {"is_primary": False, "status": self._chance.choice(("running", "paused"))},
                },
            }
        if kind == "feature":
            rule = {"audience_conditions": conditions, "enabled": self._chance.random() < 0.5}
            return {"environments": {"production": {"is_primary": True, "rollout_rules": [rule]}}}
        return {}


async def found(experiments: Caller, **query: Any) -> list[int]:
    """The ids of what is found, in order, on pages of 7."""
    ids: list[int] = []
    page = 1
    while True:
        text = urlencode(
            {"account_id": OWNER["account_id"], "per_page": 7, "page": page, **query}, doseq=True
        )
        status, body = await experiments.get(f"/search?{text}")
        assert status == 200, body
        ids += [item["id"] for item in body["items"]]
        if not body["items"]:
            assert len(ids) == body["total"]
            return ids
        page += 1


def ordered(entities: Iterable[dict[str, Any]], by: str, *, falling: bool) -> list[int]:
    by_id = sorted(entities, key=lambda entity: entity["id"])
    return [entity["id"] for entity in sorted(by_id, key=lambda entity: entity[by], reverse=falling)]


def newest_first(entities: Iterable[dict[str, Any]]) -> list[int]:
    by_id = sorted(entities, key=lambda entity: entity["id"])
    return [one["id"] for one in sorted(by_id, key=lambda one: one["last_modified"], reverse=True)]


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_is_found_is_what_reading_everything_finds(experiments: Caller, seed: int) -> None:
    shop = Shop(experiments, seed)
    for _ in range(60):
        await shop.write()
    entities = await everything(experiments)
    present = [entity for entity in entities if not is_archived(entity)]
    assert len(present) > 10
    for query in (*QUERIES, str(present[0]["id"])):
        expected = [entity for entity in present if passes(entity, query)]
        assert await found(experiments, query=query) == newest_first(expected), query
    assert await found(experiments, archived="true") == newest_first(entities)
    for kind in KINDS:
        of_kind = [entity for entity in present if entity["kind"] == kind]
        assert await found(experiments, type=kind) == newest_first(of_kind), kind
    for status in ("running", "paused", "not_started", "campaign_paused", "archived"):
        expected = [entity for entity in entities if entity.get("status") == status]
        assert await found(experiments, status=status) == newest_first(expected), status
    for audience in [entity["id"] for entity in entities if entity["kind"] == "audience"]:
        naming = [one for one in present if one["kind"] != "audience" and audience in audiences_of(one)]
        assert await found(experiments, audience_id=audience) == newest_first(naming)
    for key in ("production", "staging"):
        assert await found(experiments, environment_key=key) == newest_first(on_in(present, key)), key
    created = ordered(present, "created", falling=True)
    assert await found(experiments, sort="created", order="desc") == created


async def test_each_write_leaves_the_index_as_filling_it_anew_would(experiments: Caller) -> None:
    shop = Shop(experiments, 3)
    for _ in range(120):
        await shop.write()
    database = Database(experiments.database_url)
    try:
        kept = await contents(database)
        async with database.transaction() as connection:
            for table in (search_entries, search_results, uses):
                await connection.execute(delete(table))
            if database.is_sqlite:
                await connection.execute(text(f"DELETE FROM {FTS}"))
            await connection.run_sync(fill)
        assert await contents(database) == kept
    finally:
        await database.close()


async def contents(database: Database) -> list[list[tuple[Any, ...]]]:
    """Every row of the index."""
    queries: list[Any] = [
        select(table).order_by(*table.primary_key) for table in (search_entries, search_results, uses)
    ]
    if database.is_sqlite:
        queries.append(text(f"SELECT rowid, names, texts FROM {FTS} ORDER BY rowid"))
    async with database.snapshot() as connection:
        return [[tuple(row) for row in await connection.execute(query)] for query in queries]


async def test_entities_of_an_earlier_release_are_found(experiments: Caller) -> None:
    made = await make(experiments, key="flow")
    await migrate_to(experiments.database_url, "experiments", "0005")
    await migrate_to(experiments.database_url, "experiments", "head")
    assert await found(experiments, query="flow") == [made["id"]]


# SQLite has one writer at a time.
@pytest.mark.parametrize("new_database", ["postgresql"], indirect=True)
async def test_the_migration_waits_for_a_writer_that_has_begun(experiments: Caller) -> None:
    writer, url = Database(experiments.database_url), experiments.database_url
    audience = await experiments.made("/audiences", {**OWNER, "name": "Shoppers"})
    conditions = json.dumps(["or", {"audience_id": audience["id"]}])
    made = await make(experiments, key="flow", audience_conditions=conditions)
    await migrate_to(url, "experiments", "0013")
    async with asyncio.timeout(30):
        async with writer.transaction() as connection:
            written = await connection.execute(delete(uses).where(uses.c.entity_id == made["id"]))
            assert written.rowcount == 1
            migration = asyncio.create_task(migrate_to(url, "experiments", "head"))
            await something_waits(writer)
            await connection.execute(delete(search_entries).where(search_entries.c.id == made["id"]))
        await migration
    await writer.close()
    assert await found(experiments, query="flow") == [made["id"]]


async def something_waits(database: Database) -> None:
    """Return when a transaction of the database waits for another one."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while True:
        async with database.snapshot() as connection:
            if (await connection.execute(waiting)).scalar_one():
                return
        await asyncio.sleep(0.02)


async def test_in_all_texts_a_word_is_found_by_its_beginning(experiments: Caller) -> None:
    made = await make(experiments, description="Fewer fields, shorter way")
    assert await found(experiments, query="short fields") == []
    assert await found(experiments, query="short FIELDS", fullsearch="true") == [made["id"]]
    assert await found(experiments, query="horter", fullsearch="true") == []


async def test_more_words_than_are_looked_for_find_no_less(experiments: Caller) -> None:
    made = await make(experiments)
    assert await found(experiments, query="checkout " * 200) == [made["id"]]
    assert await found(experiments, query=" ".join(f"c{number}" for number in range(200))) == []


@given(st.text(max_size=40), st.text(max_size=8))
def test_what_begins_an_ending_is_what_occurs_in_a_word(name: str, query: str) -> None:
    for word in words_of(query):
        begins = any(ending.startswith(word) for ending in endings_of(name))
        assert begins == any(word in run for run in runs(name)), word
