"""Who takes part, as SDKs read it: trees of audience ids, and of conditions about a user's attributes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from optimizely_api.services.experiments import audience_conditions
from optimizely_api.services.experiments.conditions import OPERATORS, InvalidConditions, leaves, read

Json = dict[str, Any]
Tree = list[Any]

LARGEST_NUMBER = 10**300
# SDKs take an empty list for a fault, and `["and"]` for everyone: nobody meets this one.
NOBODY: Tree = ["or"]
# For SDKs that know no types of matches, in place of conditions that they would misread: no user has this attribute.
UNTYPED_NOBODY: Tree = [
    "or",
    {
        "match": "exact",
        "name": "$opt_dummy_attribute",
        "type": "custom_attribute",
        "value": "$opt_dummy_value",
    },
]


def audiences_of(text: str) -> Json:
    """The `audienceIds` and `audienceConditions` of an experiment or a rule with these audience conditions."""
    if audience_conditions.is_everyone(text):
        return {"audienceIds": [], "audienceConditions": []}
    tree = _tree(_parsed(text), lambda leaf: str(leaf["audience_id"]))
    return {"audienceIds": list(dict.fromkeys(_ids(tree))), "audienceConditions": tree}


def audience(audience_id: int, name: str, document: Mapping[str, Any], keys: Mapping[int, str]) -> Json:
    """An entry of `typedAudiences`; `keys` are those of the attributes by id."""
    ids = document.get("attribute_ids", {})
    try:
        tree = read(document["conditions"])
    except InvalidConditions:  # of an earlier release
        tree = []

    def leaf(given: Json) -> Json:
        attribute_key = keys.get(ids.get(given.get("name")), given.get("name"))
        shown = {
            "type": given.get("type"),
            "name": attribute_key,
            "match": given.get("match_type"),
            "value": None if given.get("match_type") == "exists" else _readable(given.get("value")),
        }
        return {member: value for member, value in shown.items() if value is not None}

    return {"id": str(audience_id), "name": name, "conditions": _tree(tree, leaf)}


def untyped(typed: Json) -> Json:
    """The same audience as an entry of `audiences`, which old SDKs read: its conditions are text."""
    simple = all(
        leaf.get("match", "exact") == "exact" and isinstance(leaf.get("value"), str)
        for leaf in leaves(typed["conditions"])
    )
    tree = typed["conditions"] if simple else UNTYPED_NOBODY
    return {**typed, "conditions": json.dumps(tree)}


def _readable(value: Any) -> Any:
    """A value that every JSON reader takes: SDKs know of no halves of surrogate pairs, and of no numbers over 2**53."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return max(-LARGEST_NUMBER, min(value, LARGEST_NUMBER)) if is_integer else value


def _tree(tree: Tree, leaf: Callable[[Json], Any]) -> Tree:
    """The same lists, each with its operator and with operands, around `leaf(...)` of every leaf."""
    operator, operands = (tree[0], tree[1:]) if tree and tree[0] in OPERATORS else ("or", tree)
    if not operands:
        return NOBODY
    return [operator, *(_tree(one, leaf) if isinstance(one, list) else leaf(one) for one in operands)]


def _ids(tree: Tree) -> Iterator[str]:
    for part in tree[1:]:
        if isinstance(part, list):
            yield from _ids(part)
        else:
            yield part


def _parsed(text: str) -> Tree:
    """The lists of checked conditions; those of a form that is refused today mean nobody."""
    parsed: Tree = [] if audience_conditions.problem_of(text) else json.loads(text)
    return parsed
