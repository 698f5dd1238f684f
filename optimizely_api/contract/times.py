"""Reading times as callers write them (RFC 3339, and the looser forms that people type), and writing them."""

import re
from datetime import UTC, datetime, timedelta

_LONGEST = 64  # characters: room for more digits of a fraction than any clock has
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[Tt ]((?:[01]\d|2[0-3]):[0-5]\d)(?::([0-5]\d|60)(\.\d+)?)?([Zz]|[-+ ](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?)?",
    re.ASCII,
)


def read_time(text: str) -> datetime:
    """Read a time as an aware datetime in UTC; a date alone is its midnight, and no offset means UTC.

    Seconds may be missing, digits after the sixth of a fraction are dropped, and a `+` that a query string turned into
    a space is a `+`. A leap second, which can only end a month (RFC 3339 section 5.7), is the second after it, as in
    POSIX time. Raises ValueError, and OverflowError at the edges of the calendar.
    """
    match = _TIME.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError("neither a time nor a date")
    date, minutes, seconds, fraction, offset = match.groups()
    is_leap = seconds == "60"
    offset = (offset or "Z").upper().replace(" ", "+").replace("Z", "+00:00")
    iso = f"{date}T{minutes or '00:00'}:{'59' if is_leap else seconds or '00'}{(fraction or '')[:7]}{offset}"
    moment = datetime.fromisoformat(iso).astimezone(UTC)
    return _after_leap_second(moment) if is_leap else moment


def format_time(moment: datetime) -> str:
    """An aware datetime as ISO 8601 in UTC with `Z`; six decimals if it has a fraction of a second, none otherwise."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _after_leap_second(last: datetime) -> datetime:
    after = last + timedelta(seconds=1)
    if (after.day, after.hour, after.minute, after.second) != (1, 0, 0, 0):
        raise ValueError("no leap second")
    return after
