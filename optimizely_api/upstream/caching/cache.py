"""A bounded shelf of answers: the least recently used go when it is full, and none is trusted for too long."""

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from optimizely_api.upstream.caching.generations import Stamp
from optimizely_api.upstream.calls import Key

# What a value takes in memory for each byte of its JSON text, and an entry beside it. The services' answers take four
# bytes for one, a list of numbers seven; `tests/upstream/test_cache.py` holds both against what Python takes.
BYTES_PER_BYTE = 8
BYTES_PER_ENTRY = 1500

_ENTITY_TAG = re.compile(r'(?:W/)?"[!#-~]*"')  # RFC 9110 section 8.8.3, without the bytes that are no ASCII


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic` is for ages, `wall` for the slots of the clock; both in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass(slots=True)  # not frozen, which would make it slow to make: there is one for each call
class Moment:
    """When a call was sent: `sent` by the monotonic clock, `slot` of the wall clock, and the stamps before it."""

    sent: float
    slot: int
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Kept:
    """A value with its validator, empty when it has none, and the moment of the call that last confirmed it.

    `size` is what it takes, its key included, in bytes.
    """

    value: Any
    entity_tag: str
    moment: Moment
    size: int


class Shelf:
    """Values by the keys of their calls, for at most `largest_bytes`.

    A value is trusted for less than `seconds` from the moment its call was sent, and, when `slot_seconds` is not
    zero, only until the wall clock enters another slot of that length. Nothing is kept with `largest_bytes` of 0.
    """

    def __init__(
        self, *, seconds: float, largest_bytes: int, slot_seconds: float = 0.0, clock: Clock | None = None
    ) -> None:
        self._seconds = seconds
        self._largest_bytes = largest_bytes
        self._slot_seconds = slot_seconds
        self._clock = clock or Clock()
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self.size = 0  # bytes

    def __len__(self) -> int:
        return len(self._kept)

    def moment(self, stamp: Stamp) -> Moment:
        """The present, for a call that is about to be sent."""
        return Moment(self._clock.monotonic(), self._slot(), stamp)

    def find(self, key: Key) -> Kept | None:
        """What is kept, however old: `trusts` says whether it may be used without asking."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def trusts(self, kept: Kept) -> bool:
        moment = kept.moment
        return (
            self._clock.monotonic() - moment.sent < self._seconds
            and moment.stamp.holds
            and (not self._slot_seconds or self._slot() == moment.slot)
        )

    def keep(self, key: Key, value: Any, body: bytes, entity_tag: str, moment: Moment) -> None:
        """Keep a value, unless it is too large, or a later call has brought a newer one already."""
        size = BYTES_PER_ENTRY + BYTES_PER_BYTE * len(body) + sum(len(part) for part in key)
        if not _ENTITY_TAG.fullmatch(entity_tag):
            entity_tag = ""
        self._put(key, Kept(value, entity_tag, moment, size))

    def renew(self, key: Key, kept: Kept, moment: Moment) -> None:
        """The service has confirmed a kept value, for a call sent at `moment`: the very same object stays."""
        self._put(key, Kept(kept.value, kept.entity_tag, moment, kept.size))

    def _put(self, key: Key, kept: Kept) -> None:
        known = self._kept.get(key)
        if not kept.moment.stamp.holds or (known is not None and known.moment.sent > kept.moment.sent):
            return
        if known is not None:
            self.size -= known.size
            del self._kept[key]
        if kept.size > self._largest_bytes:
            return
        self._kept[key] = kept
        self.size += kept.size
        while self.size > self._largest_bytes:
            self.size -= self._kept.popitem(last=False)[1].size

    def _slot(self) -> int:
        return int(self._clock.wall() // self._slot_seconds) if self._slot_seconds else 0
