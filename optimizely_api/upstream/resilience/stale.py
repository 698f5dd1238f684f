"""Stale if error (RFC 5861 section 4): what was kept stands for a value whose service does not answer.

- Kept values go on serving for `seconds` after the call that last confirmed them, by the kind of what is kept
  (`Call.cached_as`). An outage is what `UpstreamError.is_outage` says: a 5XX, a time-out, no connection, a response
  that is not as agreed.
- A 401, 403, 404 or 410 is an answer: it drops what is kept in its worker (`CachingClient.drop`), and what was asked
  for before it is not kept after it. Other workers drop theirs when they ask.
- A time-out that a caller's own deadline brings about makes nothing stale for others (`CallContext.shows_outage`).
- A value from before a write through this gateway never serves, and no write is prepared with one
  (`CallContext.takes_stale`).
- While a service is out, one call a second asks for a key; the others get what is kept at once. What nobody has asked
  for lately is no longer known to be out: all ask then.
- Kept values lie in the caches, within their bounds of memory: the least recently used are not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimizely_api.upstream.caching.cache import Clock, Entry
from optimizely_api.upstream.calls import Call

ASK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class KeptUse:
    """A use of a kept value: the call that it stands for, its age, and the code of the failure (`UpstreamError.code`).

    `was_asked`: whether the service was asked for this very request, and not a moment before.
    """

    call: Call
    age_seconds: float
    reason: str
    was_asked: bool


class StaleIfError:
    """Which kept values may stand for the values of calls that failed."""

    def __init__(self, seconds: Mapping[str, float], clock: Clock) -> None:
        """`seconds` is {kind of what is kept: how long it serves}; of a kind that is not named nothing does."""
        self._seconds = seconds
        self._clock = clock

    def may_serve(self, call: Call, entry: Entry) -> bool:
        """Whether an entry may stand for the value of its call, if the service does not answer."""
        send_time = entry.send_time
        age = self._clock.monotonic() - send_time.sent
        return age < self._seconds.get(call.cached_as, 0.0) and send_time.snapshot.is_current

    def ask_first(self, entry: Entry) -> bool:
        """Whether the service is to be asked now; after an outage only the first who asks in a second is told so."""
        if not entry.outage:
            return True
        now = self._clock.monotonic()
        if now < entry.ask_again_at:
            return False
        if now >= entry.ask_again_at + ASK_AGAIN_SECONDS:
            # Nobody has asked for so long that the service may have returned: all ask, together.
            entry.outage = ""
        entry.ask_again_at = now + ASK_AGAIN_SECONDS
        return True

    def note_outage(self, entry: Entry, reason: str) -> None:
        """Remember that the service did not answer; a later answer makes a new entry, without an outage."""
        if not entry.outage:
            entry.ask_again_at = self._clock.monotonic() + ASK_AGAIN_SECONDS
        entry.outage = reason

    def use(self, call: Call, entry: Entry, reason: str, *, was_asked: bool) -> tuple[Any, KeptUse]:
        """Return the kept value, with the mark that its contract has for it, and what is to be said of it."""
        age = self._clock.monotonic() - entry.send_time.sent
        value = {**entry.value, "is_stale": True} if call.cached_as == "results" else entry.value
        return value, KeptUse(call, age, reason, was_asked)
