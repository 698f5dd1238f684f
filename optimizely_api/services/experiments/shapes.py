"""From rows to JSON: the contract's Experiment and Campaign, with the internal keys of the service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from optimizely_api.contract.times import format_time
from optimizely_api.services.experiments import definitions, environments, runs, states
from optimizely_api.services.experiments.runs import Run
from optimizely_api.services.experiments.states import State


def state_of(row: Row[Any], now: datetime) -> State:
    """The experiment's own state at `now`, after the effects of its schedule."""
    since = datetime.fromisoformat(row.runs[-1]["start_time"]) if row.runs else None
    stored = State(row.status, row.earliest, row.latest, row.awaits_start, since)
    return states.settle(stored, states.read_schedule(row.document.get("schedule")), now)


def states_in(row: Row[Any], now: datetime) -> dict[str, State]:
    """The experiment's state at `now` in each environment that it knows, by key."""
    schedule = states.read_schedule(row.document.get("schedule"))
    return environments.states_in(row.document, state_of(row, now), schedule, now)


def status_in(row: Row[Any], key: str, now: datetime, environment_id: int | None = None) -> str:
    """The experiment's status in an environment at `now`: `running`, `paused`, `not_started` or `archived`.

    The schedule counts, whether or not its effects are stored yet. An environment is known by its id, if that is given,
    else by its key. In one that the document does not name, the experiment has not started.
    """
    known = environments.key_of(row.document, key, environment_id)
    if known is None:
        return "archived" if row.status == "archived" else "not_started"
    return environments.shown(states_in(row, now)[known])


def runs_somewhere(row: Row[Any], now: datetime) -> bool:
    """Whether the experiment runs in an environment."""
    return any(state.status == "running" for state in (state_of(row, now), *states_in(row, now).values()))


def has_started(row: Row[Any], now: datetime) -> bool:
    """Whether visitors may have been in the experiment, in any environment."""
    return environments.started((state_of(row, now), *states_in(row, now).values()))


def runs_of(row: Row[Any], state: State) -> tuple[Run, ...]:
    """The experiment's runs for this state, not counting the pauses of its campaign."""
    return runs.follow(runs.load(row.runs), state, runs.weights_of(row.document["variations"]))


def measured(row: Row[Any], its_layer: Row[Any]) -> list[dict[str, Any]]:
    """The metrics that the experiment's results are about: an experience has none of its own, but its campaign's."""
    own: list[dict[str, Any]] = row.document["metrics"]
    return own or its_layer.document.get("metrics", [])


def settings_of(row: Row[Any], its_layer: Row[Any], event_names: Mapping[int, str]) -> dict[str, Any]:
    """The settings that the experiment's results are computed with; its first start froze some of them."""
    document = {**row.document, "metrics": measured(row, its_layer)}
    present = definitions.results_settings(document, row.stats_config, row.baseline_variation_id, event_names)
    return present if row.frozen is None else definitions.as_frozen(present, row.frozen)


def experiment(
    row: Row[Any], its_layer: Row[Any], event_names: Mapping[int, str], now: datetime
) -> dict[str, Any]:
    """One experiment; its first start froze `stats_config` and the baseline."""
    own_state = state_of(row, now)
    state = states.shown(own_state, its_layer.paused)
    pauses = runs.load_pauses(its_layer.pauses, its_layer.paused)
    settings = settings_of(row, its_layer, event_names)
    return {
        **row.document,
        **({} if row.key is None else {"key": row.key}),
        "id": row.id,
        "account_id": row.account_id,
        "project_id": row.project_id,
        "campaign_id": row.layer_id,
        "layer_id": row.layer_id,
        "is_classic": row.is_classic,
        "status": state.status,
        **_environments(row, now),
        **_times(row, state),
        "metric_names": definitions.metric_names(row.document["metrics"], event_names),
        "stats_config": settings["stats_config"],
        **{name: settings[name] for name in ("baseline_variation_id",) if name in settings},
        "results_settings": settings,
        "runs": runs.dump(runs.without_pauses(runs_of(row, own_state), pauses)),
    }


def _environments(row: Row[Any], now: datetime) -> dict[str, Any]:
    """The map of environments, for experiments that know some."""
    if environments.NAME not in row.document:
        return {}
    entries, of_key = row.document[environments.NAME], states_in(row, now)
    return {
        environments.NAME: {
            key: {**environments.marks_of(entries[key]), "status": environments.shown(state)}
            for key, state in of_key.items()
        }
    }


def label(row: Row[Any], layer_paused: datetime | None, now: datetime) -> dict[str, Any]:
    """What an experiment is called and what it is doing, without the rest."""
    return {
        "id": row.id,
        "account_id": row.account_id,
        "project_id": row.project_id,
        "name": row.document.get("name") or row.key or f"Experiment {row.id}",
        "status": states.shown(state_of(row, now), layer_paused).status,
    }


def layer(
    row: Row[Any], members: Sequence[Row[Any]], event_names: Mapping[int, str], now: datetime
) -> dict[str, Any]:
    """One layer, with the properties that follow from its experiments."""
    state = _state_of_layer(row, members, now)
    metrics = layer_metrics(row, members)
    ids = [member.id for member in members]
    return {
        **row.document,
        **(_personalization(row, members) if row.type == "personalization" else _name_of(members)),
        "id": row.id,
        "account_id": row.account_id,
        "project_id": row.project_id,
        "type": row.type,
        "status": state.status,
        "archived": state.status == "archived",
        **_times(row, state),
        "metrics": metrics,
        "metric_names": definitions.metric_names(metrics, event_names),
        "experiment_ids": ids,
    }


def _state_of_layer(row: Row[Any], members: Iterable[Row[Any]], now: datetime) -> State:
    if row.status is not None:
        return State(row.status if row.archived is None else "archived", row.earliest, row.latest)
    return states.layer_state([state_of(member, now) for member in members])


def _personalization(row: Row[Any], members: Iterable[Row[Any]]) -> dict[str, Any]:
    """In which order a visitor is tried for the experiences; archived ones have no place."""
    present = [member.id for member in members if member.status != "archived"]
    stored = row.document.get("experiment_priorities", [])
    return {"experiment_priorities": definitions.shown_priorities(stored, present)}


def _name_of(members: Iterable[Row[Any]]) -> dict[str, Any]:
    """The name of the campaign of a single experiment is the experiment's, or its key."""
    names = [member.document.get("name") or member.key for member in members]
    return {"name": names[0]} if names and names[0] else {}


def layer_metrics(row: Row[Any], members: Iterable[Row[Any]]) -> list[dict[str, Any]]:
    """The layer's own metrics, or else those of its first experiment (the layer of a lone experiment has none)."""
    own: list[dict[str, Any]] = row.document.get("metrics", [])
    first = next(iter(members), None)
    if own or first is None:
        return own
    metrics: list[dict[str, Any]] = first.document["metrics"]
    return (
        metrics if first.frozen is None else definitions.metrics_as_frozen(metrics, first.frozen["metrics"])
    )


def _times(row: Row[Any], state: State) -> dict[str, str]:
    times = {
        "created": row.created,
        "last_modified": row.last_modified,
        "earliest": state.earliest,
        "latest": state.latest,
    }
    return {name: format_time(moment) for name, moment in times.items() if moment is not None}
