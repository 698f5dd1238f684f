"""From the body of `POST /v1/events` to the events in it: what can be used is used, the rest is counted.

A body that is no batch at all is a MalformedBatchError. Inside a batch every visitor, snapshot, decision
and event is judged by itself: `Batch.dropped` says how many were left out and why. The limits below keep the
work of storing in proportion to the body; what is over them is left out too.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar

import orjson

from optimizely_api.services.results.ingest.bots import is_bot, visitors_agent
from optimizely_api.services.results.numbers import (
    MAX_ID,
    MAX_NUMBER_DIGITS,
    read_revenue,
    read_value,
    typed_text,
)

EARLIEST_HAPPENED = 1_262_304_000_000  # 2010-01-01: earlier timestamps are a sender's mistake
MAX_AHEAD = 24 * 3_600_000  # milliseconds that a sender's clock may be ahead of ours
MAX_ATTRIBUTES = 100  # of a visitor entry
MAX_EVENTS = 1_000  # of a visitor entry, over all its snapshots
MAX_BATCH_EVENTS = 20_000  # as the SDKs write them, a batch of the largest size has some 10,000
MAX_DECISIONS = 100  # of a snapshot
# PostgreSQL's indexes refuse entries of more than about 2,700 bytes, all columns together.
MAX_TEXT_BYTES = 1000
MAX_NAME_BYTES = 300
MAX_UUID_LENGTH = 100  # a longer text is none, however many dashes it has
IMPRESSION = "campaign_activated"
BOT_FILTERING, USER_AGENT = "$opt_bot_filtering", "$opt_user_agent"
CUSTOM = "custom"  # the type of attributes that the account has defined

_Amount = TypeVar("_Amount", int, float)

_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)


class MalformedBatchError(ValueError):
    """The body is no batch; the message says why."""


class _UnusableError(ValueError):
    """A part of a batch that has to be left out; the message is the reason counted."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute as a visitor entry carried it.

    `kind` is `string`, `number` or `boolean`; `value` is its JSON text, without quotes.
    """

    entity_id: str
    key: str
    kind: str
    value: str

    @property
    def digest(self) -> bytes:
        """Sixteen bytes that no other attribute has."""
        # None of the texts can hold U+0000.
        text = "\0".join((self.entity_id, self.key, self.kind, self.value))
        return blake2b(text.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Decision:
    """A visitor has been put into a variation of an experiment."""

    experiment_id: int
    variation_id: int


@dataclass(slots=True)
class Event:
    """One event of a visitor, with the decisions that it reports.

    Two events are the same if `uuid`, `entity_id` and `happened` are (see `_uuid`).
    """

    uuid: bytes
    visitor_key: str
    happened: int
    is_impression: bool
    entity_id: int | None
    key: str | None
    revenue: int | None
    value: float | None
    tags: str | None
    attributes: tuple[Attribute, ...]  # one object for all events of a visitor entry
    decisions: list[Decision] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """The usable events of one request, and how many parts were unusable for which reason."""

    account_id: str
    project_id: int | None
    events: list[Event]
    dropped: Counter[str]


def parse_batch(body: bytes, now: int | None = None, user_agent: str = "") -> Batch:
    """Read a batch in the shape the SDKs send; raises MalformedBatchError when it is none.

    Events before EARLIEST_HAPPENED or more than MAX_AHEAD after `now` (milliseconds; default: the clock) are
    left out. So are visitor entries with BOT_FILTERING whose user agent is a bot's: that of the entry, or
    `user_agent`, that of the request.
    """
    document = _load(body)
    if not isinstance(document, dict):
        raise MalformedBatchError("the body must be a JSON object")
    account_id = document.get("account_id")
    if isinstance(account_id, int) and not isinstance(account_id, bool):
        account_id = str(account_id) if 0 <= account_id <= MAX_ID else None
    if not isinstance(account_id, str) or not _is_key(account_id, MAX_NAME_BYTES):
        raise MalformedBatchError("account_id must be the account's id, as text")
    visitors = document.get("visitors")
    if not isinstance(visitors, list):
        raise MalformedBatchError("visitors must be an array")
    batch = Batch(account_id, _numeric_id(document.get("project_id")), [], Counter())
    latest = (int(time.time() * 1000) if now is None else now) + MAX_AHEAD
    for visitor in visitors:
        try:
            _read_visitor(visitor, batch, latest, user_agent)
        except _UnusableError as exc:
            batch.dropped[str(exc)] += 1
    return batch


def _load(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    # orjson refuses the whole text for one NaN or one halved emoji in it: the slower parser leaves these in
    # place, so that they only cost the visitor they belong to.
    try:
        return json.loads(body.decode("utf-8-sig"), parse_int=_parse_integer)
    except UnicodeDecodeError as exc:
        raise MalformedBatchError("the body is not UTF-8") from exc
    except json.JSONDecodeError as exc:
        raise MalformedBatchError(f"the body is not JSON: {exc}") from exc
    except RecursionError as exc:
        raise MalformedBatchError("the body is nested too deeply") from exc


def _parse_integer(digits: str) -> float:
    return int(digits) if len(digits) <= MAX_NUMBER_DIGITS else math.nan


def _read_visitor(visitor: Any, batch: Batch, latest: int, user_agent: str) -> None:
    if not isinstance(visitor, dict):
        raise _UnusableError("a visitor that is no object")
    visitor_key = visitor.get("visitor_id")
    if not isinstance(visitor_key, str) or not _is_key(visitor_key):
        raise _UnusableError("a visitor without a usable visitor_id")
    snapshots = visitor.get("snapshots")
    if not isinstance(snapshots, list):
        raise _UnusableError("a visitor without snapshots")
    if _is_bots(visitor.get("attributes"), user_agent):
        raise _UnusableError("a visitor entry of a bot")
    attributes = tuple(_attributes(visitor.get("attributes"), batch.dropped))
    room = min(MAX_EVENTS, MAX_BATCH_EVENTS - len(batch.events))

    sender = (batch.account_id, visitor_key)

    def read_event(item: Any) -> Event:
        return _read_event(item, sender, attributes, latest, batch.dropped)

    for snapshot in snapshots:
        try:
            events = _read_snapshot(snapshot, read_event, room, batch.dropped)
        except _UnusableError as exc:
            batch.dropped[str(exc)] += 1
        else:
            room -= len(events)
            batch.events.extend(events)


def _is_bots(attributes: Any, user_agent: str) -> bool:
    """Whether a visitor entry of these attributes wants bots to be left out, and is one's."""
    values = {}
    for item in attributes[:MAX_ATTRIBUTES] if isinstance(attributes, list) else ():
        if isinstance(item, dict):
            for name in (item.get("key"), item.get("entity_id")):
                if name in (BOT_FILTERING, USER_AGENT):
                    values[name] = item.get("value")
    return values.get(BOT_FILTERING) is True and is_bot(visitors_agent(values.get(USER_AGENT), user_agent))


def _at_most(items: Any, limit: int, reason: str, dropped: Counter[str]) -> Any:
    """The first `limit` of the items; the others are counted."""
    if len(items) <= limit:
        return items
    dropped[reason] += len(items) - limit
    return items[:limit]


def _attributes(value: Any, dropped: Counter[str]) -> Iterable[Attribute]:
    if value is None:
        return
    if not isinstance(value, list):
        dropped["attributes that are no array"] += 1
        return
    for item in _at_most(value, MAX_ATTRIBUTES, "an attribute beyond the limit of its entry", dropped):
        attribute = _attribute(item) if isinstance(item, dict) else None
        if attribute is None:
            dropped["an unusable attribute"] += 1
        else:
            yield attribute


def _attribute(item: dict[str, Any]) -> Attribute | None:
    value = item.get("value")
    key, entity_id = item.get("key"), item.get("entity_id")
    if isinstance(entity_id, int) and not isinstance(entity_id, bool):
        entity_id = str(_numeric_id(entity_id) or "")
    if not key and item.get("type") != CUSTOM:
        key = item.get(
            "type"
        )  # browsers send what they find out themselves so: browserId, device, source_type
    names = [name if isinstance(name, str) else "" for name in (entity_id, key)]
    if not any(names) or not all(_is_text(name, MAX_NAME_BYTES) for name in names):
        return None
    typed = typed_text(value)
    if typed is None or not _is_text(typed[1]):
        return None
    return Attribute(names[0], names[1], *typed)


def _read_snapshot(
    snapshot: Any, read_event: Callable[[Any], Event], room: int, dropped: Counter[str]
) -> list[Event]:
    if not isinstance(snapshot, dict):
        raise _UnusableError("a snapshot that is no object")
    items = snapshot.get("events")
    if not isinstance(items, list):
        raise _UnusableError("a snapshot without events")
    events = []
    for item in _at_most(items, room, "an event beyond the limit of its visitor entry or batch", dropped):
        try:
            events.append(read_event(item))
        except _UnusableError as exc:
            dropped[str(exc)] += 1
    decisions = snapshot.get("decisions") or ()
    if isinstance(decisions, list | tuple):
        decisions = _at_most(decisions, MAX_DECISIONS, "a decision beyond the limit of its snapshot", dropped)
        _attach_all(decisions, events, dropped)
    else:
        dropped["decisions that are no array"] += 1
    return events


def _attach_all(decisions: Iterable[Any], events: list[Event], dropped: Counter[str]) -> None:
    """Hand every decision to the event that reports it: its campaign's impression, or else the first."""
    ordered = sorted(events, key=lambda event: event.happened)
    impressions = [event for event in ordered if event.is_impression]
    by_campaign = {event.entity_id: event for event in reversed(impressions)}  # the earliest stays
    for item in decisions:
        if not isinstance(item, dict):
            dropped["a decision that is no object"] += 1
        elif not events:
            dropped["a decision without a usable event to say when"] += 1
        elif (decision := _decision(item)) is not None:
            campaign_id = _numeric_id(item.get("campaign_id"))
            carrier = (impressions or ordered)[0]
            if campaign_id is not None:
                carrier = by_campaign.get(campaign_id, carrier)
            carrier.decisions.append(decision)


def _decision(item: dict[str, Any]) -> Decision | None:
    """None for decisions for no variation: they concern no experiment."""
    experiment_id = _numeric_id(item.get("experiment_id"))
    variation_id = _numeric_id(item.get("variation_id"))
    if experiment_id is None or variation_id is None or item.get("is_campaign_holdback") is True:
        return None
    return Decision(experiment_id, variation_id)


def _read_event(
    item: Any,
    sender: tuple[str, str],
    attributes: tuple[Attribute, ...],
    latest: int,
    dropped: Counter[str],
) -> Event:
    """`sender` is the account and the visitor; a revenue or value that cannot be read does not cost the event."""
    if not isinstance(item, dict):
        raise _UnusableError("an event that is no object")
    happened = _whole(item.get("timestamp"))
    if happened is None:
        raise _UnusableError("an event without a usable timestamp")
    if not EARLIEST_HAPPENED <= happened <= latest:
        raise _UnusableError("an event of the far past or the future")
    key, kind = item.get("key"), item.get("type")
    entity_id = _numeric_id(item.get("entity_id"))
    return Event(
        uuid=_uuid(item, entity_id, sender),
        visitor_key=sender[1],
        happened=happened,
        is_impression=IMPRESSION in (key, kind),
        entity_id=entity_id,
        key=key if _is_key(key) else None,
        revenue=_counted(read_revenue, item, "revenue", dropped),
        value=_counted(read_value, item, "value", dropped),
        tags=_tags(item.get("tags")),
        attributes=attributes,
    )


def _counted(
    read: Callable[[Any], _Amount | None], item: dict[str, Any], name: str, dropped: Counter[str]
) -> _Amount | None:
    """The amount called `name`; one that is there and cannot be read is counted as left out."""
    given = item.get(name)
    amount = read(given)
    if amount is None and given is not None:
        dropped[f"an unusable {name}"] += 1
    return amount


def _uuid(item: dict[str, Any], entity_id: int | None, sender: tuple[str, str]) -> bytes:
    """What distinguishes the event from others of its entity and time: the uuid, or else the visitor.

    An entity of no numeric id takes part by name; where there is neither a uuid nor an entity, the key does.
    """
    identity, entity, key = item.get("uuid"), item.get("entity_id"), item.get("key")
    name = entity if entity_id is None and isinstance(entity, str) else ""
    if isinstance(identity, str) and identity:
        return _digest(identity, name) if name else _uuid_bytes(identity)
    if entity_id is None and not name and isinstance(key, str):
        name = key
    return _digest(*sender, name)


def _uuid_bytes(identity: str) -> bytes:
    """The sixteen bytes of a UUID however it is spelled; a digest of any other text."""
    digits = identity.replace("-", "") if len(identity) <= MAX_UUID_LENGTH else ""
    if len(digits) == 32:
        try:
            packed = bytes.fromhex(digits)
        except ValueError:
            packed = b""
        if len(packed) == 16:  # fromhex skips blanks
            return packed
    return _digest(identity)


def _digest(*texts: str) -> bytes:
    return blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _is_text(value: Any, limit: int = MAX_TEXT_BYTES) -> bool:
    """Whether both databases can store and index the text."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        return len(value.encode()) <= limit
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _is_key(value: Any, limit: int = MAX_TEXT_BYTES) -> bool:
    return bool(value) and _is_text(value, limit)


def _numeric_id(value: Any) -> int | None:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_ID:
        return value
    return None


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _tags(tags: Any) -> str | None:
    if not isinstance(tags, dict):
        return None
    others = {name: value for name, value in tags.items() if name not in ("revenue", "value")}
    if not others:
        return None
    try:
        return orjson.dumps(others).decode()
    except orjson.JSONEncodeError:  # integers beyond 64 bits, halved emojis: tags take no part in any result
        return None
