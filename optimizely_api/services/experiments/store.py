"""Experiments and layers in SQL. Every function runs inside the transaction of its connection.

Every change of an experiment or a layer locks the layer's row first, then those of experiments: changes of one layer
run one after the other, without deadlocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.times import format_time
from optimizely_api.http.entity_tags import names_tag, version_tag
from optimizely_api.services.experiments import (
    definitions,
    environments,
    feature_tests,
    page_changes,
    runs,
    shapes,
    share_links,
    single_use_pages,
    states,
)
from optimizely_api.services.experiments.changes import record
from optimizely_api.services.experiments.conditions import WEB
from optimizely_api.services.experiments.events import event_names
from optimizely_api.services.experiments.references import check_references, lock_used, read_conditions
from optimizely_api.services.experiments.schema import DEFAULT_LEVEL
from optimizely_api.services.experiments.search.index import CAMPAIGN, EXPERIMENT, index
from optimizely_api.services.experiments.sections import MULTIVARIATE, SECTIONS
from optimizely_api.services.experiments.states import State
from optimizely_api.services.experiments.tables import experiments, layers, next_ids
from optimizely_api.services.http.errors import bad_request, conflict, gone, version_mismatch
from optimizely_api.services.http.query import Page
from optimizely_api.services.schema import field_error
from optimizely_api.services.storage.ids import allocate_ids
from optimizely_api.services.storage.paging import fetch_page
from optimizely_api.services.storage.rows import fetch_row

Document = dict[str, Any]

STARTING = ("start", "resume")
_OF_MEMBERS = (experiments.c.id, experiments.c.layer_id, experiments.c.status)


# Reading


async def get_experiment(connection: AsyncConnection, experiment_id: int, now: datetime) -> Document:
    """One experiment; 404 when there is none."""
    row = await _experiment_row(connection, experiment_id)
    return (await _shape_experiments(connection, [row], now))[0]


async def list_experiments(
    connection: AsyncConnection,
    filters: dict[str, int | list[int]],
    archived: bool | None,
    include_classic: bool,
    page: Page,
    now: datetime,
) -> tuple[int, list[Document]]:
    """The number of matching experiments, and a page of them; `archived` chooses those that are, or are not."""
    wanted = {name: value if isinstance(value, list) else [value] for name, value in filters.items()}
    query = select(experiments).where(*(experiments.c[name].in_(values) for name, values in wanted.items()))
    if archived is not None:
        is_archived = experiments.c.status == "archived"
        query = query.where(is_archived if archived else ~is_archived)
    if not include_classic:
        query = query.where(experiments.c.is_classic.is_(False))
    total, rows = await fetch_page(connection, query, experiments.c.id, page)
    return total, await _shape_experiments(connection, rows, now)


async def list_labels(
    connection: AsyncConnection, account_id: int, ids: Sequence[int], page: Page, now: datetime
) -> tuple[int, list[Document]]:
    """How many of these experiments are the account's, classic ones too, and a page of their names and states."""
    query = select(experiments).where(experiments.c.id.in_(ids), experiments.c.account_id == account_id)
    total, rows = await fetch_page(connection, query, experiments.c.id, page)
    paused = select(layers.c.id, layers.c.paused).where(layers.c.id.in_({row.layer_id for row in rows}))
    of_layer = {row.id: row.paused for row in await connection.execute(paused)}
    return total, [shapes.label(row, of_layer[row.layer_id], now) for row in rows]


async def get_layer(connection: AsyncConnection, layer_id: int, now: datetime) -> Document:
    """One layer; 404 when there is none."""
    row = await _layer_row(connection, layer_id)
    return (await _shape_layers(connection, [row], now))[0]


async def list_layers(
    connection: AsyncConnection, filters: dict[str, int], archived: bool | None, page: Page, now: datetime
) -> tuple[int, list[Document]]:
    """The number of matching layers, and a page of them; `archived` chooses those that are, or are not."""
    query = select(layers).where(*(layers.c[name] == value for name, value in filters.items()))
    if archived is not None:
        query = query.where(layers.c.archived.is_not(None) if archived else layers.c.archived.is_(None))
    total, rows = await fetch_page(connection, query, layers.c.id, page)
    return total, await _shape_layers(connection, rows, now)


# Experiments


def project_that_sets_the_level(given: Document, action: str | None) -> int | None:
    """The new experiment's project, if `action` starts the experiment and it has no level of its own."""
    names_level = "confidence_level" in (given.get("stats_config") or {})
    may_start = _may_start(given, action, given.get("schedule"))
    return given["project_id"] if may_start and not names_level else None


async def project_to_ask(
    connection: AsyncConnection, experiment_id: int, changes: Document, action: str | None
) -> int | None:
    """The experiment's project, if `action` starts it without a level of its own; 404 for an unknown experiment."""
    row = await _experiment_row(connection, experiment_id)
    schedule = changes.get("schedule", row.document.get("schedule"))
    names_level = "confidence_level" in {**row.stats_config, **changes.get("stats_config", {})}
    return row.project_id if _may_start(changes, action, schedule) and not names_level else None


def _may_start(given: Document, action: str | None, schedule: Document | None) -> bool:
    if action == "publish":  # which waits for a start
        return "start_time" in (schedule or {})
    return action in STARTING or any(
        value.get("is_primary") and value.get("status") == "running"
        for value in given.get(environments.NAME, {}).values()
    )


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
    given = definitions.complete_traffic(given)
    document = definitions.one_targeting({**definitions.EXPERIMENT_DEFAULTS, **given}, given)
    stats_config = definitions.complete_stats_config(document.pop("stats_config", None))
    owner = {"account_id": document.pop("account_id"), "project_id": document.pop("project_id")}
    document = await feature_tests.with_type_and_id(connection, document, owner["project_id"])
    if document.get("type") == "multiarmed_bandit":
        # Refused, since it would run as an A/B test whose weights never move.
        raise field_error("/type", "is multiarmed_bandit, which this release does not have: use a/b")
    layer = await _layer_for(connection, document, owner, at)
    document["type"] = document.get("type") or (
        "personalization" if layer.type == "personalization" else "a/b"
    )
    if document["type"] == "personalization":
        document["metrics"] = []  # those of the campaign count
    # Variations of a multivariate experiment are those of a first section: its combinations are the experiment's.
    of_section = document["variations"] if document["type"] == MULTIVARIATE else []
    document["variations"] = [] if of_section else document["variations"]
    statuses = environments.wanted(document.get(environments.NAME, {}), {})
    if environments.NAME in document:
        given = environments.checked(document[environments.NAME])
        document[environments.NAME] = environments.merged({}, given, archived=False)
    experiment_id, *variation_ids = await allocate_ids(connection, next_ids, 1 + len(document["variations"]))
    if not document.get("name") and "key" not in document:
        document["name"] = f"Experiment {experiment_id}"
    name = _called(document, document.get("key"), experiment_id)
    document = await single_use_pages.follow(connection, document, {}, owner, name, at)
    pages = definitions.pages_of(document) or definitions.pages_of(layer.document)
    document["variations"] = definitions.new_variations(
        definitions.with_pages_of_actions(document["variations"], pages),
        iter(variation_ids),
        keyed="key" in document,
    )
    await _complete(connection, document, owner["project_id"], {})
    await _check_key(connection, document.get("key"), owner["project_id"], experiment_id)
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
    if of_section:
        section = {**owner, "experiment_id": experiment_id, "variations": of_section}
        await SECTIONS.create(connection, section, at)
    if statuses:
        row = await _experiment_row(connection, experiment_id)
        await _set_statuses(connection, row, statuses, at, level, new=True)
    if action is not None:
        await _act_on_created(connection, experiment_id, action, at, level)
    await _index_experiments(connection, [experiment_id], layer.id)
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
    if_match: str = "",
) -> Document:
    """Apply validated changes, then `action`; but `unarchive` before the changes, which an archived experiment refuses.

    The effects of the schedule until `at` are stored first, so that a change after a scheduled start does not alter the
    frozen settings. A change of nothing stores nothing. 412 when `if_match` names another version.
    """
    row = await _lock_experiment(connection, experiment_id)
    if at < row.created:
        raise bad_request("at lies before the experiment was created")
    row = before = await _save_state(connection, row, shapes.state_of(row, at), at)
    shown = await get_experiment(connection, experiment_id, at)
    _check_version("experiment", shown, if_match)
    changes = _differing(shown, _settable(row, changes))
    statuses = _wanted_statuses(shown, changes)
    if action == "unarchive":
        row = await _act(connection, row, action, at)
        await _bring_back_its_layer(connection, row)
    if row.status == "archived" and (changes or action):
        raise conflict("the experiment is archived; unarchive it first")
    if changes:
        row = await _apply_changes(connection, row, changes, at)
    if statuses:
        row = await _set_statuses(connection, row, statuses, at, level)
    if action is not None and action != "unarchive":
        row = await _act(connection, row, action, at, level)
    if definitions.pages_of(before.document) and not definitions.pages_of(row.document):
        _check_runs_on_a_page(row, await _layer_row(connection, row.layer_id), at)
    if row != before:
        await _touch(connection, row, at)
    await _index_experiments(connection, [experiment_id], row.layer_id)
    after = await get_experiment(connection, experiment_id, at)
    await record(connection, "Experiment", shown, after, at, action)
    return after


async def _bring_back_its_layer(connection: AsyncConnection, row: Row[Any]) -> None:
    """Take the layer of a lone experiment out of the archive; 409 for an experience of an archived campaign."""
    its_layer = await _layer_row(connection, row.layer_id)
    if its_layer.archived is None:
        return
    if its_layer.type == "personalization":
        raise conflict("the campaign of the experiment is archived; unarchive the campaign first")
    await _save_layer(connection, its_layer, archived=None)


def _settable(row: Row[Any], changes: Document) -> Document:
    """The changes without what follows from other things: a campaign, sections, the experiment's own status."""
    changes = dict(changes)
    if row.document.get("type") == "personalization":
        changes.pop("metrics", None)  # those of the campaign count
    if row.document.get("type") == MULTIVARIATE:
        changes.pop("variations", None)  # they are the combinations of its sections
    return changes


def _wanted_statuses(shown: Document, changes: Document) -> dict[str, str]:
    """The statuses in environments that differ from those there; without any, the map is no change."""
    given = environments.checked(changes.get(environments.NAME, {}))
    present = environments.merged(shown.get(environments.NAME, {}), given, shown["status"] == "archived")
    statuses = environments.wanted(given, {key: value["status"] for key, value in present.items()})
    if not statuses:
        changes.pop(environments.NAME, None)
    return statuses


def _differing(shown: Document, changes: Document) -> Document:
    """The changes without those to the value that is there; clients send whole entities back."""
    shown = single_use_pages.as_sent(shown, changes)
    return {name: value for name, value in changes.items() if name not in shown or shown[name] != value}


def _check_version(noun: str, shown: Document, if_match: str) -> None:
    if if_match and not names_tag(if_match, version_tag(shown)):
        raise version_mismatch(noun, shown["id"])


async def archive_experiment(
    connection: AsyncConnection, experiment_id: int, at: datetime, if_match: str = ""
) -> None:
    """Archive an experiment; 410 when it is archived already, 412 when `if_match` names another version."""
    row = await _lock_experiment(connection, experiment_id)
    row = await _save_state(connection, row, shapes.state_of(row, at), at)
    if row.status == "archived":
        raise gone("experiment", experiment_id)
    before = await get_experiment(connection, experiment_id, at)
    _check_version("experiment", before, if_match)
    row = await _act(connection, row, "archive", at)
    await _touch(connection, row, at)
    await _index_experiments(connection, [experiment_id], row.layer_id)
    after = await get_experiment(connection, experiment_id, at)
    await record(connection, "Experiment", before, after, at)


async def _apply_changes(
    connection: AsyncConnection, row: Row[Any], changes: Document, at: datetime
) -> Row[Any]:
    changes = definitions.complete_traffic(changes)
    document, columns = definitions.one_targeting({**row.document, **changes}, changes), dict[str, Any]()
    await lock_used(connection, document)
    if environments.NAME in changes:
        document[environments.NAME] = environments.merged(
            row.document.get(environments.NAME, {}), changes[environments.NAME], row.status == "archived"
        )
    if "feature_id" in changes:
        _check_feature_can_change(row, at)
        document["type"] = feature_tests.FEATURE
    owner = {"account_id": row.account_id, "project_id": row.project_id}
    name = _called(document, changes.get("key", row.key), row.id)
    document = await single_use_pages.follow(connection, document, row.document, owner, name, at)
    if "variations" in changes:
        new = await allocate_ids(connection, next_ids, len(changes["variations"]))
        document["variations"] = definitions.changed_variations(
            row.document["variations"],
            definitions.with_pages_of_actions(
                changes["variations"], await _pages(connection, document, row.layer_id)
            ),
            iter(new),
            started=shapes.has_started(row, at),
            keyed=(row.key or changes.get("key")) is not None,
        )
        weights = runs.weights_of(document["variations"])
        columns["runs"] = runs.dump(runs.reweighted(runs.load(row.runs), weights, at))
    if "stats_config" in changes:
        columns["stats_config"] = {**row.stats_config, **document.pop("stats_config")}
    document = definitions.without_former_pages(document, row.document)
    if "baseline_variation_id" in changes:
        columns["baseline_variation_id"] = _baseline(document)
    if "key" in changes:
        columns["key"] = document.pop("key")
        await _check_key(connection, columns["key"], row.project_id, row.id)
    await _complete(connection, document, row.project_id, row.document)
    saved = await _save(connection, row, document=document, **columns)
    if single_use_pages.leaves_its_page(document, row.document):
        await index(connection, EXPERIMENT, [row.id])
    await single_use_pages.retire(connection, document, row.document, at)
    return saved


async def _pages(connection: AsyncConnection, document: Document, layer_id: int) -> set[int]:
    """The pages of an experiment or, where it names none, those of its campaign."""
    own = definitions.pages_of(document)
    return own or definitions.pages_of((await _layer_row(connection, layer_id)).document)


def _called(document: Document, key: str | None, experiment_id: int) -> str:
    return document.get("name") or key or f"experiment {experiment_id}"


def _check_feature_can_change(row: Row[Any], at: datetime) -> None:
    if row.document.get("type") in feature_tests.NO_TESTS_OF_FEATURES:
        raise field_error("/feature_id", f"is not possible with the type {row.document['type']}")
    if shapes.has_started(row, at):
        raise conflict("the experiment has started: its feature cannot change any more")


async def _check_key(
    connection: AsyncConnection, key: str | None, project_id: int, experiment_id: int
) -> None:
    columns = experiments.c
    same_key = select(columns.id).where(
        columns.project_id == project_id, columns.key == key, columns.id != experiment_id
    )
    if key is not None and (holder := (await connection.execute(same_key)).scalar_one_or_none()):
        # Clients look for these words, and go on with the experiment of that id.
        raise field_error("/key", f"is already in use (id: {holder})")


def _baseline(document: Document) -> int:
    baseline = int(document.pop("baseline_variation_id"))
    if baseline not in {variation["variation_id"] for variation in document["variations"]}:
        raise field_error("/baseline_variation_id", "is not of this experiment")
    return baseline


async def _complete(
    connection: AsyncConnection, document: Document, project_id: int, before: Document
) -> None:
    """Check the rules between fields, and add the values that the service sets."""
    definitions.check_variations(document["variations"])
    definitions.check_whitelist(document)
    definitions.check_pages_of_actions(document)
    page_changes.check(document, before)
    states.read_schedule(document.get("schedule"))
    if document["audience_conditions"] != before.get("audience_conditions"):
        document["audience_conditions"] = read_conditions(document["audience_conditions"])
    await check_references(connection, project_id, document, before)
    await feature_tests.complete(connection, document, before)
    if document["metrics"] != before.get("metrics"):
        document["metrics"] = definitions.complete_metrics(document["metrics"])
    await share_links.keep_token(connection, project_id, document["variations"])
    document["changes"] = page_changes.completed(document["changes"], before.get("changes", ()))


async def _act(
    connection: AsyncConnection, row: Row[Any], action: str, at: datetime, level: float | None = None
) -> Row[Any]:
    schedule = states.read_schedule(row.document.get("schedule"))
    before = shapes.state_of(row, at)
    elsewhere = environments.after(action, shapes.states_in(row, at), schedule, at)
    return await _enter(connection, row, states.act(before, action, schedule, at), elsewhere, at, level)


async def _set_statuses(
    connection: AsyncConnection,
    row: Row[Any],
    statuses: Mapping[str, str],
    at: datetime,
    level: float | None,
    *,
    new: bool = False,
) -> Row[Any]:
    """Set the statuses in environments that a body asks for; that in the primary one is the experiment's."""
    schedule = states.read_schedule(row.document.get("schedule"))
    before = shapes.states_in(row, at)
    after = before | {
        key: environments.moved(before[key], status, schedule, at, key, new=new)
        for key, status in statuses.items()
    }
    primary = environments.primary_of(row.document)
    own = shapes.state_of(row, at) if primary is None else after[primary]
    return await _enter(connection, row, own, after, at, level)


async def _enter(
    connection: AsyncConnection,
    row: Row[Any],
    state: State,
    elsewhere: Mapping[str, State],
    at: datetime,
    level: float | None,
) -> Row[Any]:
    """Store the state, and those in the environments; 409 when the experiment starts somewhere and cannot run."""
    schedule = states.read_schedule(row.document.get("schedule"))
    before = {"": shapes.state_of(row, at), **shapes.states_in(row, at)}
    # A repeated start succeeds, whatever has happened to what the experiment uses.
    if any(_starts(one) and one != before[key] for key, one in {"": state, **elsewhere}.items()):
        await _check_can_run(connection, row)
    if _starts(state) and "confidence_level" not in row.stats_config:
        stats_config = {**row.stats_config, "confidence_level": DEFAULT_LEVEL if level is None else level}
        row = await _save(connection, row, stats_config=stats_config)
    settled = {key: states.settle(one, schedule, at) for key, one in elsewhere.items()}
    return await _save_state(connection, row, states.settle(state, schedule, at), at, settled)


def _starts(state: State) -> bool:
    return state.status == "running" or state.awaits_start


async def _check_can_run(connection: AsyncConnection, row: Row[Any]) -> None:
    if not any(variation["status"] == "active" for variation in row.document["variations"]):
        raise conflict("the experiment has no active variations: it cannot start")
    its_layer = await _layer_row(connection, row.layer_id)
    if its_layer.archived is not None:
        raise conflict("the campaign of the experiment is archived")
    if _lacks_page(row, its_layer):
        raise conflict(f"the experiment has no page to run on: {_give_page(its_layer)}, then start it")
    of_campaign = its_layer.document.get("page_ids", [])
    pages = row.document.get("page_ids") or of_campaign
    for kind, number in await lock_used(connection, {**row.document, "page_ids": pages}):
        raise conflict(f"the {kind} {number} is archived: an experiment with it cannot start")


def _check_runs_on_a_page(row: Row[Any], its_layer: Row[Any], at: datetime) -> None:
    """409 for an experiment that runs, or awaits its schedule, and would do so on no page any more."""
    in_all = (shapes.state_of(row, at), *shapes.states_in(row, at).values())
    if _lacks_page(row, its_layer) and any(map(_starts, in_all)):
        raise conflict(
            f"experiment {row.id}, which runs, would have no page to run on: pause it first,"
            f" or {_give_page(its_layer)}"
        )


def _lacks_page(row: Row[Any], its_layer: Row[Any]) -> bool:
    """Whether an experiment for the web would run nowhere: neither it nor its campaign names a page."""
    if row.document.get("platform", WEB) != WEB:
        return False
    return not definitions.pages_of(row.document) and not definitions.pages_of(its_layer.document)


def _give_page(its_layer: Row[Any]) -> str:
    owner = "it or its campaign" if its_layer.type == "personalization" else "it"
    return f"give {owner} page_ids or url_targeting"


async def _save_state(
    connection: AsyncConnection,
    row: Row[Any],
    state: State,
    at: datetime,
    elsewhere: Mapping[str, State] | None = None,
) -> Row[Any]:
    """Store the experiment's own state, and those in the environments; without them, as the schedule has them."""
    schedule = states.read_schedule(row.document.get("schedule"))
    present = shapes.states_in(row, at) if elsewhere is None else elsewhere
    # The primary environment has the new state of the experiment.
    in_environments = environments.states_in(
        environments.with_states(row.document, present), state, schedule, at
    )
    document = environments.with_states(row.document, in_environments)
    values: dict[str, Any] = {
        "status": state.status,
        "earliest": state.earliest,
        "latest": state.latest,
        "awaits_start": state.awaits_start,
    }
    if document != row.document:
        values["document"] = document
    if all(getattr(row, name) == value for name, value in values.items()):
        return row
    values["runs"] = runs.dump(shapes.runs_of(row, state))
    if row.frozen is None and state.earliest is not None:
        its_layer = await _layer_row(connection, row.layer_id)
        event_ids = definitions.event_ids_of(shapes.measured(row, its_layer))
        values["frozen"] = shapes.settings_of(row, its_layer, await event_names(connection, event_ids))
    return await _save(connection, row, **values)


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
    """Add a campaign without experiments, which runs only after `start`; `publish` leaves it paused."""
    row = await _insert_layer(connection, {**given, "type": "personalization"}, at)
    if action == "publish":
        await _save_layer(connection, row, status="paused")
    if action == "start":
        await _act_on_layer(connection, row, action, at)
    await index(connection, CAMPAIGN, [row.id])
    made = await get_layer(connection, row.id, at)
    await record(connection, "Campaign", None, made, at)
    return made


async def update_layer(
    connection: AsyncConnection,
    layer_id: int,
    changes: Document,
    action: str | None,
    at: datetime,
    if_match: str = "",
) -> Document:
    """Apply validated changes to a campaign, then `action` to it. Its experiments have states of their own.

    A change of nothing stores nothing. 412 when `if_match` names another version.
    """
    row = await _own_layer(connection, layer_id)
    if at < row.created:
        raise bad_request("at lies before the campaign was created")
    shown = await get_layer(connection, layer_id, at)
    _check_version("campaign", shown, if_match)
    changes = _differing(shown, changes)
    if action == "unarchive" and shown["status"] != "archived":
        raise conflict("it is not archived")
    if shown["status"] == "archived" and action != "unarchive" and (changes or action):
        raise conflict("the campaign is archived")
    document = definitions.one_targeting({**row.document, **changes}, changes)
    await lock_used(connection, document)
    document = await _with_page(connection, document, row, at)
    await _complete_layer(connection, document, changes, row)
    if document != row.document:
        before = row.document
        row = await _save_layer(connection, row, document=document, last_modified=max(at, row.last_modified))
        # Members without pages of their own run on the campaign's.
        if document.get("page_ids") != before.get("page_ids"):
            await _index_members(connection, layer_id)
        if definitions.pages_of(before) and not definitions.pages_of(document):
            for member in await _members(connection, [layer_id]):
                _check_runs_on_a_page(member, row, at)
        await single_use_pages.retire(connection, document, before, at)
    if action is not None:
        await _act_on_layer(connection, row, action, at)
    await index(connection, CAMPAIGN, [layer_id])
    after = await get_layer(connection, layer_id, at)
    await record(connection, "Campaign", shown, after, at, action)
    return after


async def _own_layer(connection: AsyncConnection, layer_id: int) -> Row[Any]:
    """The layer, locked; 409 for that of a single experiment, which follows the experiment."""
    row = await _layer_row(connection, layer_id, for_update=True)
    if row.type == "other":
        raise conflict("it is the campaign of a single experiment: change the experiment")
    return row


async def archive_layer(connection: AsyncConnection, layer_id: int, at: datetime, if_match: str = "") -> None:
    """Archive a layer and all its experiments; 410 when it is archived already, 412 when `if_match` names another."""
    row = await _own_layer(connection, layer_id)
    if await _is_archived(connection, row, at):
        raise gone("campaign", layer_id)
    before = await get_layer(connection, layer_id, at)
    _check_version("campaign", before, if_match)
    await _act_on_layer(connection, row, "archive", at)
    await index(connection, CAMPAIGN, [layer_id])
    await record(connection, "Campaign", before, await get_layer(connection, layer_id, at), at)


async def _act_on_layer(connection: AsyncConnection, row: Row[Any], action: str, at: datetime) -> None:
    status = row.status if row.archived is None else "archived"
    after = states.campaign_after(action, status)
    if action == "archive":
        await _archive_members(connection, row, at)
        row = await _layer_row(connection, row.id)
    values: dict[str, Any] = {"archived": at if action == "archive" else None}
    if after == "running":
        values |= {"status": after, "paused": None, "earliest": row.earliest or at, "latest": None}
    elif after != status:
        values |= {"status": row.status if action == "archive" else after, "paused": row.paused or at}
    if status == "running" and after != "running":
        values |= {"status": "paused", "latest": at}
    if after == "running" and row.paused is not None:
        values["pauses"] = [*row.pauses, [format_time(row.paused), format_time(max(at, row.paused))]]
    if any(getattr(row, name) != value for name, value in values.items()):
        await _save_layer(connection, row, **values, last_modified=max(at, row.last_modified))
    if action == "unarchive":
        await _restore_members(connection, row, at)
    await _index_members(connection, row.id)


async def _index_members(connection: AsyncConnection, layer_id: int) -> None:
    members = await connection.execute(select(experiments.c.id).where(experiments.c.layer_id == layer_id))
    await index(connection, EXPERIMENT, members.scalars())


async def _index_experiments(connection: AsyncConnection, ids: Sequence[int], layer_id: int) -> None:
    """Index experiments of a layer, and the layer, which is changed with them."""
    await index(connection, EXPERIMENT, ids)
    await index(connection, CAMPAIGN, [layer_id])


async def _archive_members(connection: AsyncConnection, row: Row[Any], at: datetime) -> None:
    """Archive the experiences of a campaign with it, and note as what they are to come back."""
    states_before = {}
    for member in await _members(connection, [row.id], for_update=True):
        settled = await _save_state(connection, member, shapes.state_of(member, at), at)
        if settled.status != "archived":
            noted = {"status": settled.status, "awaits_start": settled.awaits_start}
            states_before[str(member.id)] = noted
            await _touch(connection, await _act(connection, settled, "archive", at), at)
    await _save_layer(connection, row, archived_with=states_before)


async def _restore_members(connection: AsyncConnection, row: Row[Any], at: datetime) -> None:
    """Bring back the experiences that were archived with the campaign, as they were; others stay archived."""
    for member in await _members(connection, [row.id], for_update=True):
        noted = row.archived_with.get(str(member.id))
        if noted is None or member.status != "archived":
            continue
        state = _restored(member, noted, at)
        await _touch(connection, await _save_state(connection, member, state, at), at)
    await _save_layer(connection, row, archived_with={})


def _restored(member: Row[Any], noted: Document | str, at: datetime) -> State:
    """The state of an experience that comes back with its campaign."""
    if isinstance(noted, str):  # an earlier release noted the status alone
        noted = {"status": noted, "awaits_start": False}
    latest, since = (None, at) if noted["status"] == "running" else (member.latest, None)
    state = State(noted["status"], member.earliest, latest, since=since)
    schedule = states.read_schedule(member.document.get("schedule"))
    return states.await_again(state, schedule, at) if noted["awaits_start"] else state


async def _save_layer(connection: AsyncConnection, row: Row[Any], **values: Any) -> Row[Any]:
    await connection.execute(update(layers).where(layers.c.id == row.id).values(**values))
    return await _layer_row(connection, row.id)


async def _is_archived(connection: AsyncConnection, row: Row[Any], at: datetime) -> bool:
    shape = (await _shape_layers(connection, [row], at))[0]
    return bool(shape["status"] == "archived")


async def _complete_layer(
    connection: AsyncConnection, document: Document, changes: Document, row: Row[Any]
) -> None:
    page_changes.check(document, row.document)
    await check_references(connection, row.project_id, document, row.document)
    if document.get("metrics") != row.document.get("metrics"):
        document["metrics"] = definitions.complete_metrics(document["metrics"])
    if "changes" in document:
        document["changes"] = page_changes.completed(document["changes"], row.document.get("changes", ()))
    if "experiment_priorities" in changes:
        members = await _members(connection, [row.id], _OF_MEMBERS)
        present = [member.id for member in members if member.status != "archived"]
        document["experiment_priorities"] = definitions.new_priorities(
            changes["experiment_priorities"], present
        )


async def _insert_layer(connection: AsyncConnection, given: Document, at: datetime) -> Row[Any]:
    document = dict(given)
    columns: dict[str, Any] = {name: document.pop(name) for name in ("account_id", "project_id")}
    columns["type"] = document.pop("type")
    if columns["type"] == "personalization":
        columns |= {"status": "not_started", "paused": at}
    (layer_id,) = await allocate_ids(connection, next_ids)
    await connection.execute(
        insert(layers).values(id=layer_id, document={}, created=at, last_modified=at, **columns)
    )
    row = await _layer_row(connection, layer_id)
    if row.type == "personalization":
        document = definitions.one_targeting({**definitions.LAYER_DEFAULTS, **document}, document)
        document["name"] = document.get("name") or f"Campaign {layer_id}"
        document = await _with_page(connection, document, row, at)
    await _complete_layer(connection, document, given, row)
    await connection.execute(update(layers).where(layers.c.id == layer_id).values(document=document))
    return await _layer_row(connection, layer_id)


async def _with_page(
    connection: AsyncConnection, document: Document, row: Row[Any], at: datetime
) -> Document:
    owner = {"account_id": row.account_id, "project_id": row.project_id}
    name = document["name"]
    return await single_use_pages.follow(connection, document, row.document, owner, name, at)


async def _layer_for(
    connection: AsyncConnection, document: Document, owner: dict[str, int], at: datetime
) -> Row[Any]:
    """The layer that a new experiment names, or a new one of its own."""
    layer_id = document.pop("campaign_id", None)
    if layer_id is None and document.get("type") == "personalization":
        raise field_error("/campaign_id", "is required with the type personalization")
    if layer_id is None:
        return await _insert_layer(connection, {**owner, "type": "other"}, at)
    query = select(layers).where(layers.c.id == layer_id).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None or row.project_id != owner["project_id"]:
        raise field_error("/campaign_id", "is no campaign of this project")
    if await _is_archived(connection, row, at):
        raise field_error("/campaign_id", "is an archived campaign")
    if row.type != "personalization":
        raise field_error("/campaign_id", "is the campaign of a single experiment")
    if document.get("type", "personalization") != "personalization":
        raise field_error("/type", "must be personalization in a personalization campaign")
    return row


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
    connection: AsyncConnection,
    layer_ids: Iterable[int],
    columns: Sequence[Any] = (experiments,),
    for_update: bool = False,
) -> list[Row[Any]]:
    query = select(*columns).where(experiments.c.layer_id.in_(list(layer_ids))).order_by(experiments.c.id)
    rows = await connection.execute(query.with_for_update() if for_update else query)
    return list(rows.all())


async def _shape_experiments(
    connection: AsyncConnection, rows: Sequence[Row[Any]], now: datetime
) -> list[Document]:
    query = select(layers.c.id, layers.c.paused, layers.c.pauses, layers.c.document)
    query = query.where(layers.c.id.in_({row.layer_id for row in rows}))
    of_id: dict[int, Any] = {layer.id: layer for layer in await connection.execute(query)}
    metrics = [metric for row in rows for metric in shapes.measured(row, of_id[row.layer_id])]
    names = await event_names(connection, definitions.event_ids_of(metrics))
    shaped = [shapes.experiment(row, of_id[row.layer_id], names, now) for row in rows]
    shaped = await feature_tests.with_present_names(connection, shaped)
    return await share_links.with_links(connection, shaped)


async def _shape_layers(
    connection: AsyncConnection, rows: Sequence[Row[Any]], now: datetime
) -> list[Document]:
    members = await _shown_members(connection, rows)
    metrics = [metric for row in rows for metric in shapes.layer_metrics(row, members[row.id])]
    names = await event_names(connection, definitions.event_ids_of(metrics))
    return [shapes.layer(row, members[row.id], names, now) for row in rows]


async def _shown_members(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> dict[int, list[Row[Any]]]:
    """The experiments of each layer: whole rows of those that it takes a name, a state or metrics from."""
    members: dict[int, list[Row[Any]]] = {row.id: [] for row in rows}
    for member in await _members(connection, members, _OF_MEMBERS):
        members[member.layer_id].append(member)
    takes_all = {row.id for row in rows if row.status is None}
    takes_first = {row.id for row in rows if not row.document.get("metrics")}
    ids = [
        member.id
        for layer_id, some in members.items()
        for member in (some if layer_id in takes_all else some[:1] if layer_id in takes_first else ())
    ]
    query = select(experiments).where(experiments.c.id.in_(ids))
    whole = {row.id: row for row in await connection.execute(query)} if ids else {}
    return {layer_id: [whole.get(one.id, one) for one in some] for layer_id, some in members.items()}
