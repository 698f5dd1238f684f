"""How an experiment stands in each environment of its project: pure functions of its document.

The document's `environments` has an entry for each environment by its key: `id`, `is_primary` and a state. The gateway,
which knows the environments of a project, names all of them in each body that names one. The experiment's own status is
that in the primary environment, whose entry repeats it. The schedule holds in every environment. Entries of an earlier
release, without `is_primary`, follow the experiment's own status too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from optimizely_api.contract.load import pointer
from optimizely_api.contract.times import format_time
from optimizely_api.services.experiments import states
from optimizely_api.services.experiments.states import Schedule, State
from optimizely_api.services.http.errors import conflict, field_errors

Json = dict[str, Any]

NAME = "environments"
ACTIONS = {"running": "start", "paused": "pause"}  # what sets a status


def marks_of(entry: Mapping[str, Any]) -> Json:
    """What says which environment of the project it is."""
    return {name: value for name, value in entry.items() if name in ("id", "is_primary")}


def checked(given: Mapping[str, Json]) -> dict[str, Json]:
    """The environments of a body; 400 for each that the gateway has not marked as one of the project."""
    problems = {
        pointer(NAME, key): "is no environment of this project"
        for key, value in given.items()
        if "is_primary" not in value
    }
    if problems:
        raise field_errors(problems)
    return dict(given)


def merged(present: Mapping[str, Json], given: Mapping[str, Json], archived: bool) -> dict[str, Json]:
    """The entries with those of `given`, known by their ids: under another key an environment is the same one.

    A new environment has never run the experiment.
    """
    fresh: Json = {"status": "archived" if archived else "not_started"}
    by_id = {value.get("id"): value for value in present.values() if value.get("id") is not None}
    result: dict[str, Json] = {}
    for key, value in given.items():
        known = by_id.get(value.get("id")) or (present.get(key) if "id" not in value else None)
        result[key] = {**(known or fresh), **marks_of(value)}
    ids = {value.get("id") for value in given.values()} - {None}
    left = {key: value for key, value in present.items() if value.get("id") not in ids and key not in result}
    return {**left, **result}


def wanted(given: Mapping[str, Json], present: Mapping[str, str]) -> dict[str, str]:
    """The statuses that a body asks for, where they differ from the present ones."""
    return {
        key: value["status"]
        for key, value in given.items()
        if "status" in value and value["status"] != present.get(key, "not_started")
    }


def primary_of(document: Mapping[str, Any]) -> str | None:
    """The key of the primary environment; None for a project without environments."""
    return next((key for key, value in document.get(NAME, {}).items() if _follows(value)), None)


def _follows(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("is_primary", True))


def key_of(document: Mapping[str, Any], key: str, environment_id: int | None) -> str | None:
    """The key of an environment's entry: it has the environment's id or, if either has none, its key."""
    entries: Mapping[str, Json] = document.get(NAME, {})
    if environment_id is not None:
        for known, value in entries.items():
            if value.get("id") == environment_id:
                return known
    is_another = environment_id is not None and "id" in entries.get(key, {})
    return key if key in entries and not is_another else None


def states_in(document: Mapping[str, Any], own: State, schedule: Schedule, now: datetime) -> dict[str, State]:
    """The state in each environment at `now`; `own` is that of the experiment."""
    return {
        key: own if _follows(value) else states.settle(_load(value), schedule, now)
        for key, value in document.get(NAME, {}).items()
    }


def with_states(document: Json, of_key: Mapping[str, State]) -> Json:
    """The document with these states in its environments."""
    if NAME not in document:
        return document
    entries = {key: {**marks_of(value), **_dump(of_key[key])} for key, value in document[NAME].items()}
    return {**document, NAME: entries}


def after(action: str, of_key: Mapping[str, State], schedule: Schedule, at: datetime) -> dict[str, State]:
    """The states after an action on the experiment: archiving is for all environments, all others for the primary."""
    if action == "archive":
        return {
            key: state if state.status == "archived" else states.act(state, action, schedule, at)
            for key, state in of_key.items()
        }
    if action == "unarchive":
        return {key: _unarchived(state) for key, state in of_key.items()}
    return dict(of_key)


def _unarchived(state: State) -> State:
    return State() if state.earliest is None else State("paused", state.earliest, state.latest)


def moved(state: State, status: str, schedule: Schedule, at: datetime, key: str, *, new: bool) -> State:
    """The state after a body has set the status in an environment, by the same transitions as actions; 409 otherwise.

    A `new` experiment may begin as paused.
    """
    if new and status == "paused":
        return State("paused")
    if status in ACTIONS:
        return states.act(state, ACTIONS[status], schedule, at, f" in environment {key}")
    if status == "not_started" and state.earliest is None and state.status != "archived":
        return State()
    raise conflict(
        f"the experiment is {shown(state)} in environment {key}: it cannot become {status} there"
        + ("; archive the experiment" if status == "archived" else "")
    )


def shown(state: State) -> str:
    """The status as an environment has it."""
    return "paused" if state.status == "concluded" else state.status


def started(of_key: Iterable[State]) -> bool:
    """Whether the experiment has run in one of the environments."""
    return any(state.earliest is not None for state in of_key)


def _load(entry: Mapping[str, Any]) -> State:
    times = {name: datetime.fromisoformat(entry[name]) for name in ("earliest", "latest") if name in entry}
    return State(entry["status"], awaits_start=entry.get("awaits_start", False), **times)


def _dump(state: State) -> Json:
    times = {"earliest": state.earliest, "latest": state.latest}
    return {
        "status": state.status,
        **({"awaits_start": True} if state.awaits_start else {}),
        **{name: format_time(moment) for name, moment in times.items() if moment is not None},
    }
