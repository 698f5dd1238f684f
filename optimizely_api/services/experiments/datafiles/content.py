"""What is in a datafile: pure functions from the rows of a project to the datafile of one environment, version 4.

An SDK refuses a datafile in which an id of `experimentIds` or a `rolloutId` leads nowhere, so that what is left out is
left out whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from optimizely_api.services.experiments import audience_conditions, definitions, environments, shapes
from optimizely_api.services.experiments.conditions import leaves
from optimizely_api.services.experiments.datafiles import buckets, targeting
from optimizely_api.services.experiments.features import audience_ids_of

Json = dict[str, Any]
Ranges = list[tuple[int, int]]

VERSION = "4"
REGION = "US"
TYPES = ("a/b", "feature")
STATUSES = {"running": "Running", "paused": "Paused", "concluded": "Paused"}


@dataclass(frozen=True, kw_only=True)
class Project:
    """What the datafiles of a project are made of: rows, ordered by id, and who has which buckets by entity."""

    experiments: Sequence[Row[Any]] = ()
    groups: Sequence[Row[Any]] = ()
    features: Sequence[Row[Any]] = ()
    audiences: Sequence[Row[Any]] = ()
    attributes: Sequence[Row[Any]] = ()
    events: Sequence[Row[Any]] = ()
    ranges: Mapping[int, Ranges] = field(default_factory=dict)


def render(content: Json, revision: int) -> bytes:
    """The bytes of a datafile, the same wherever it is built."""
    whole = {"version": VERSION, "revision": str(revision), **content}
    # ASCII, for a text may have half of a surrogate pair, which JSON can write and UTF-8 cannot.
    return json.dumps(whole, separators=(",", ":")).encode()


def digest(content: Json) -> str:
    """The SHA-256 of a datafile without its revision."""
    return hashlib.sha256(render(content, 0)).hexdigest()


def content(environment: Row[Any], project: Project, now: datetime) -> Json:
    """The datafile of an environment, without version and revision."""
    statuses = {row.id: status_in(row, environment, now) for row in project.experiments}
    listed = [row for row in project.experiments if statuses[row.id] in STATUSES]
    features = [row for row in project.features if not row.archived]
    shown = {
        row.id: _experiment(row, STATUSES[statuses[row.id]], project.ranges[row.id], project.features)
        for row in listed
    }
    groups = [_group(row, shown, project.ranges) for row in project.groups]
    groups = [group for group in groups if group["experiments"]]
    grouped = {experiment["id"] for group in groups for experiment in group["experiments"]}
    audiences = _audiences(listed, features, project)
    return {
        "projectId": str(environment.project_id),
        "accountId": str(environment.account_id),
        "sdkKey": environment.sdk_key,
        "environmentKey": environment.environment_key,
        "region": REGION,
        "anonymizeIP": environment.anonymize_ip,
        "botFiltering": False,
        "sendFlagDecisions": False,  # with true, a rollout's decisions would count as impressions
        "experiments": [one for one in shown.values() if one["id"] not in grouped],
        "groups": groups,
        "featureFlags": [_flag(row, listed, environment.environment_id) for row in features],
        "rollouts": [_rollout(row, environment) for row in features],
        "events": list(_events(listed, project.events)),
        "attributes": list(_attributes(audiences, project.attributes)),
        "audiences": [targeting.untyped(one) for one in audiences.values()],
        "typedAudiences": list(audiences.values()),
        "variables": [],
        "integrations": [],
    }


def status_in(row: Row[Any], environment: Row[Any], now: datetime) -> str:
    """The status of an experiment in an environment at `now`; one without a map is in the primary environment alone."""
    if environments.NAME not in row.document:
        return shapes.state_of(row, now).status if environment.is_primary else "not_started"
    return shapes.status_in(row, environment.environment_key, now, environment.environment_id)


def is_listed(row: Row[Any], environment: Row[Any], now: datetime) -> bool:
    """Whether the datafile of the environment has the experiment."""
    return status_in(row, environment, now) in STATUSES


def is_for_sdks(row: Row[Any]) -> bool:
    """Whether an experiment is of a type that SDKs run."""
    return row.document.get("type", TYPES[0]) in TYPES


def active_weights(row: Row[Any]) -> dict[int, int]:
    """The weights of the variations that visitors may get, by id."""
    variations = row.document["variations"]
    return {one["variation_id"]: one["weight"] for one in variations if one["status"] == "active"}


def group_weights(row: Row[Any]) -> dict[int, int]:
    """The shares of a group's experiments, by id."""
    return {one["id"]: one["weight"] for one in row.document["entities"] if one["kind"] == "Experiment"}


def _experiment(row: Row[Any], status: str, ranges: Ranges, features: Iterable[Row[Any]]) -> Json:
    document = row.document
    variables = _variable_ids(features, document["feature_id"]) if "feature_id" in document else None
    active = [one for one in document["variations"] if one["status"] == "active"]
    keys = {one["variation_id"]: one.get("key") or str(one["variation_id"]) for one in active}
    whitelist = document.get("whitelist") or ()
    return {
        "id": str(row.id),
        "key": row.key or str(row.id),
        "layerId": str(row.layer_id),
        "status": status,
        "variations": [_variation(one, keys[one["variation_id"]], variables) for one in active],
        "trafficAllocation": _allocation(ranges),
        **targeting.audiences_of(document.get("audience_conditions", audience_conditions.EVERYONE)),
        "forcedVariations": {
            one["user_id"]: keys[one["variation_id"]] for one in whitelist if one["variation_id"] in keys
        },
    }


def _variation(variation: Json, key: str, variables: Mapping[str, int] | None) -> Json:
    shown = {"id": str(variation["variation_id"]), "key": key}
    if variables is None:
        return shown
    return {
        **shown,
        "featureEnabled": variation.get("feature_enabled", key != "off"),
        "variables": _values(variation.get("variable_values", {}), variables),
    }


def _allocation(ranges: Ranges) -> list[Json]:
    return [
        {"entityId": "" if owner == buckets.NOBODY else str(owner), "endOfRange": end}
        for owner, end in ranges
    ]


def _variable_ids(features: Iterable[Row[Any]], feature_id: int) -> dict[str, int]:
    """The ids of a feature's variables by key."""
    feature = next((row for row in features if row.id == feature_id), None)
    variables = feature.document["variables"] if feature else ()
    return {one["key"]: one["id"] for one in variables if not one["archived"]}


def _values(values: Mapping[str, str], variables: Mapping[str, int]) -> list[Json]:
    return [{"id": str(variables[key]), "value": value} for key, value in values.items() if key in variables]


def _group(row: Row[Any], shown: Mapping[int, Json], ranges: Mapping[int, Ranges]) -> Json:
    members = group_weights(row)
    return {
        "id": str(row.id),
        "policy": "random",
        "trafficAllocation": _allocation(ranges.get(row.id, [])),
        "experiments": [one for experiment_id, one in shown.items() if experiment_id in members],
    }


def _flag(row: Row[Any], listed: Iterable[Row[Any]], environment_id: int) -> Json:
    return {
        "id": str(row.id),
        "key": row.key,
        "rolloutId": _rollout_id(row, environment_id),
        "experimentIds": [str(one.id) for one in listed if one.document.get("feature_id") == row.id],
        "variables": [_variable(one) for one in row.document["variables"] if not one["archived"]],
    }


def _variable(variable: Json) -> Json:
    kind = {"type": "string", "subType": "json"} if variable["type"] == "json" else {"type": variable["type"]}
    return {
        "id": str(variable["id"]),
        "key": variable["key"],
        **kind,
        "defaultValue": variable["default_value"],
    }


def _rollout_id(row: Row[Any], environment_id: int) -> str:
    # Of two ids that never change, so that a user's bucket does not either. The rule and its variation have the same.
    return f"rollout-{row.id}-{environment_id}"


def _rollout(row: Row[Any], environment: Row[Any]) -> Json:
    """One rule, which SDKs obey whatever its status: where it is not enabled, it has no traffic."""
    rollout_id, rule = _rollout_id(row, environment.environment_id), _rule(row, environment)
    variables = _variable_ids([row], row.id)
    variation = {
        "id": rollout_id,
        "key": rollout_id,
        "featureEnabled": True,
        "variables": _values(rule.get("variable_values", {}), variables),
    }
    share = {"entityId": rollout_id, "endOfRange": rule.get("percentage_included", 0)}
    experiment = {
        "id": rollout_id,
        "key": rollout_id,
        "layerId": rollout_id,
        "status": "Running",
        "variations": [variation],
        "trafficAllocation": [share] if rule.get("enabled") else [],
        **targeting.audiences_of(rule.get("audience_conditions", audience_conditions.EVERYONE)),
        "forcedVariations": {},
    }
    return {"id": rollout_id, "experiments": [experiment]}


def _rule(row: Row[Any], environment: Row[Any]) -> Json:
    """The rule of a feature in an environment, which is known by its id, or else by its key."""
    stored: Json = row.document["environments"]
    known = next((one for one in stored.values() if one.get("id") == environment.environment_id), None)
    if known is None:
        named = stored.get(environment.environment_key, {})
        known = named if "id" not in named else {}
    rule: Json = next(iter(known.get("rollout_rules", ())), {})
    return rule


def _audiences(listed: Iterable[Row[Any]], features: Iterable[Row[Any]], project: Project) -> dict[int, Json]:
    """The audiences, archived or not, that experiments and rollout rules name."""
    named = {
        audience_id
        for row in listed
        for audience_id in audience_conditions.audience_ids(
            row.document.get("audience_conditions", audience_conditions.EVERYONE)
        )
    }
    named |= {audience_id for row in features for audience_id in audience_ids_of(row.document)}
    keys = {row.id: row.key for row in project.attributes}
    return {
        row.id: targeting.audience(row.id, row.name, row.document, keys)
        for row in project.audiences
        if row.id in named
    }


def _attributes(audiences: Mapping[int, Json], attributes: Iterable[Row[Any]]) -> Iterator[Json]:
    used = {leaf.get("name") for one in audiences.values() for leaf in leaves(one["conditions"])}
    for row in attributes:
        if not row.archived or row.key in used:
            yield {"id": str(row.id), "key": row.key}


def _events(listed: Iterable[Row[Any]], events: Iterable[Row[Any]]) -> Iterator[Json]:
    measured = [(row, definitions.event_ids_of(row.document["metrics"])) for row in listed]
    for event in events:
        experiment_ids = [str(row.id) for row, event_ids in measured if event.id in event_ids]
        is_custom = event.key is not None and event.document.get("event_type", "custom") == "custom"
        if is_custom and (experiment_ids or not event.archived):
            yield {"id": str(event.id), "key": event.key, "experimentIds": experiment_ids}
