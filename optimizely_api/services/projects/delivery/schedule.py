"""When a delivery that failed is attempted again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

RETRIES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 2 * 60, 6 * 60, 12 * 60))
# Each delay is longer by up to this share of it: receivers that failed together are not called together again.
SPREAD = 0.1
# What has waited this long behind another delivery gets one attempt: a receiver that is away for good gathers no queue.
LONGEST = sum(RETRIES, timedelta()) * (1 + SPREAD)


def next_attempt(
    created: datetime, failures: int, now: datetime, random: Callable[[], float]
) -> datetime | None:
    """The time of the attempt after `failures` failed ones, the last of them now; None when it is given up.

    `random` returns numbers from 0 to 1, as `random.random` does.
    """
    if failures > len(RETRIES) or now - created >= LONGEST:
        return None
    return now + RETRIES[failures - 1] * (1 + SPREAD * random())
