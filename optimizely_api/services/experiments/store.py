"""Experiments and layers in SQL. Every function runs inside the transaction of its connection.

Every change of an experiment or a layer locks the layer's row first, then those of experiments: changes of one layer
run one after the other, without deadlocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments import definitions, runs, shapes, states
from optimizely_api.services.experiments.changes import record
from optimizely_api.services.experiments.events import event_names
from optimizely_api.services.experiments.schema import DEFAULT_LEVEL
from optimizely_api.services.experiments.states import State
from optimizely_api.services.experiments.tables import experiments, layers, next_ids
from optimizely_api.services.http.errors import bad_request, conflict, gone
from optimizely_api.services.http.query import Page
from optimizely_api.services.http.responses import format_time
from optimizely_api.services.schema import field_error
from optimizely_api.services.storage.ids import allocate_ids
from optimizely_api.services.storage.paging import fetch_page
from optimizely_api.services.storage.rows import fetch_row

Document = dict[str, Any]

STARTING = ("start", "resume")


# Reading


async def get_experiment(connection: AsyncConnection, experiment_id: int, now: datetime) -> Document:
    """One experiment; 404 when there is none."""
    row = await _experiment_row(connection, experiment_id)
    return (await _shape_experiments(connection, [row], now))[0]


async def list_experiments(
    connection: AsyncConnection, filters: dict[str, int], include_classic: bool, page: Page, now: datetime
) -> tuple[int, list[Document]]:
    """The number of matching experiments, and a page of them."""
    query = select(experiments).where(*(experiments.c[name] == value for name, value in filters.items()))
    if not include_classic:
        query = query.where(experiments.c.is_classic.is_(False))
    total, rows = await fetch_page(connection, query, experiments.c.id, page)
    return total, await _shape_experiments(connection, rows, now)


async def get_layer(connection: AsyncConnection, layer_id: int, now: datetime) -> Document:
    """One layer; 404 when there is none."""
    row = await _layer_row(connection, layer_id)
    return (await _shape_layers(connection, [row], now))[0]


async def list_layers(
    connection: AsyncConnection, filters: dict[str, int], page: Page, now: datetime
) -> tuple[int, list[Document]]:
    """The number of matching layers, and a page of them."""
    query = select(layers).where(*(layers.c[name] == value for name, value in filters.items()))
    total, rows = await fetch_page(connection, query, layers.c.id, page)
    return total, await _shape_layers(connection, rows, now)


# Experiments


def project_that_sets_the_level(given: Document, action: str | None) -> int | None:
    """The new experiment's project, if `action` starts the experiment and it has no level of its own."""
    names_level = "confidence_level" in (given.get("stats_config") or {})
    return given["project_id"] if action in STARTING and not names_level else None


async def project_to_ask(
    connection: AsyncConnection, experiment_id: int, changes: Document, action: str | None
) -> int | None:
    """The experiment's project, if `action` starts it without a level of its own; 404 for an unknown experiment."""
    if action not in STARTING or "confidence_level" in changes.get("stats_config", {}):
        return None
    row = await _experiment_row(connection, experiment_id)
    return None if "confidence_level" in row.stats_config else row.project_id


async def create_experiment(
    connection: AsyncConnection,
    given: Document,
    action: str | None,
    at: datetime,
    level: float | None = None,
) -> Document:
    """Add an experiment (in a new layer, if the body names none), then apply `action` to it.

    `level` is the project's, for a start without a level of its own.
    """
    document = {**definitions.EXPERIMENT_DEFAULTS, **given}
    stats_config = definitions.complete_stats_config(document.pop("stats_config", None))
    owner = {"account_id": document.pop("account_id"), "project_id": document.pop("project_id")}
    layer = await _layer_for(connection, document, owner, at)
    document["type"] = document.get("type") or _default_type(layer)
    if not document["metrics"]:
        document["metrics"] = layer.document.get("metrics", [])
    experiment_id, *variation_ids = await allocate_ids(connection, next_ids, 1 + len(document["variations"]))
    document["variations"] = definitions.new_variations(document["variations"], iter(variation_ids))
    await _complete(connection, document, owner["project_id"])
    await connection.execute(
        insert(experiments).values(
            id=experiment_id,
            layer_id=layer.id,
            key=document.pop("key", None),
            is_classic=document.pop("is_classic", False),
            document=document,
            stats_config=stats_config,
            status="not_started",
            awaits_start=False,
            created=at,
            last_modified=at,
            **owner,
        )
    )
    if action is not None:
        await _act_on_created(connection, experiment_id, action, at, level)
    made = await get_experiment(connection, experiment_id, at)
    await record(connection, "Experiment", None, made, at)
    return made


async def _act_on_created(
    connection: AsyncConnection, experiment_id: int, action: str, at: datetime, level: float | None
) -> None:
    row = await _experiment_row(connection, experiment_id)
    # Created paused: no visitor has seen it, so there is no earliest time and nothing is frozen.
    if action == "pause":
        await _save_state(connection, row, State("paused"), at)
    else:
        await _act(connection, row, action, at, level)


async def update_experiment(
    connection: AsyncConnection,
    experiment_id: int,
    changes: Document,
    action: str | None,
    at: datetime,
    level: float | None = None,
) -> Document:
    """Apply validated changes, then `action`; but `unarchive` before the changes, which an archived experiment refuses.

    The effects of the schedule until `at` are stored first, so that a change after a scheduled start does not alter the
    frozen settings.
    """
    row = await _lock_experiment(connection, experiment_id)
    if at < row.created:
        raise bad_request("at lies before the experiment was created")
    before = await get_experiment(connection, experiment_id, at)
    row = await _save_state(connection, row, shapes.state_of(row, at), at)
    if action == "unarchive":
        row = await _act(connection, row, action, at)
        await connection.execute(update(layers).where(layers.c.id == row.layer_id).values(archived=None))
    if row.status == "archived":
        raise conflict("the experiment is archived; unarchive it first")
    if changes:
        row = await _apply_changes(connection, row, changes, at)
    if action is not None and action != "unarchive":
        row = await _act(connection, row, action, at, level)
    await _touch(connection, row, at)
    after = await get_experiment(connection, experiment_id, at)
    await record(connection, "Experiment", before, after, at, action)
    return after


async def archive_experiment(connection: AsyncConnection, experiment_id: int, at: datetime) -> None:
    """Archive an experiment; 410 when it is archived already."""
    row = await _lock_experiment(connection, experiment_id)
    row = await _save_state(connection, row, shapes.state_of(row, at), at)
    if row.status == "archived":
        raise gone("experiment", experiment_id)
    before = await get_experiment(connection, experiment_id, at)
    row = await _act(connection, row, "archive", at)
    await _touch(connection, row, at)
    after = await get_experiment(connection, experiment_id, at)
    await record(connection, "Experiment", before, after, at)


async def _apply_changes(
    connection: AsyncConnection, row: Row[Any], changes: Document, at: datetime
) -> Row[Any]:
    document, columns = {**row.document, **changes}, dict[str, Any]()
    if "variations" in changes:
        new = await allocate_ids(connection, next_ids, len(changes["variations"]))
        document["variations"] = definitions.changed_variations(
            row.document["variations"], changes["variations"], iter(new), started=row.frozen is not None
        )
        weights = runs.weights_of(document["variations"])
        columns["runs"] = runs.dump(runs.reweighted(runs.load(row.runs), weights, at))
    if "environments" in changes:
        document["environments"] = {**row.document.get("environments", {}), **changes["environments"]}
    if "stats_config" in changes:
        columns["stats_config"] = {**row.stats_config, **document.pop("stats_config")}
    if "baseline_variation_id" in changes:
        columns["baseline_variation_id"] = _baseline(document)
    if "key" in changes:
        columns["key"] = document.pop("key")
    await _complete(connection, document, row.project_id)
    return await _save(connection, row, document=document, **columns)


def _baseline(document: Document) -> int:
    baseline = int(document.pop("baseline_variation_id"))
    if baseline not in {variation["variation_id"] for variation in document["variations"]}:
        raise field_error("/baseline_variation_id", "is not of this experiment")
    return baseline


async def _complete(connection: AsyncConnection, document: Document, project_id: int) -> None:
    """Check the rules between fields, and add the values that the service sets."""
    definitions.check_variations(document["variations"])
    definitions.check_whitelist(document)
    states.read_schedule(document.get("schedule"))
    used = await event_names(connection, definitions.event_ids_of(document["metrics"]), project_id)
    document["metrics"] = definitions.complete_metrics(document["metrics"], used)
    document["changes"] = definitions.with_change_ids(document["changes"])


async def _act(
    connection: AsyncConnection, row: Row[Any], action: str, at: datetime, level: float | None = None
) -> Row[Any]:
    schedule = states.read_schedule(row.document.get("schedule"))
    state = states.act(shapes.state_of(row, at), action, schedule, at)
    if state.status == "running" or state.awaits_start:
        await _check_can_run(connection, row)
        if "confidence_level" not in row.stats_config:
            stats_config = {**row.stats_config, "confidence_level": DEFAULT_LEVEL if level is None else level}
            row = await _save(connection, row, stats_config=stats_config)
    return await _save_state(connection, row, states.settle(state, schedule, at), at)


async def _check_can_run(connection: AsyncConnection, row: Row[Any]) -> None:
    if not row.document["variations"]:
        raise conflict("the experiment has no variations: it cannot start")
    if (await _layer_row(connection, row.layer_id)).archived is not None:
        raise conflict("the campaign of the experiment is archived")


async def _save_state(connection: AsyncConnection, row: Row[Any], state: State, at: datetime) -> Row[Any]:
    values: dict[str, Any] = {
        "status": state.status,
        "earliest": state.earliest,
        "latest": state.latest,
        "awaits_start": state.awaits_start,
    }
    if all(getattr(row, name) == value for name, value in values.items()):
        return row
    values["runs"] = runs.dump(shapes.runs_of(row, state))
    if row.frozen is None and state.earliest is not None:
        names = await event_names(connection, definitions.event_ids_of(row.document["metrics"]))
        values["frozen"] = shapes.settings_of(row, names)
    if "environments" in row.document and state.status != row.status:
        values["document"] = {**row.document, "environments": _follow(row.document, state.status)}
    return await _save(connection, row, **values)


def _follow(document: Document, status: str) -> Document:
    """The environments of an experiment after a change of its status: each gets that status (concluded: paused)."""
    environment_status = "paused" if status == "concluded" else status
    return {key: {**value, "status": environment_status} for key, value in document["environments"].items()}


async def _save(connection: AsyncConnection, row: Row[Any], **values: Any) -> Row[Any]:
    await connection.execute(update(experiments).where(experiments.c.id == row.id).values(**values))
    return await _experiment_row(connection, row.id)


async def _touch(connection: AsyncConnection, row: Row[Any], at: datetime) -> None:
    await _save(connection, row, last_modified=max(at, row.last_modified))
    # A change of an experiment counts as a change of its campaign.
    await connection.execute(
        update(layers)
        .where(layers.c.id == row.layer_id, layers.c.last_modified < at)
        .values(last_modified=at)
    )


# Layers


async def create_layer(
    connection: AsyncConnection, given: Document, action: str | None, at: datetime
) -> Document:
    """Add a layer without experiments; `action` has nothing to start yet."""
    row = await _insert_layer(connection, given, at)
    made = await get_layer(connection, row.id, at)
    await record(connection, "Campaign", None, made, at)
    return made


async def project_of_layer_to_ask(
    connection: AsyncConnection, layer_id: int, action: str | None
) -> int | None:
    """The layer's project, if `action` starts experiments without a level; 404 for an unknown layer."""
    row = await _layer_row(connection, layer_id)
    members = await _members(connection, [layer_id]) if action == "start" else []
    return row.project_id if any("confidence_level" not in one.stats_config for one in members) else None


async def update_layer(
    connection: AsyncConnection,
    layer_id: int,
    changes: Document,
    action: str | None,
    at: datetime,
    level: float | None = None,
) -> Document:
    """Apply validated changes to a layer, then `action` to it and its experiments."""
    row = await _layer_row(connection, layer_id, for_update=True)
    if at < row.created:
        raise bad_request("at lies before the campaign was created")
    if (action == "unarchive") != await _is_archived(connection, row, at):
        raise conflict("the campaign is archived" if action != "unarchive" else "it is not archived")
    before = await get_layer(connection, layer_id, at)
    document = {**row.document, **changes}
    await _complete_layer(connection, document, row)
    await connection.execute(
        update(layers)
        .where(layers.c.id == layer_id)
        .values(document=document, last_modified=max(at, row.last_modified))
    )
    if action is not None and action != "publish":
        await _act_on_layer(connection, row, action, at, level)
    after = await get_layer(connection, layer_id, at)
    await record(connection, "Campaign", before, after, at, action)
    return after


async def archive_layer(connection: AsyncConnection, layer_id: int, at: datetime) -> None:
    """Archive a layer and all its experiments; 410 when it is archived already."""
    row = await _layer_row(connection, layer_id, for_update=True)
    if await _is_archived(connection, row, at):
        raise gone("campaign", layer_id)
    before = await get_layer(connection, layer_id, at)
    await _act_on_layer(connection, row, "archive", at)
    await record(connection, "Campaign", before, await get_layer(connection, layer_id, at), at)


async def _act_on_layer(
    connection: AsyncConnection, row: Row[Any], action: str, at: datetime, level: float | None = None
) -> None:
    """`start` starts the experiments that never started; `pause` and `resume` leave the experiments' own states."""
    by_action: dict[str, dict[str, Any]] = {
        "start": {"paused": None},
        "resume": {"paused": None},
        "pause": {"paused": row.paused or at},
        "archive": {"archived": at, "paused": None},
        "unarchive": {"archived": None},
    }
    values = by_action[action]
    if row.paused is not None and values.get("paused", row.paused) is None:
        values["pauses"] = [*row.pauses, [format_time(row.paused), format_time(max(at, row.paused))]]
    modified = max(at, row.last_modified)
    await connection.execute(
        update(layers).where(layers.c.id == row.id).values(**values, last_modified=modified)
    )
    concerned = {"start": ("not_started",), "unarchive": ("archived",)}
    if action in {"pause", "resume"}:
        return
    for member in await _members(connection, [row.id], for_update=True):
        settled = await _save_state(connection, member, shapes.state_of(member, at), at)
        if settled.status in concerned.get(action, ("not_started", "running", "paused", "concluded")):
            await _touch(connection, await _act(connection, settled, action, at, level), at)


async def _is_archived(connection: AsyncConnection, row: Row[Any], at: datetime) -> bool:
    shape = (await _shape_layers(connection, [row], at))[0]
    return bool(shape["status"] == "archived")


async def _complete_layer(connection: AsyncConnection, document: Document, row: Row[Any]) -> None:
    if "metrics" in document:
        used = await event_names(connection, definitions.event_ids_of(document["metrics"]), row.project_id)
        document["metrics"] = definitions.complete_metrics(document["metrics"], used)
    if "changes" in document:
        document["changes"] = definitions.with_change_ids(document["changes"])
    members = {member.id for member in await _members(connection, [row.id])}
    for number, group in enumerate(document.get("experiment_priorities", [])):
        if not members.issuperset(group):
            raise field_error(f"/experiment_priorities/{number}", "names an experiment of another campaign")


async def _insert_layer(connection: AsyncConnection, given: Document, at: datetime) -> Row[Any]:
    document = dict(given)
    columns = {name: document.pop(name) for name in ("account_id", "project_id")}
    columns["type"] = document.pop("type", "personalization")
    (layer_id,) = await allocate_ids(connection, next_ids)
    await connection.execute(
        insert(layers).values(id=layer_id, document={}, created=at, last_modified=at, **columns)
    )
    row = await _layer_row(connection, layer_id)
    await _complete_layer(connection, document, row)
    await connection.execute(update(layers).where(layers.c.id == layer_id).values(document=document))
    return await _layer_row(connection, layer_id)


async def _layer_for(
    connection: AsyncConnection, document: Document, owner: dict[str, int], at: datetime
) -> Row[Any]:
    """The layer that a new experiment names, or a new one of its own."""
    layer_id = document.pop("campaign_id", None)
    if layer_id is None:
        personal = document.get("type") == "personalization"
        name = document.get("name") or document.get("key")
        return await _insert_layer(
            connection,
            {
                **owner,
                **({"name": name} if name else {}),
                "type": "personalization" if personal else "other",
            },
            at,
        )
    query = select(layers).where(layers.c.id == layer_id).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None or row.project_id != owner["project_id"]:
        raise field_error("/campaign_id", "is no campaign of this project")
    if await _is_archived(connection, row, at):
        raise conflict("the campaign is archived")
    if document.get("type", _default_type(row)) != "personalization" and row.type == "personalization":
        raise field_error("/type", "must be personalization in a personalization campaign")
    return row


def _default_type(layer: Row[Any]) -> str:
    return "personalization" if layer.type == "personalization" else "a/b"


# Rows


async def _experiment_row(connection: AsyncConnection, experiment_id: int) -> Row[Any]:
    return await fetch_row(connection, experiments, experiment_id, "experiment")


async def _lock_experiment(connection: AsyncConnection, experiment_id: int) -> Row[Any]:
    row = await _experiment_row(connection, experiment_id)
    await _layer_row(connection, row.layer_id, for_update=True)
    return await _experiment_row(connection, experiment_id)


async def _layer_row(connection: AsyncConnection, layer_id: int, for_update: bool = False) -> Row[Any]:
    return await fetch_row(connection, layers, layer_id, "campaign", for_update=for_update)


async def _members(
    connection: AsyncConnection, layer_ids: Iterable[int], for_update: bool = False
) -> list[Row[Any]]:
    query = select(experiments).where(experiments.c.layer_id.in_(list(layer_ids))).order_by(experiments.c.id)
    rows = await connection.execute(query.with_for_update() if for_update else query)
    return list(rows.all())


async def _shape_experiments(
    connection: AsyncConnection, rows: Sequence[Row[Any]], now: datetime
) -> list[Document]:
    metrics = [metric for row in rows for metric in row.document["metrics"]]
    names = await event_names(connection, definitions.event_ids_of(metrics))
    query = select(layers.c.id, layers.c.paused, layers.c.pauses)
    query = query.where(layers.c.id.in_({row.layer_id for row in rows}))
    of_id: dict[int, Any] = {layer.id: layer for layer in await connection.execute(query)}
    return [shapes.experiment(row, of_id[row.layer_id], names, now) for row in rows]


async def _shape_layers(
    connection: AsyncConnection, rows: Sequence[Row[Any]], now: datetime
) -> list[Document]:
    members: dict[int, list[Row[Any]]] = {row.id: [] for row in rows}
    for member in await _members(connection, members):
        members[member.layer_id].append(member)
    metrics = [metric for row in rows for metric in shapes.layer_metrics(row, members[row.id])]
    names = await event_names(connection, definitions.event_ids_of(metrics))
    return [shapes.layer(row, members[row.id], names, now) for row in rows]
