"""Writes the index: from rows of entities to what is searched, filtered, sorted and shown of them.

It is written in the transaction of each change. Plain functions of a plain connection, because migrations fill it too;
coroutines call them by `run_sync`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, column, delete, insert, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.times import format_time
from optimizely_api.services.experiments import audience_conditions, environments, states
from optimizely_api.services.experiments.references import needed_by
from optimizely_api.services.experiments.search.match import FTS
from optimizely_api.services.experiments.search.words import (
    endings_of,
    environment_word,
    fold,
    id_word,
    lexemes,
    words_in,
)
from optimizely_api.services.experiments.states import Schedule, State
from optimizely_api.services.experiments.tables import (
    METADATA,
    experiments,
    layers,
    search_entries,
    search_results,
    uses,
)
from optimizely_api.services.storage.rows import upsert

Json = dict[str, Any]

EXPERIMENT, CAMPAIGN, FEATURE = "experiment", "campaign", "feature"
GROUP = "group"  # known for its members, and not searched
TABLES = {
    "audience": "audiences",
    "event": "events",
    FEATURE: "features",
    GROUP: "groups",
    "page": "pages",
}
RUNNING = (EXPERIMENT, CAMPAIGN)  # whose rows have states
KINDS = (*RUNNING, *TABLES)
BATCH = 500  # entities that are read and written at once
SORTED_CHARACTERS = 200  # of a name; an entry of an index on PostgreSQL has room for so many
_FTS = table(FTS, column("rowid"), column("names"), column("texts"))


@dataclass(frozen=True)
class Entry:
    """What the index has of one entity: in the columns of each table, and the words of its names."""

    columns: Json  # of `search_entries`
    shown: Json  # of `search_results`
    names: set[str]
    texts: set[str]


async def index(connection: AsyncConnection, kind: str, ids: Iterable[int]) -> None:
    """Write what the index has of these entities of one kind, as they are now."""
    if wanted := sorted(set(ids)):
        await connection.run_sync(_index, kind, wanted)


def fill(connection: Connection, kinds: Iterable[str] = KINDS) -> None:
    """Write the index of all entities of these kinds."""
    for kind in kinds:
        ids = connection.execute(select(_source(kind).c.id).order_by(_source(kind).c.id)).scalars().all()
        _index(connection, kind, ids)


def use_of(kind: str, entity_id: int) -> str:
    """How `uses` names an entity."""
    return f"{kind}:{entity_id}"


def _source(kind: str) -> Table:
    return (
        {EXPERIMENT: experiments, CAMPAIGN: layers}[kind]
        if kind in RUNNING
        else METADATA.tables[TABLES[kind]]
    )


def _index(connection: Connection, kind: str, ids: Sequence[int]) -> None:
    for start in range(0, len(ids), BATCH):
        some = ids[start : start + BATCH]
        rows = connection.execute(_query(kind).where(_source(kind).c.id.in_(some))).all()
        if kind in USERS:
            _write_uses(connection, {row.id: (USERS[kind](row), _is_archived(row)) for row in rows})
        _write(connection, [_entry(kind, row) for row in rows if _is_searched(kind, row)])


def _query(kind: str) -> Select[Any]:
    source = _source(kind)
    if kind == EXPERIMENT:
        paused, pages = (
            layers.c.paused.label("layer_paused"),
            layers.c.document["page_ids"].label("layer_pages"),
        )
        return select(experiments, paused, pages).join_from(experiments, layers).order_by(source.c.id)
    return select(source).order_by(source.c.id)


# From rows to entries


def _is_searched(kind: str, row: Row[Any]) -> bool:
    """Neither classic entities nor what comes with lone experiments are found: their campaigns and pages."""
    comes_along = (kind == CAMPAIGN and row.type == "other") or row.document.get("single_use")
    return kind != GROUP and not comes_along and not getattr(row, "is_classic", False)


def _is_archived(row: Row[Any]) -> bool:
    return bool(row.archived) if "archived" in row._fields else row.status == "archived"


def _entry(kind: str, row: Row[Any]) -> Entry:
    document: Json = row.document
    name = row.name if "name" in row._fields else document.get("name")
    key = row.key if "key" in row._fields else None
    names = {id_word(row.id), *endings_of(name), *endings_of(key), *_labels(kind, row)}
    shown = {"name": name or key, "key": key, "description": document.get("description")}
    shown |= {"created": format_time(row.created), "last_modified": format_time(row.last_modified)}
    columns = {
        "id": row.id,
        "account_id": row.account_id,
        "project_id": row.project_id,
        "kind": kind,
        "sub_type": None,
        "experiment_type": "",
        "archived": _is_archived(row),
        "status": None,
        "awaits_start": False,
        "starts": None,
        "stops": None,
        "status_once_started": None,
        "sort_name": fold(name or key or "")[:SORTED_CHARACTERS],
        "created": row.created,
        "last_modified": row.last_modified,
    }
    if kind == EXPERIMENT:
        columns |= _states(row) | {
            "sub_type": document.get("type"),
            "experiment_type": document.get("type") or "",
        }
        shown |= {
            "experiment_type": document.get("type"),
            "audience_ids": _audience_ids(document),
            **{name: document.get(name) for name in ("feature_key", "feature_name")},
        }
    if kind == CAMPAIGN:
        columns |= {"sub_type": row.type, "status": "archived" if _is_archived(row) else row.status}
        shown["campaign_type"] = row.type
    if kind == "event":
        shown["page_id"] = row.page_id
    known = {name: value for name, value in shown.items() if value is not None}
    return Entry(columns, known, names, words_in(document))


def _states(row: Row[Any]) -> Json:
    """The stored status, and what the schedule makes of it."""
    schedule = states.read_schedule(row.document.get("schedule"))
    return {
        "status": states.shown(_stored(row), row.layer_paused).status,
        "awaits_start": row.awaits_start,
        "starts": schedule.start,
        "stops": schedule.stop,
        "status_once_started": "running" if row.layer_paused is None else "campaign_paused",
    }


def _stored(row: Row[Any]) -> State:
    return State(row.status, row.earliest, row.latest, row.awaits_start)


def _labels(kind: str, row: Row[Any]) -> Iterator[str]:
    """Words for the environments where an experiment runs or awaits its schedule, or where a feature is on."""
    if kind == EXPERIMENT:
        of_key = environments.states_in(row.document, _stored(row), Schedule(), row.created)
        for key, state in of_key.items():
            if state.status == "running" or state.awaits_start:
                yield environment_word(key, awaited=state.status != "running")
    if kind == FEATURE:
        for key, environment in row.document.get("environments", {}).items():
            if any(rule["enabled"] for rule in environment["rollout_rules"]):
                yield environment_word(key)


def _audience_ids(document: Json) -> list[int]:
    return sorted(audience_conditions.audience_ids(document.get("audience_conditions")))


def _uses_of_experiment(row: Row[Any]) -> dict[str, bool]:
    """Where the experiment names no pages, those of its campaign are its own."""
    active = _may_run(row)
    used = {use_of(one.kind, one.id): active for one in needed_by(row.document)}
    of_campaign = () if row.document.get("page_ids") else row.layer_pages or ()
    return used | {use_of("page", page_id): active for page_id in of_campaign}


def _may_run(row: Row[Any]) -> bool:
    """Whether the experiment runs somewhere, or will when its schedule says so."""
    in_environments = environments.states_in(row.document, _stored(row), Schedule(), row.created)
    return any(
        state.status == "running" or state.awaits_start for state in (_stored(row), *in_environments.values())
    )


def _uses_of_feature(row: Row[Any]) -> dict[str, bool]:
    """An audience that an enabled rule names is in use."""
    of_key: Json = row.document.get("environments", {})
    rules = [rule for environment in of_key.values() for rule in environment["rollout_rules"]]
    used: dict[str, bool] = {}
    for rule in rules:
        for number in _audience_ids(rule):
            used[use_of("audience", number)] = used.get(use_of("audience", number), False) or rule["enabled"]
    return used


def _uses_of_group(row: Row[Any]) -> dict[str, bool]:
    return {use_of(entity["kind"].lower(), entity["id"]): True for entity in row.document["entities"]}


# {what it names: whether it is active there}
USERS: dict[str, Callable[[Row[Any]], dict[str, bool]]] = {
    EXPERIMENT: _uses_of_experiment,
    FEATURE: _uses_of_feature,
    GROUP: _uses_of_group,
}


# Writing


def _write_uses(connection: Connection, used: dict[int, tuple[dict[str, bool], bool]]) -> None:
    connection.execute(delete(uses).where(uses.c.entity_id.in_(used)))
    rows = [
        {"used": use, "entity_id": entity_id, "archived": archived, "active": named[use]}
        for entity_id, (named, archived) in used.items()
        for use in sorted(named)
    ]
    if rows:
        connection.execute(insert(uses), rows)


def _write(connection: Connection, entries: Sequence[Entry]) -> None:
    if not entries:
        return
    results = [{"id": entry.columns["id"], "shown": entry.shown} for entry in entries]
    columns = [entry.columns for entry in entries]
    if connection.dialect.name == "postgresql":
        for one, entry in zip(columns, entries, strict=True):
            one["names"] = lexemes(entry.names)
            one["texts"] = lexemes(entry.names | entry.texts)
    else:
        _write_words(connection, entries)
    _replace(connection, search_entries, columns)
    _replace(connection, search_results, results)


def _write_words(connection: Connection, entries: Sequence[Entry]) -> None:
    ids = [entry.columns["id"] for entry in entries]
    connection.execute(delete(_FTS).where(_FTS.c.rowid.in_(ids)))
    rows = [
        {"rowid": number, "names": " ".join(sorted(entry.names)), "texts": " ".join(sorted(entry.texts))}
        for number, entry in zip(ids, entries, strict=True)
    ]
    connection.execute(insert(_FTS), rows)


def _replace(connection: Connection, target: Table, rows: Sequence[Json]) -> None:
    statement = upsert(connection.dialect.name, target)
    new = {name: statement.excluded[name] for name in rows[0] if name != "id"}
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=new), rows)
