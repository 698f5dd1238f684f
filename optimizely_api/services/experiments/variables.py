"""The variables of a feature: who they are after a change, and which texts are values of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from optimizely_api.services.http.errors import field_errors

Json = dict[str, Any]
Problem = tuple[str, str]

REQUIRED = ("key", "type", "default_value")
_INTEGER = re.compile("-?[0-9]+")
# Possessive, so that a long run of digits is not tried again from each of its places.
_DOUBLE = re.compile(r"-?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")


def merged(old: Sequence[Json], given: Sequence[Json], ids: Iterator[int]) -> list[Json]:
    """The variables after a change: known by id or else by key, new ones with an id of `ids`.

    Those left out follow at the end, archived. 400 for an id that is not of this feature or stands there twice.
    """
    by_id = {variable["id"]: variable for variable in old}
    by_key = {variable["key"]: variable for variable in old}
    result: list[Json] = []
    seen = set[int]()
    problems: dict[str, str] = {}
    for number, variable in enumerate(given):
        known = by_id.get(variable["id"]) if "id" in variable else by_key.get(variable.get("key", ""))
        if known is None and "id" in variable:
            problems[f"/variables/{number}/id"] = "is no variable of this feature"
            continue
        variable_id = known["id"] if known else next(ids)
        if variable_id in seen:
            problems[f"/variables/{number}"] = f"is variable {variable_id}, which stands there twice"
        seen.add(variable_id)
        result.append({**(known or {}), "archived": False, **variable, "id": variable_id})
    if problems:
        raise field_errors(problems)
    return [*result, *({**known, "archived": True} for known in old if known["id"] not in seen)]


def changes_a_type(old: Sequence[Json], new: Sequence[Json]) -> bool:
    types = {variable["id"]: variable.get("type") for variable in new}
    return any(types[variable["id"]] != variable["type"] for variable in old)


def follow_keys(
    environments: Mapping[str, Json], old: Sequence[Json], new: Sequence[Json]
) -> dict[str, Json]:
    """The environments with values under the keys that their variables have now."""
    keys = {variable["id"]: variable.get("key") for variable in new}
    renamed = {variable["key"]: keys[variable["id"]] for variable in old}
    return {key: _follow(environment, renamed) for key, environment in environments.items()}


def _follow(environment: Json, renamed: Mapping[str, str | None]) -> Json:
    return {
        **environment,
        "rollout_rules": [_renamed(rule, renamed) for rule in environment["rollout_rules"]],
    }


def _renamed(rule: Json, renamed: Mapping[str, str | None]) -> Json:
    if "variable_values" not in rule:
        return rule
    values = {renamed.get(key) or key: value for key, value in rule["variable_values"].items()}
    return {**rule, "variable_values": values}


def problems(variables: Sequence[Json]) -> Iterator[Problem]:
    """What is wrong with the list of a feature's variables."""
    keys = set[str | None]()
    for number, variable in enumerate(variables):
        missing = [name for name in REQUIRED if name not in variable]
        yield from ((f"/variables/{number}/{name}", "is required for a new variable") for name in missing)
        is_taken = variable.get("key") in keys
        keys.add(variable.get("key"))
        if missing:
            continue
        if not variable["key"]:
            yield f"/variables/{number}/key", "must not be empty"
        if is_taken:
            yield f"/variables/{number}/key", "is the key of another variable of the feature"
        if not is_value(variable["type"], variable["default_value"]):
            yield f"/variables/{number}/default_value", _must_be(variable["type"])


def problems_of_values(
    variables: Sequence[Json], values: Mapping[str, str], present: Mapping[str, str]
) -> Iterator[Problem]:
    """(key, what is wrong) for values by key; those that are present may be of archived variables."""
    by_key = {variable["key"]: variable for variable in variables if "key" in variable}
    for key, text in values.items():
        variable = by_key.get(key)
        if variable is None:
            yield key, "is no variable of this feature"
        elif variable["archived"] and key not in present:
            yield key, "is an archived variable"
        elif "type" in variable and not is_value(variable["type"], text):
            yield key, _must_be(variable["type"])


def is_value(kind: str, text: str) -> bool:
    """Whether the text can be read as a value of this type."""
    return _READABLE[kind](text)


def _must_be(kind: str) -> str:
    return {
        "boolean": "must be true or false, as text",
        "integer": "must be the text of an integer",
        "double": "must be the text of a number",
        "json": "must be the text of valid JSON",
    }[kind]


def _is_double(text: str) -> bool:
    return bool(_DOUBLE.fullmatch(text)) and math.isfinite(float(text))


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_READABLE: dict[str, Callable[[str], bool]] = {
    "boolean": lambda text: text in ("true", "false"),
    "integer": lambda text: bool(_INTEGER.fullmatch(text)),
    "double": _is_double,
    "json": _is_json,
    "string": lambda text: True,
}
