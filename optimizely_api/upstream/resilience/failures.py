"""Which ends of an attempt count as failures of its service, for the throttle.

A connection that is refused or breaks off, a 502 or 503, and no response within the service's whole time limit, which
is what its own 504 says too. A service that is slow and responds is none that fails, however long it takes; and a
caller who waits for less than the time limit learns nothing about the service by giving up.
"""

import asyncio
from typing import Protocol

import aiohttp

from optimizely_api.upstream.resilience.refusals import NotSent
from optimizely_api.upstream.transport.connection import IdleConnectionClosed
from optimizely_api.upstream.transport.connector import TOO_MANY_FILES

# Statuses of a service that does not work, or works on, but not now. No service answers 502: it is a proxy's.
FAILING = frozenset({502, 503, 504})
TOLERANCE_SECONDS = 0.010  # timers may fire early, and services are told two milliseconds less than there is


class Attempted(Protocol):
    """A call with an attempt that has ended; `seconds_told` is how long its service was told that somebody waits."""

    seconds_told: float

    def seconds_left(self) -> float: ...


def is_failing(status: int, call: Attempted, seconds: float, time_limit_seconds: float) -> bool:
    """Whether a status in FAILING, after so many seconds, is that of a service that fails.

    A 504 at the end of a time that the caller has cut short is not.
    """
    if status == 504:
        in_time = seconds < call.seconds_told - TOLERANCE_SECONDS
        return in_time or is_whole(seconds, time_limit_seconds)
    return True


def is_failure(error: BaseException, call: Attempted, seconds: float, time_limit_seconds: float) -> bool:
    """Whether the service is to blame for an attempt that has ended so after so many seconds.

    Not for a connection that was idle: a service may close one at any time. Nor for a response that we do not take:
    the service works.
    """
    if isinstance(error, NotSent | IdleConnectionClosed):
        return False
    if isinstance(error, TimeoutError | asyncio.CancelledError):
        if is_whole(seconds, time_limit_seconds):
            return True
        return isinstance(error, aiohttp.ConnectionTimeoutError) and call.seconds_left() > 0
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
        return getattr(error, "errno", None) not in TOO_MANY_FILES
    return False


def is_whole(seconds: float, time_limit_seconds: float) -> bool:
    """Whether an attempt has taken the service's time limit."""
    return seconds >= time_limit_seconds - TOLERANCE_SECONDS
