"""Deadlines that travel with requests: the headers, and the milliseconds in them.

`X-Request-Timeout-Ms` is a caller's wish. `X-Envoy-Expected-Rq-Timeout-Ms` is what the gateway tells a service; the
name is Envoy's, so that proxies between know it too.
"""

from __future__ import annotations

import re

WISHED_TIMEOUT = "X-Request-Timeout-Ms"
EXPECTED_TIMEOUT = "X-Envoy-Expected-Rq-Timeout-Ms"

# What a response needs on its way back: the service gives up a moment before its caller does.
WAY_BACK_MS = 2

_MILLISECONDS = re.compile("[0-9]{1,9}", re.ASCII)


def seconds_of(field: str | None) -> float | None:
    """The seconds that a header has in milliseconds; None without a header, and for one that is no positive number."""
    if field is None or not _MILLISECONDS.fullmatch(field.strip(" \t")):
        return None
    return int(field) / 1000 or None


def expected_timeout(seconds_left: float) -> int:
    """The milliseconds that a service is told when the caller has so many seconds left; at least one."""
    return max(1, int(seconds_left * 1000) - WAY_BACK_MS)
