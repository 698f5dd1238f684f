"""A cache of the values of responses: least recently used, bounded in bytes, and bounded in age."""

import math
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from cachetools import LRUCache

from optimizely_api.upstream.caching.generations import Snapshot
from optimizely_api.upstream.calls import Key

# A decoded value takes several bytes of memory for each byte of its JSON text: about four for the services' responses,
# seven for a list of numbers. `tests/upstream/test_cache.py` compares both constants with what Python allocates.
BYTES_PER_BYTE = 8
BYTES_PER_ENTRY = 1500
DENIALS = 4096  # whose times are known; a hash collision only costs one extra call

_ENTITY_TAG = re.compile(r'(?:W/)?"[!#-~]*"')  # RFC 9110 section 8.8.3, ASCII only


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic` measures ages, `wall` finds the period of the clock; both in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass(slots=True)  # not frozen: freezing makes construction slow, and every call constructs one
class SendTime:
    """When a call was sent: by the monotonic clock, by the period of the wall clock, and by the generations."""

    sent: float
    period: int
    snapshot: Snapshot


@dataclass(slots=True)
class Entry:
    """A value, its entity tag ('' for none), and the send time of the call that last confirmed it.

    `size` is the estimated memory of value and key, in bytes. `outage` is why the service did not confirm it when it
    was asked last (`UpstreamError.code`), empty while it answers; `ask_again_at` is when it may be asked again.
    """

    value: Any
    entity_tag: str
    send_time: SendTime
    size: int
    outage: str = ""
    ask_again_at: float = 0.0


class Cache:
    """Values by the keys of their calls, at most `most_bytes` of them.

    A value is fresh for less than `seconds` after its call was sent and, if `period_seconds` is not zero, only within
    the same period of the wall clock. A cache with `most_bytes` of 0 stores nothing.
    """

    def __init__(
        self, *, seconds: float, most_bytes: int, period_seconds: float = 0.0, clock: Clock | None = None
    ) -> None:
        self._seconds = seconds
        self._period_seconds = period_seconds
        self._clock = clock or Clock()
        self._entries: LRUCache[Key, Entry] = LRUCache(most_bytes, getsizeof=attrgetter("size"))
        self._denied_at = [-math.inf] * DENIALS

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> float:
        """The estimated memory of all entries, in bytes."""
        return self._entries.currsize

    def send_time(self, snapshot: Snapshot) -> SendTime:
        """The present, for a call that is about to be sent."""
        return SendTime(self._clock.monotonic(), self._period(), snapshot)

    def get(self, key: Key) -> Entry | None:
        """Return the entry of a key, fresh or not, and mark it as used."""
        return self._entries.get(key)

    def is_fresh(self, entry: Entry) -> bool:
        """Whether the value may be used without a call to the service."""
        send_time = entry.send_time
        return (
            self._clock.monotonic() - send_time.sent < self._seconds
            and send_time.snapshot.is_current
            and (not self._period_seconds or self._period() == send_time.period)
        )

    def put(self, key: Key, value: Any, body: bytes, entity_tag: str, send_time: SendTime) -> None:
        """Store a value, unless it is too large or the entry is of a later call."""
        size = BYTES_PER_ENTRY + BYTES_PER_BYTE * len(body) + sum(len(part) for part in key)
        if not _ENTITY_TAG.fullmatch(entity_tag):
            entity_tag = ""
        self._put(key, Entry(value, entity_tag, send_time, size))

    def confirm(self, key: Key, entry: Entry, send_time: SendTime) -> None:
        """Make an entry fresh again after a 304 to a call sent at `send_time`; its value stays the same object."""
        self._put(key, Entry(entry.value, entry.entity_tag, send_time, entry.size))

    def drop(self, key: Key) -> None:
        """Keep nothing under a key, nor the value of a call that was sent before now and has not ended."""
        self._entries.pop(key, None)
        self._denied_at[_denial_index(key)] = self._clock.monotonic()

    def _put(self, key: Key, entry: Entry) -> None:
        previous = self._entries.get(key)
        send_time = entry.send_time
        if not send_time.snapshot.is_current:
            return  # a write was made while the call was under way: the value may be the old one
        if previous is not None and previous.send_time.sent > send_time.sent:
            return
        if send_time.sent < self._denied_at[_denial_index(key)]:
            return
        # The previous entry goes first: beside it, the new one might evict others for lack of room.
        self._entries.pop(key, None)
        if entry.size <= self._entries.maxsize:
            self._entries[key] = entry

    def _period(self) -> int:
        return int(self._clock.wall() // self._period_seconds) if self._period_seconds else 0


def _denial_index(key: Key) -> int:
    # Not hash(): its seed differs between processes, and a simulation is the same each time.
    return zlib.crc32(key[0].encode()) % DENIALS
