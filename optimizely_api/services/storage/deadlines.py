"""The deadline of the request that a service works on: after it nobody waits for the response."""

from __future__ import annotations

import math
import time
from contextvars import ContextVar

# A value of `time.monotonic()`. Not an argument of everything between the request and its statements.
DEADLINE: ContextVar[float] = ContextVar("deadline", default=math.inf)


class DeadlinePassed(Exception):
    """The time for the request is spent; what it was about to do is not begun."""


def seconds_left() -> float:
    """The rest of the time, infinite without a deadline; raises DeadlinePassed when nothing is left."""
    left = DEADLINE.get() - time.monotonic()
    if left <= 0:
        raise DeadlinePassed
    return left
