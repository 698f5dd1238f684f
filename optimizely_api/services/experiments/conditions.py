"""Conditions as texts of JSON: lists that begin with `and`, `or` or `not`, around leaves.

Audiences have leaves about visitors, such as `{"type": "custom_attribute", "name": "plan", "value": "gold"}`;
experiments have leaves about audiences, `{"audience_id": 12}`. The lists are kept as they were sent, for clients
look for leaves at the places where they put them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

Leaf = dict[str, Any]

OPERATORS = ("and", "or", "not")
WEB = "web"
MAX_LEVELS = 20
MAX_LEAVES = 10_000

_NUMERIC = ("gt", "ge", "lt", "le")
_TEXTUAL = ("substring", "semver_eq", "semver_ge", "semver_gt", "semver_le", "semver_lt")
_OF_ATTRIBUTES = ("exact", "exists", *_NUMERIC, *_TEXTUAL)
_OF_TEXTS = ("exact", "substring", "regex", "exists")
# What `match_type` may be; a type that is not here takes any, and no visitor is known to match it.
MATCH_TYPES = {
    "custom_attribute": _OF_ATTRIBUTES,
    "custom_dimension": _OF_ATTRIBUTES,
    "third_party_dimension": (*_OF_ATTRIBUTES, "qualified"),
    "ip": ("exact", "prefix", "cidr", "regex"),
    "referrer": ("simple", "exact", "substring", "regex"),
    "campaign": _OF_TEXTS,
    "query": _OF_TEXTS,
    "cookies": _OF_TEXTS,
    "custom_tag": _OF_TEXTS,
}
NAMED = (
    "custom_attribute",
    "custom_dimension",
    "third_party_dimension",
    "query",
    "cookies",
    "custom_tag",
    "event",
)


class InvalidConditions(ValueError):
    """A text that is not conditions; the message says what it must be."""


def read(text: str) -> list[Any]:
    """The lists and leaves of a text; raises InvalidConditions."""
    try:
        tree = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InvalidConditions("must be the text of a JSON list") from None
    if not isinstance(tree, list):
        raise InvalidConditions("must be the text of a JSON list")
    _check_list(tree, 1)
    if sum(1 for _ in leaves(tree)) > MAX_LEAVES:
        raise InvalidConditions(f"must not have more than {MAX_LEAVES} conditions")
    return tree


def write(tree: list[Any]) -> str:
    """The text of conditions as every response has it: sorted, in ASCII; raises InvalidConditions."""
    try:
        return json.dumps(tree, sort_keys=True, allow_nan=False)
    except (ValueError, RecursionError):
        raise InvalidConditions("has a number or a value that JSON cannot hold") from None


def leaves(tree: list[Any]) -> Iterator[Leaf]:
    """All leaves, in the order of the text."""
    for part in tree:
        if isinstance(part, list):
            yield from leaves(part)
        elif isinstance(part, dict):
            yield part


def replaced(tree: list[Any], change: Callable[[Leaf], Leaf]) -> list[Any]:
    """The same lists, with `change(leaf)` for every leaf."""
    return [
        replaced(part, change) if isinstance(part, list) else change(part) if isinstance(part, dict) else part
        for part in tree
    ]


def problem_of(leaf: Leaf, platform: str = WEB) -> str | None:
    """What is wrong with a condition about visitors, by itself; None when nothing is.

    SDKs, which all other platforms have, know nothing of a visitor but the attributes that they are given.
    """
    kind = leaf.get("type")
    if not isinstance(kind, str) or not kind:
        return "has a condition without a type"
    if platform != WEB and kind != "custom_attribute":
        return (
            f"has a condition that is no custom_attribute, as all must be in a project of platform {platform}"
        )
    name = leaf.get("name")
    if name is not None and not isinstance(name, str):
        return f"has a {kind} condition whose name is no text"
    if kind in NAMED and not name:
        return f"has a {kind} condition without a name"
    return _problem_of_match(kind, leaf, default=None if platform == WEB else "exact")


def _problem_of_match(kind: str, leaf: Leaf, default: str | None) -> str | None:
    match_type, value = leaf.get("match_type", default), leaf.get("value")
    known = MATCH_TYPES.get(kind)
    if match_type is None or known is None:
        return None
    if match_type not in known:
        return f"has a {kind} condition whose match_type is none of {', '.join(known)}"
    if match_type in _NUMERIC and (isinstance(value, bool) or not isinstance(value, int | float)):
        return f"has a condition with match_type {match_type} whose value is no number"
    if match_type in _TEXTUAL and not isinstance(value, str):
        return f"has a condition with match_type {match_type} whose value is no text"
    if match_type == "exact" and not isinstance(value, str | int | float):
        return "has a condition with match_type exact whose value is no text, number or boolean"
    return None


def _check_list(tree: list[Any], level: int) -> None:
    if level > MAX_LEVELS:
        raise InvalidConditions(f"must not be deeper than {MAX_LEVELS} lists")
    operator, operands = (tree[0], tree[1:]) if tree and isinstance(tree[0], str) else (None, tree)
    if operator is not None and operator not in OPERATORS:
        raise InvalidConditions("must have lists that begin with and, or or not")
    if operator == "not" and len(operands) != 1:
        raise InvalidConditions("must have exactly one condition or list after not")
    for part in operands:
        if isinstance(part, list):
            _check_list(part, level + 1)
        elif not isinstance(part, dict):
            raise InvalidConditions("must have only conditions and lists after and, or and not")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
