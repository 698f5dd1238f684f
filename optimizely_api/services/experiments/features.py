"""Features: parts of an app, each with a rollout rule in every environment and variables that code reads.

The gateway knows the environments of a project: it sends the whole map with a new feature, and marks each environment
of a change with `is_primary`. An environment without that mark is none of the project.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.experiments import audience_conditions, variables
from optimizely_api.services.experiments.audience_conditions import EVERYONE
from optimizely_api.services.experiments.running import running_user, started_test
from optimizely_api.services.experiments.tables import METADATA, next_ids
from optimizely_api.services.http.errors import conflict
from optimizely_api.services.schema import BOOLEAN, ID, TEXT, list_of, map_of, object_of
from optimizely_api.services.storage.ids import allocate_ids

Json = dict[str, Any]
Problem = tuple[str, str]

RULE = object_of(
    {
        "audience_conditions": TEXT,
        "enabled": BOOLEAN,
        "percentage_included": {"type": "integer", "minimum": 0, "maximum": 10_000},
        "variable_values": map_of(TEXT),
    }
)
ENVIRONMENT = object_of(
    {"id": ID, "is_primary": BOOLEAN, "rollout_rules": list_of(RULE, most=1)}, "rollout_rules"
)
RULE_DEFAULTS: Json = {"enabled": False, "percentage_included": 0}

FEATURES = Entity(
    "Feature",
    METADATA,
    next_ids,
    initial={"description": "", "environments": {}, "variables": []},
    tightened={"environments": map_of(ENVIRONMENT)},
)


@FEATURES.prepare
def name_defaults_to_the_key(feature: Json, before: Json | None) -> Json:
    return {**feature, "name": feature.get("name") or feature["key"]}


@FEATURES.prepare
def environments_keep_one_rule_each(feature: Json, before: Json | None) -> Json:
    """Merge the map by key; the primary environment's audiences become those of all that name none."""
    old: Json = before["environments"] if before else {}
    given: Json = feature["environments"]
    if given is old:
        return feature
    audiences = _audiences(given) or _audiences(old) or EVERYONE
    # An environment is known by its id: under another key it is the same one.
    ids = {value.get("id") for value in given.values()} - {None}
    kept = {
        key: _with_audiences(value, audiences) for key, value in old.items() if value.get("id") not in ids
    }
    return {
        **feature,
        "environments": kept | {key: _one_rule(value, audiences) for key, value in given.items()},
    }


@FEATURES.prepare
def remember_whether_it_has_been_on(feature: Json, before: Json | None) -> Json:
    is_on = any(rule["enabled"] for _, rule in _rules(feature))
    return {**feature, "has_been_on": is_on or bool(before and before["has_been_on"])}


@FEATURES.complete
async def variables_are_known_by_id_or_key(
    connection: AsyncConnection, feature: Json, before: Json | None
) -> Json:
    old = before["variables"] if before else []
    if before and feature["variables"] == old:
        return feature
    new_ids = await allocate_ids(connection, next_ids, len(feature["variables"]))
    merged = variables.merged(old, feature["variables"], iter(new_ids))
    if (
        before
        and variables.changes_a_type(old, merged)
        and (before["has_been_on"] or await started_test(connection, before["id"]))
    ):
        raise conflict("the feature has been on: the types of its variables cannot change")
    environments = variables.follow_keys(before["environments"] if before else {}, old, merged)
    unchanged = {
        key: environments[key]
        for key, value in feature["environments"].items()
        if before and value == before["environments"].get(key)
    }
    return {**feature, "variables": merged, "environments": {**feature["environments"], **unchanged}}


@FEATURES.complete
async def what_a_running_experiment_tests_is_not_archived(
    connection: AsyncConnection, feature: Json, before: Json | None
) -> Json:
    if not before or before["archived"] or not feature["archived"]:
        return feature
    if experiment_id := await running_user(connection, "feature", before["id"]):
        raise conflict(f"the running experiment {experiment_id} tests the feature; pause it first")
    return feature


@FEATURES.rule
def environments_are_of_the_project(feature: Json, before: Json | None) -> Iterator[Problem]:
    for key, environment in feature["environments"].items():
        if "is_primary" not in environment:
            yield _pointer("environments", key), "is no environment of this project"


@FEATURES.rule
def audiences_are_the_same_everywhere(feature: Json, before: Json | None) -> Iterator[Problem]:
    audiences = _audiences(feature["environments"]) or EVERYONE
    for key, rule in _rules(feature):
        pointer = _pointer("environments", key, "rollout_rules/0/audience_conditions")
        problem = audience_conditions.problem_of(rule["audience_conditions"])
        if problem:
            yield pointer, problem
        elif not audience_conditions.same_people(rule["audience_conditions"], audiences):
            yield pointer, "differs from that of the primary environment, which all environments share"


@FEATURES.rule
def variables_fit(feature: Json, before: Json | None) -> Iterator[Problem]:
    return variables.problems(feature["variables"])


@FEATURES.rule
def values_fit_their_variables(feature: Json, before: Json | None) -> Iterator[Problem]:
    old = dict(_rules(before)) if before else {}
    for key, rule in _rules(feature):
        present = old.get(key, {}).get("variable_values", {})
        values = rule.get("variable_values", {})
        for name, problem in variables.problems_of_values(feature["variables"], values, present):
            yield _pointer("environments", key, "rollout_rules/0/variable_values", name), problem


@FEATURES.reference
async def audiences_are_there(
    connection: AsyncConnection, feature: Json, before: Json | None
) -> list[Problem]:
    present = audience_ids_of(before) if before else set()
    named = audience_ids_of(feature)
    problem = await audience_conditions.unusable_audience(connection, feature["project_id"], named - present)
    if problem is None:
        return []
    where = next(
        key for key, rule in _rules(feature) if audience_conditions.audience_ids(rule["audience_conditions"])
    )
    return [(_pointer("environments", where, "rollout_rules/0/audience_conditions"), problem)]


def _rules(feature: Json) -> Iterator[tuple[str, Json]]:
    """(key of the environment, its rule) for each environment."""
    for key, environment in feature["environments"].items():
        for rule in environment["rollout_rules"]:
            yield key, rule


def _audiences(environments: Json) -> str | None:
    """The audience conditions of the primary environment, if it is among these and names some."""
    primary = next((value for value in environments.values() if value.get("is_primary")), None)
    rules = primary["rollout_rules"] if primary else ()
    return next((rule["audience_conditions"] for rule in rules if "audience_conditions" in rule), None)


def _one_rule(environment: Json, audiences: str) -> Json:
    rule: Json = next(iter(environment["rollout_rules"]), {})
    text = audience_conditions.canonical(rule.get("audience_conditions", audiences))
    return {**environment, "rollout_rules": [{**RULE_DEFAULTS, **rule, "audience_conditions": text}]}


def _with_audiences(environment: Json, audiences: str) -> Json:
    text = audience_conditions.canonical(audiences)
    rules = [{**rule, "audience_conditions": text} for rule in environment["rollout_rules"]]
    return {**environment, "rollout_rules": rules}


def audience_ids_of(feature: Json) -> set[int]:
    """The audiences that the feature's rollout rules name."""
    return {
        number
        for _, rule in _rules(feature)
        for number in audience_conditions.audience_ids(rule["audience_conditions"])
    }


def _pointer(first: str, key: str, *further: str) -> str:
    escaped = [first, _escaped(key), *further[:1], *(_escaped(part) for part in further[1:])]
    return "/" + "/".join(escaped)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
