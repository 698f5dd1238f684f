"""Reads a datafile as its description says, without an SDK: who gets which variation, and which flags are on."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]


def murmur3(text: str) -> int:
    """MurmurHash3, x86, 32 bits, seed 1."""
    data = text.encode()
    value, mask = 1, 0xFFFFFFFF
    for start in range(0, len(data) - len(data) % 4, 4):
        value ^= _mixed(int.from_bytes(data[start : start + 4], "little"))
        value = (((value << 13) | (value >> 19)) * 5 + 0xE6546B64) & mask
    if tail := data[len(data) - len(data) % 4 :]:
        value ^= _mixed(int.from_bytes(tail, "little"))
    value ^= len(data)
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) & mask
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) & mask
    return value ^ (value >> 16)


def _mixed(block: int) -> int:
    block = (block * 0xCC9E2D51) & 0xFFFFFFFF
    block = ((block << 15) | (block >> 17)) & 0xFFFFFFFF
    return (block * 0x1B873593) & 0xFFFFFFFF


class Reader:
    """A datafile that decides."""

    def __init__(self, datafile: Json) -> None:
        self.datafile = datafile
        self.audiences = {one["id"]: json.loads(one["conditions"]) for one in datafile["audiences"]}
        self.audiences |= {one["id"]: one["conditions"] for one in datafile["typedAudiences"]}
        self.groups = {one["id"]: group for group in datafile["groups"] for one in group["experiments"]}
        grouped = [one for group in datafile["groups"] for one in group["experiments"]]
        self.experiments = [*datafile["experiments"], *grouped]
        self.rollouts = {one["id"]: one for one in datafile["rollouts"]}

    def decide(self, user: Json) -> Json:
        """What the drivers of SDKs answer about a user."""
        by_id = {one["id"]: one for one in self.experiments}
        variations = {one["id"]: self._variation(one, user) for one in self.experiments}
        return {
            "experiments": {
                one["key"]: variations[one["id"]] and variations[one["id"]]["key"] for one in self.experiments
            },
            "flags": {
                flag["key"]: self._flag(flag, by_id, variations, user)
                for flag in self.datafile["featureFlags"]
            },
        }

    def _flag(
        self, flag: Json, by_id: Mapping[str, Json], variations: Mapping[str, Any], user: Json
    ) -> list[Any]:
        tests = ((variations[one], by_id[one]["key"]) for one in flag["experimentIds"])
        chosen = next((found for found in tests if found[0]), None) or self._rolled_out(flag, user)
        variation, rule_key = chosen or ({"key": None, "featureEnabled": False}, None)
        enabled = variation["featureEnabled"]
        given = {one["id"]: one["value"] for one in variation.get("variables", ())} if enabled else {}
        values = {
            one["key"]: _typed(given.get(one["id"], one["defaultValue"]), one) for one in flag["variables"]
        }
        return [variation["key"], rule_key, enabled, values]

    def _rolled_out(self, flag: Json, user: Json) -> tuple[Json, str] | None:
        rules = self.rollouts[flag["rolloutId"]]["experiments"]
        for number, rule in enumerate(rules):
            if not self._is_meant(rule, user):
                continue
            if found := self._bucketed(rule, user):
                return found, rule["key"]
            if number < len(rules) - 1 and (found := self._bucketed(rules[-1], user)):
                return found, rules[-1]["key"]
            return None
        return None

    def _variation(self, experiment: Json, user: Json) -> Json | None:
        if experiment["status"] != "Running":
            return None
        if forced := experiment["forcedVariations"].get(user["id"]):
            return next(one for one in experiment["variations"] if one["key"] == forced)
        if not self._is_meant(experiment, user):
            return None
        group = self.groups.get(experiment["id"])
        if group and _owner(group, user) != experiment["id"]:
            return None
        return self._bucketed(experiment, user)

    def _bucketed(self, experiment: Json, user: Json) -> Json | None:
        owner = _owner(experiment, user)
        return next((one for one in experiment["variations"] if one["id"] == owner), None)

    def _is_meant(self, experiment: Json, user: Json) -> bool:
        tree, attributes = experiment["audienceConditions"], user["attributes"]
        if not tree:
            return True
        return _evaluated(tree, lambda one: _evaluated(self.audiences[one], _leaf_of(attributes))) is True


def _owner(parent: Json, user: Json) -> str | None:
    bucketing_id = user["attributes"].get("$opt_bucketing_id")
    text = bucketing_id if isinstance(bucketing_id, str) else user["id"]
    bucket = murmur3(text + parent["id"]) * 10_000 // 2**32
    return next((one["entityId"] for one in parent["trafficAllocation"] if bucket < one["endOfRange"]), None)


def _typed(text: str, variable: Json) -> Any:
    kind = variable.get("subType", variable["type"])
    return text if kind == "string" else json.loads(text)


def _evaluated(tree: Any, leaf: Any) -> bool | None:
    """True, False, or None where it is not known."""
    if not isinstance(tree, list):
        result: bool | None = leaf(tree)
        return result
    operator, *operands = tree
    values = [_evaluated(one, leaf) for one in operands]
    if operator == "not":
        return None if values[0] is None else not values[0]
    decisive = operator == "or"
    if decisive in values:
        return decisive
    return None if None in values else not decisive


def _leaf_of(attributes: Json) -> Any:
    return functools.partial(_leaf, attributes)


def _leaf(attributes: Json, leaf: Json) -> bool | None:
    match, name, wanted = leaf.get("match", "exact"), leaf["name"], leaf.get("value")
    given = attributes.get(name)
    if match == "exists":
        return given is not None
    if given is None:
        return None
    if match == "exact":
        return given == wanted if _kind(given) == _kind(wanted) else None
    if match == "substring":
        return wanted in given if isinstance(given, str) else None
    if match.startswith("semver_"):
        order = _compared(given, wanted) if isinstance(given, str) else None
        return None if order is None else _holds(match.removeprefix("semver_"), order)
    if _kind(given) != "number":
        return None
    return _holds(match, (given > wanted) - (given < wanted))


def _holds(match: str, order: int) -> bool:
    return {"eq": order == 0, "gt": order > 0, "ge": order >= 0, "lt": order < 0, "le": order <= 0}[match]


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _compared(given: str, wanted: str) -> int | None:
    """-1, 0 or 1 by the parts that the wanted version has; None for text that is no version."""
    one, other = (re.fullmatch(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", text) for text in (given, wanted))
    if one is None or other is None:
        return None
    for mine, theirs in _parts(one.groups(), other.groups()):
        if mine != theirs:
            return 1 if mine > theirs else -1
    return 0


def _parts(given: tuple[Any, ...], wanted: tuple[Any, ...]) -> Iterator[tuple[int, int]]:
    for mine, theirs in zip(given, wanted, strict=True):
        if theirs is None:
            return
        yield (-1 if mine is None else int(mine)), int(theirs)
