"""Segments: which visitors a question is about, as a condition tree and as SQL.

A visitor matches a leaf if any event of the visitor, at any time, carried a matching attribute. Negation
follows the audience conditions of the SDKs: about a visitor whose events never carried the attribute, a
comparison says nothing, and nothing is not a match, negated or not; only `exists` is known for everybody.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Double, and_, case, cast, false, func, literal, or_, select, true

from optimizely_api.services.http.errors import bad_request
from optimizely_api.services.results.numbers import MAX_ID, number_in, typed_text
from optimizely_api.services.results.tables import ASSIGNMENT, ATTRIBUTE, VISITOR_ATTRIBUTE

MAX_CONDITIONS_LENGTH = 8_192
MAX_DEPTH = 10
MAX_LEAVES = 50
MATCHES = ("exact", "exists", "substring", "prefix", "gt", "ge", "lt", "le")

# The segments that have a parameter of their own, and the attribute keys (or types) that senders use for them.
NAMED_SEGMENTS = {
    "browser": ("browser", "browserId"),
    "device": ("device",),
    "source": ("source_type", "source"),
}
BROWSER_IDS = {"chrome": "gc", "firefox": "ff", "internet_explorer": "ie"}  # what browsers send for these

_BASE64 = re.compile(r"[0-9A-Za-z_-]+={0,2}")


@dataclass(frozen=True)
class Leaf:
    """A test of one attribute: by its id, or by any of its `keys`.

    `kind` is the JSON type that the value must have, None for any. With `folded` the value must be one of these,
    whatever the case of its letters.
    """

    attribute_id: str | None
    keys: tuple[str, ...]
    match: str
    kind: str | None = None
    text: str = ""
    folded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """`and`, `or` or `not` (of exactly one) over conditions."""

    operator: Literal["and", "or", "not"]
    operands: tuple[Condition, ...]


Condition = Leaf | Group


def read_segment(segment: Any) -> Condition | None:
    """The condition that the `segment` object of a question states; None for all visitors.

    Raises a ServiceError (400) that names what is wrong.
    """
    if segment is None:
        return None
    if not isinstance(segment, dict):
        raise bad_request("segment must be an object")
    given = {name: value for name, value in segment.items() if value not in (None, "")}
    conditions = [
        Leaf(None, keys, "exact", folded=_spellings(_text(given, name)))
        for name, keys in NAMED_SEGMENTS.items()
        if name in given
    ]
    if (leaf := _read_attribute(given)) is not None:
        conditions.append(leaf)
    whole: tuple[Condition, ...] = tuple(conditions)
    if "segment_conditions" in given:
        whole = (*whole, _read_conditions(_text(given, "segment_conditions")))
    if not whole:
        return None
    return whole[0] if len(whole) == 1 else Group("and", whole)


def _spellings(text: str) -> tuple[str, ...]:
    folded = text.casefold()
    return (folded, BROWSER_IDS[folded]) if folded in BROWSER_IDS else (folded,)


def _text(segment: dict[str, Any], name: str) -> str:
    value = segment[name]
    if not isinstance(value, str):
        raise bad_request(f"segment.{name} must be text")
    return value


def _read_attribute(given: dict[str, Any]) -> Leaf | None:
    if "attribute_id" not in given:
        if "attribute_value" in given:
            raise bad_request("segment.attribute_value needs segment.attribute_id")
        return None
    attribute_id = _attribute_id(given["attribute_id"], "segment.attribute_id")
    if "attribute_value" not in given:
        return Leaf(attribute_id, (), "exists")
    return Leaf(attribute_id, (), "exact", None, _text(given, "attribute_value"))


def _attribute_id(value: Any, name: str) -> str:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_ID:
        raise bad_request(f"{name} must be an attribute's id")
    return str(value)


def _read_conditions(text: str) -> Condition:
    """The conditions in JSON, or in URL-safe Base64 of JSON with or without its padding (RFC 4648 section 5)."""
    encoded = len(text) <= MAX_CONDITIONS_LENGTH * 4 // 3 + 4 and _BASE64.fullmatch(text)
    if encoded:
        text = _decoded(text.rstrip("="))
    if len(text) > MAX_CONDITIONS_LENGTH:
        raise bad_request(f"segment_conditions is longer than {MAX_CONDITIONS_LENGTH} characters")
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise bad_request(f"segment_conditions is not JSON: {exc}") from exc
    except RecursionError as exc:
        raise bad_request("segment_conditions is nested too deeply") from exc
    condition = _read_condition(document, 1)
    if (leaves := _count_leaves(condition)) > MAX_LEAVES:
        raise bad_request(f"segment_conditions has {leaves} conditions, more than {MAX_LEAVES}")
    return condition


def _decoded(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise bad_request("segment_conditions is neither JSON nor URL-safe Base64 of JSON") from exc


def _count_leaves(condition: Condition) -> int:
    return sum(map(_count_leaves, condition.operands)) if isinstance(condition, Group) else 1


def _read_condition(value: Any, depth: int) -> Condition:
    if depth > MAX_DEPTH:
        raise bad_request(f"segment_conditions is nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        return _read_leaf(value)
    if not isinstance(value, list) or not value:
        raise bad_request('segment_conditions must be objects and arrays such as ["and", ...]')
    operands = value[1:] if isinstance(value[0], str) else value
    operator = _read_operator(value[0]) if isinstance(value[0], str) else "or"
    if not operands or (operator == "not" and len(operands) != 1):
        raise bad_request(f"segment_conditions: {operator!r} has {len(operands)} operands")
    return Group(operator, tuple(_read_condition(operand, depth + 1) for operand in operands))


def _read_operator(value: str) -> Literal["and", "or", "not"]:
    match value:
        case "and" | "or" | "not":
            return value
    raise bad_request(f"segment_conditions: unknown operator {value[:40]!r}; use and, or, not")


def _read_leaf(value: dict[str, Any]) -> Leaf:
    match = value.get("match_type", value.get("match")) or "exact"
    if match == "regex":  # neither database matches patterns in linear time
        raise bad_request(
            "segment_conditions: match_type regex is not offered; use exact, substring or prefix"
        )
    if match not in MATCHES:
        raise bad_request(f"segment_conditions: match_type must be one of {', '.join(MATCHES)}")
    attribute_id, keys = _read_subject(value)
    if match == "exists":
        return Leaf(attribute_id, keys, match)
    kind, text = _read_value(value)
    wanted = {"exact": kind, "substring": "string", "prefix": "string"}.get(match, "number")
    if kind != wanted:
        raise bad_request(f"segment_conditions: {match} compares with a {wanted}")
    if match == "exact" and kind == "string" and "attribute_value" in value:
        return Leaf(attribute_id, keys, match, None, text)
    return Leaf(attribute_id, keys, match, kind, text)


def _read_value(leaf: dict[str, Any]) -> tuple[str, str]:
    """The JSON type and the text of `value`, or of `attribute_value`, whose text equals values of any type."""
    names = [name for name in ("attribute_value", "value") if name in leaf] or ["value"]
    if len(names) > 1:
        raise bad_request("segment_conditions: a condition has a value or an attribute_value, not both")
    typed = typed_text(leaf.get(names[0]))
    if typed is None or not _is_storable(typed[1]):
        raise bad_request(f"segment_conditions: {names[0]} must be text, a number or a truth value")
    return typed


def _read_subject(value: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    if value.get("attribute_id") is not None:
        return _attribute_id(value["attribute_id"], "segment_conditions: attribute_id"), ()
    name = value.get("name")
    if not isinstance(name, str) or not name or not _is_storable(name):
        raise bad_request("segment_conditions: every condition names an attribute_id or a name")
    return None, (name,)


def _is_storable(text: str) -> bool:
    """Whether it can be sent to a database: no U+0000, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def matching_visitors(condition: Condition, *, is_sqlite: bool) -> ColumnElement[bool]:
    """The condition as SQL about ASSIGNMENT's visitor."""
    return _Translation(is_sqlite).both(condition)[0]


class _Translation:
    """Conditions as pairs of SQL: when they are true, and when they are known to be false."""

    def __init__(self, is_sqlite: bool) -> None:
        self.is_sqlite = is_sqlite

    def both(self, condition: Condition) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        if isinstance(condition, Leaf):
            carried = _carries(self._names(condition))
            if condition.match == "exists":
                return carried, ~carried
            matched = _carries(self._names(condition) & self._compares(condition))
            return matched, carried & ~matched
        pairs = [self.both(operand) for operand in condition.operands]
        is_true, is_false = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        match condition.operator:
            case "and":
                return and_(true(), *is_true), or_(false(), *is_false)
            case "or":
                return or_(false(), *is_true), and_(true(), *is_false)
        return is_false[0], is_true[0]

    def _names(self, leaf: Leaf) -> ColumnElement[bool]:
        if leaf.attribute_id is not None:
            return ATTRIBUTE.c.entity_id == leaf.attribute_id
        return ATTRIBUTE.c.key.in_(leaf.keys)

    def _compares(self, leaf: Leaf) -> ColumnElement[bool]:
        c = ATTRIBUTE.c
        if leaf.match == "exact":
            if leaf.folded:
                return c.folded.in_(leaf.folded)
            if leaf.kind is None:
                return _equals_any_kind(leaf.text)
            return and_(c.kind == leaf.kind, c.value == leaf.text)
        if leaf.match == "prefix":
            return and_(c.kind == "string", func.substr(c.value, 1, len(leaf.text)) == leaf.text)
        if leaf.match == "substring":
            # Not LIKE: SQLite's ignores the case of letters.
            position = func.instr if self.is_sqlite else func.strpos
            return and_(c.kind == "string", position(c.value, leaf.text) > 0)
        # CASE, because a database may otherwise try to read every text as a number.
        number = case((c.kind == "number", cast(c.value, Double)))
        bound = literal(float(leaf.text), Double)
        return {"gt": number > bound, "ge": number >= bound, "lt": number < bound, "le": number <= bound}[
            leaf.match
        ]


def _equals_any_kind(text: str) -> ColumnElement[bool]:
    """A value given as text matches what prints alike, and numbers of the same size (10.0 and 10)."""
    equal: ColumnElement[bool] = ATTRIBUTE.c.value == text
    typed = typed_text(number_in(text))
    if typed is None:
        return equal
    return or_(equal, and_(ATTRIBUTE.c.kind == typed[0], ATTRIBUTE.c.value == typed[1]))


def _carries(attribute: ColumnElement[bool]) -> ColumnElement[bool]:
    attributes = select(ATTRIBUTE.c.id).where(attribute)
    visitors = select(VISITOR_ATTRIBUTE.c.visitor_id).where(VISITOR_ATTRIBUTE.c.attribute_id.in_(attributes))
    return ASSIGNMENT.c.visitor_id.in_(visitors)
