"""Which outcomes of a call are worth sending it once more, and after which pause."""

import random
import re

import aiohttp

from optimizely_api.upstream.transport.connection import (
    ClosedBeforeResponse,
    IdleConnectionClosed,
    ServiceResponse,
)
from optimizely_api.upstream.transport.connector import NOT_OF_THE_ADDRESS, TOO_MANY_FILES

# "Full jitter": the callers of a service that failed for a moment do not all come back at the same time.
SHORTEST_PAUSE_SECONDS = 0.010
LONGEST_PAUSE_SECONDS = 0.050
SPENT_SECONDS = 0.010  # so little that another attempt would come to nothing

_SECONDS = re.compile("[0-9]{1,9}")  # nobody waits for more, and int and float have their limits


def pause_after_error(error: BaseException, chance: random.Random, *, may_repeat: bool) -> float | None:
    """The seconds to wait before the call is sent again; None if it should not be.

    A refused connection carried nothing, so any call may follow. Where a connection closed without a byte of a
    response, the service may have carried the call out: only a call with `may_repeat` is sent again (RFC 9110
    section 9.2.2).
    """
    if isinstance(error, IdleConnectionClosed):
        # No sign of trouble: a service may close an idle connection at the very moment it is used again.
        return 0.0 if may_repeat else None
    if isinstance(error, aiohttp.ClientConnectorError):
        is_worth_it = not isinstance(error, NOT_OF_THE_ADDRESS) and error.errno not in TOO_MANY_FILES
    else:
        is_worth_it = isinstance(error, ClosedBeforeResponse) and may_repeat
    return _jitter(chance) if is_worth_it else None


def pause_after_response(
    response: ServiceResponse, seconds_left: float, chance: random.Random, *, may_repeat: bool
) -> float | None:
    """As `pause_after_error`, of a 503 that says in `Retry-After` when to return, and of a 504 before its time.

    A service answers 504 when the time is spent that it was told. Whoever joined the call since may wait longer.
    """
    status, _, headers = response
    if not may_repeat:
        return None
    if status == 504:
        return 0.0 if seconds_left > SPENT_SECONDS else None
    after = headers.get("Retry-After", "")
    return int(after) + _jitter(chance) if status == 503 and _SECONDS.fullmatch(after) else None


def _jitter(chance: random.Random) -> float:
    return chance.uniform(SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
