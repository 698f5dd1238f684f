"""The contract's formats: one table for incoming parameters, one for outgoing values.

What a caller writes is read generously and becomes a Python value; what the gateway answers has one form only.
bravado-core would read `date-time` with dateutil, which takes "5" for a time and fails on others with an exception
that is nobody's 400; here each format has its own check.
"""

import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from bravado_core.exception import SwaggerValidationError
from bravado_core.formatter import SwaggerFormat

from optimizely_api.contract import times

MAX_ID = 2**53 - 1  # the largest integer that every JSON reader keeps exact
MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1
FIRST_YEAR, LAST_YEAR = 1970, 9998  # room for rounding on both sides of what datetime can hold

_UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{1,9})?Z", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
HOLDBACK = "holdback"  # names visitors who were held back, where a variation's id is expected
_DIGITS = re.compile(r"[0-9]{1,16}", re.ASCII)


@lru_cache(maxsize=1000)  # callers ask about the same days again and again
def read_time(text: str) -> datetime:
    """Read a caller's time (`times.py`) in UTC, within the years that results can be about. Raises ValueError."""
    moment = times.read_time(text)
    if not FIRST_YEAR <= int(text[:4]) <= LAST_YEAR:
        raise ValueError("out of range")
    return moment


def is_utc_time(text: str) -> bool:
    """Is it a time as the gateway writes it, such as 2026-01-31T12:00:00Z?"""
    if _UTC_TIME.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text[:19])
    except ValueError:
        return False
    return True


def is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def is_id_text(text: str) -> bool:
    """Is it an id written as text, as variation ids are, or the word in place of one?"""
    return text == HOLDBACK or (_DIGITS.fullmatch(text) is not None and 1 <= int(text) <= MAX_ID)


def is_int64(value: int) -> bool:
    return MIN_INT64 <= value <= MAX_INT64


def _is_callers_time(text: str) -> bool:
    try:
        read_time(text)
    except (ValueError, OverflowError):
        return False
    return True


def _swagger_format(
    name: str,
    *,
    text: Callable[[str], bool] | None = None,
    integer: Callable[[int], bool] | None = None,
    to_python: Any = lambda value: value,
) -> SwaggerFormat:
    """A format for bravado-core, which asks for a check of every type that the format may stand beside."""

    def validate(value: object) -> None:
        wrong_text = text is not None and isinstance(value, str) and not text(value)
        wrong_integer = integer is not None and type(value) is int and not integer(value)
        if wrong_text or wrong_integer:
            raise SwaggerValidationError(f"not of format {name}")

    return SwaggerFormat(
        format=name, to_python=to_python, to_wire=lambda value: value, validate=validate, description=name
    )


REQUEST_FORMATS = [
    _swagger_format("date-time", text=_is_callers_time, to_python=read_time),
    _swagger_format("int64", text=is_id_text, integer=is_int64),
    _swagger_format("uuid", text=is_uuid),
]
RESPONSE_TEXT_FORMATS: dict[str, Callable[[str], bool]] = {"date-time": is_utc_time, "uuid": is_uuid}
EXPECTED: dict[str, str] = {
    "date-time": "a time such as 2026-01-31T12:00:00Z, or a date such as 2026-01-31",
    "date": "a date such as 2026-01-31",
    "int64": f"an id: a whole number from 1 to {MAX_ID}",
    "uuid": "a UUID",
}
