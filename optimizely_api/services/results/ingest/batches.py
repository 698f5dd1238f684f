"""Reads the events from the request body of `POST /v1/events`; unusable parts are left out and counted.

A body that is not a batch raises MalformedBatch. Inside a batch every visitor, snapshot, decision and event is checked
by itself: an unusable one does not affect the others. `Batch.dropped` counts the parts left out by reason. The limits
below keep the work of storing in proportion to the body; parts beyond them are left out too.
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
from typing import Any, NamedTuple, TypeVar

import orjson

from optimizely_api.services.results.ingest.bots import is_bot, visitors_agent
from optimizely_api.services.results.numbers import (
    MAX_INT64,
    MAX_NUMBER_DIGITS,
    read_revenue,
    read_value,
    typed_text,
)
from optimizely_api.services.results.tables import HOLDBACK

EARLIEST_HAPPENED = 1_262_304_000_000  # 2010-01-01: earlier timestamps are a sender's mistake
MAX_AHEAD = 24 * 3_600_000  # milliseconds; a sender's clock may be ahead of ours by this much
MAX_ATTRIBUTES = 100  # of a visitor entry
MAX_EVENTS = 1_000  # of a visitor entry, over all its snapshots
MAX_BATCH_EVENTS = 20_000  # the largest batch that an SDK writes has some 10,000
MAX_DECISIONS = 100  # of a snapshot
# PostgreSQL's indexes allow entries up to about 2,700 bytes, all columns together.
MAX_TEXT_BYTES = 1000
MAX_NAME_BYTES = 300
MAX_UUID_LENGTH = 100  # a longer text is not a UUID, however many dashes it has
IMPRESSION = "campaign_activated"
BOT_FILTERING, USER_AGENT = "$opt_bot_filtering", "$opt_user_agent"
CUSTOM = "custom"  # the type of attributes that the account has defined

_Amount = TypeVar("_Amount", int, float)

_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)


class MalformedBatch(ValueError):
    """The request body is not a batch; the message says why."""


class _Unusable(ValueError):
    """A part of a batch must be left out; the message is the reason in `Batch.dropped`."""


class Attribute(NamedTuple):
    """An attribute of a visitor entry.

    `kind` is `string`, `number` or `boolean`; `value` is its JSON text, without quotes.
    """

    entity_id: str
    key: str
    kind: str
    value: str

    @property
    def digest(self) -> bytes:
        """Sixteen bytes that identify the attribute."""
        # None of the texts contains U+0000.
        text = "\0".join((self.entity_id, self.key, self.kind, self.value))
        return blake2b(text.encode(), digest_size=16).digest()


class Decision(NamedTuple):
    """The assignment of a visitor to a variation of an experiment."""

    experiment_id: int
    variation_id: int


@dataclass(slots=True)
class Event:
    """One event of a visitor, with the decisions that it reports.

    Two events with equal `uuid`, `entity_id` and `happened` are the same event (see `_uuid`).
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
    attributes: tuple[Attribute, ...]  # all events of a visitor entry share one tuple
    decisions: list[Decision] = field(default_factory=list)
    is_named: bool = False  # whether `entity_id` was found by the key, after the event had been read


@dataclass(frozen=True, slots=True)
class Batch:
    """The usable events of one request, and the number of unusable parts by reason."""

    account_id: str
    project_id: int | None
    events: list[Event]
    dropped: Counter[str]


def parse_batch(body: bytes, now: int | None = None, user_agent: str = "") -> Batch:
    """Read a batch in the SDKs' shape; raises MalformedBatch for another body.

    Events before EARLIEST_HAPPENED or more than MAX_AHEAD after `now` (milliseconds; default: the clock) are left out.
    So are visitor entries with BOT_FILTERING whose user agent is a bot's. The user agent is in the entry; if not, it is
    `user_agent`, the request's.
    """
    document = _load(body)
    if not isinstance(document, dict):
        raise MalformedBatch("the body must be a JSON object")
    account_id = document.get("account_id")
    if isinstance(account_id, int) and not isinstance(account_id, bool):
        account_id = str(account_id) if 0 <= account_id <= MAX_INT64 else None
    if not isinstance(account_id, str) or not _is_key(account_id, MAX_NAME_BYTES):
        raise MalformedBatch("account_id must be the account's id, as text")
    visitors = document.get("visitors")
    if not isinstance(visitors, list):
        raise MalformedBatch("visitors must be an array")
    batch = Batch(account_id, _numeric_id(document.get("project_id")), [], Counter())
    latest = (int(time.time() * 1000) if now is None else now) + MAX_AHEAD
    for visitor in visitors:
        try:
            _read_visitor(visitor, batch, latest, user_agent)
        except _Unusable as exc:
            batch.dropped[str(exc)] += 1
    return batch


def _load(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    # orjson rejects the whole body for a single NaN or half of an emoji. The slower parser accepts both, so that
    # only the visitor with the bad value is left out.
    try:
        return json.loads(body.decode("utf-8-sig"), parse_int=_parse_integer)
    except UnicodeDecodeError as exc:
        raise MalformedBatch("the body is not UTF-8") from exc
    except json.JSONDecodeError as exc:
        raise MalformedBatch(f"the body is not JSON: {exc}") from exc
    except RecursionError as exc:
        raise MalformedBatch("the body is nested too deeply") from exc


def _parse_integer(digits: str) -> float:
    return int(digits) if len(digits) <= MAX_NUMBER_DIGITS else math.nan


def _read_visitor(visitor: Any, batch: Batch, latest: int, user_agent: str) -> None:
    if not isinstance(visitor, dict):
        raise _Unusable("a visitor that is no object")
    visitor_key = visitor.get("visitor_id")
    if not isinstance(visitor_key, str) or not _is_key(visitor_key):
        raise _Unusable("a visitor without a usable visitor_id")
    snapshots = visitor.get("snapshots")
    if not isinstance(snapshots, list):
        raise _Unusable("a visitor without snapshots")
    if _is_bots(visitor.get("attributes"), user_agent):
        raise _Unusable("a visitor entry of a bot")
    attributes = tuple(_attributes(visitor.get("attributes"), batch.dropped))
    room = min(MAX_EVENTS, MAX_BATCH_EVENTS - len(batch.events))

    sender = (batch.account_id, visitor_key)

    def read_event(item: Any) -> Event:
        return _read_event(item, sender, attributes, latest, batch.dropped)

    for snapshot in snapshots:
        try:
            events = _read_snapshot(snapshot, read_event, room, batch.dropped)
        except _Unusable as exc:
            batch.dropped[str(exc)] += 1
        else:
            room -= len(events)
            batch.events.extend(events)


def _is_bots(attributes: Any, user_agent: str) -> bool:
    """Whether a visitor entry with these attributes asks for bot filtering and comes from a bot."""
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
        # Browsers send built-in attributes without a key, by their type: browserId, device, source_type.
        key = item.get("type")
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
        raise _Unusable("a snapshot that is no object")
    items = snapshot.get("events")
    if not isinstance(items, list):
        raise _Unusable("a snapshot without events")
    events = []
    for item in _at_most(items, room, "an event beyond the limit of its visitor entry or batch", dropped):
        try:
            events.append(read_event(item))
        except _Unusable as exc:
            dropped[str(exc)] += 1
    decisions = snapshot.get("decisions") or []
    if not isinstance(decisions, list):
        dropped["decisions that are no array"] += 1
    elif decisions:
        decisions = _at_most(decisions, MAX_DECISIONS, "a decision beyond the limit of its snapshot", dropped)
        _attach_all(decisions, events, dropped)
    return events


def _attach_all(decisions: Iterable[Any], events: list[Event], dropped: Counter[str]) -> None:
    """Attach every decision to an event, whose time it gets: its campaign's impression, or else the first event."""
    ordered = sorted(events, key=lambda event: event.happened)
    impressions = [event for event in ordered if event.is_impression]
    by_campaign = {event.entity_id: event for event in reversed(impressions)}  # the earliest one wins
    for item in decisions:
        if not isinstance(item, dict):
            dropped["a decision that is no object"] += 1
        elif not events:
            dropped["a decision without a usable event to say when"] += 1
        elif (decision := _decision(item)) is not None:
            campaign_id = _numeric_id(item.get("campaign_id"))
            event = (impressions or ordered)[0]
            if campaign_id is not None:
                event = by_campaign.get(campaign_id, event)
            event.decisions.append(decision)


def _decision(item: dict[str, Any]) -> Decision | None:
    """The decision; None if it names no variation. That of a visitor held back from the campaign is HOLDBACK."""
    experiment_id = _numeric_id(item.get("experiment_id"))
    variation_id = _numeric_id(item.get("variation_id"))
    if item.get("is_campaign_holdback") is True:
        variation_id = HOLDBACK
    if experiment_id is None or variation_id is None:
        return None
    return Decision(experiment_id, variation_id)


def _read_event(
    item: Any,
    sender: tuple[str, str],
    attributes: tuple[Attribute, ...],
    latest: int,
    dropped: Counter[str],
) -> Event:
    """Read an event; `sender` is its account and visitor. An unreadable revenue or value does not drop the event."""
    if not isinstance(item, dict):
        raise _Unusable("an event that is no object")
    happened = _integer(item.get("timestamp"))
    if happened is None:
        raise _Unusable("an event without a usable timestamp")
    if not EARLIEST_HAPPENED <= happened <= latest:
        raise _Unusable("an event of the far past or the future")
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
    """The amount called `name`; an unreadable one is counted as left out."""
    value = item.get(name)
    if value is None:
        return None
    amount = read(value)
    if amount is None:
        dropped[f"an unusable {name}"] += 1
    return amount


def _uuid(item: dict[str, Any], entity_id: int | None, sender: tuple[str, str]) -> bytes:
    """Sixteen bytes that distinguish the event from others with its entity and time: its uuid, or else its visitor.

    An entity id that is not numeric is part of the digest. The key is, if there is neither a uuid nor an entity id.
    """
    identity, entity, key = item.get("uuid"), item.get("entity_id"), item.get("key")
    name = entity if entity_id is None and isinstance(entity, str) else ""
    if isinstance(identity, str) and identity:
        return _digest(identity, name) if name else _uuid_bytes(identity)
    if entity_id is None and not name and isinstance(key, str):
        name = key
    return _digest(*sender, name)


def _uuid_bytes(identity: str) -> bytes:
    """The sixteen bytes of a UUID in any spelling; a digest of any other text."""
    digits = identity.replace("-", "") if len(identity) <= MAX_UUID_LENGTH else ""
    if len(digits) == 32:
        try:
            packed = bytes.fromhex(digits)
        except ValueError:
            packed = b""
        if len(packed) == 16:  # shorter if there were spaces, which fromhex skips
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
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_INT64:
        return value
    return None


def _integer(value: Any) -> int | None:
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
    except orjson.JSONEncodeError:  # integers beyond 64 bits, halves of emojis
        return None  # no loss: no result depends on these tags
