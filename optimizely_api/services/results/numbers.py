"""Reading numbers as senders write them, and rounding sums for responses."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

MAX_INT64 = 2**63 - 1  # the largest BIGINT; ids of the public API end at MAX_ID, 2**53 - 1
# Far beyond any purchase, and sums of their squares are still precise enough for a variance.
MAX_REVENUE = 10**11  # cents
MAX_VALUE = 1e11
NOISE = 1e-6  # an amount this close to a whole number is that number
MAX_NUMBER_DIGITS = 400  # longer numbers exceed a double anyway
EXACT_INTEGER = 2**53  # a double represents every whole number up to this one
SUM_ERROR = 1e-14  # the relative rounding error of adding some ten thousand doubles

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
# No digit can match two parts of the pattern, so matching takes linear time.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)


def typed_text(value: Any) -> tuple[str, str] | None:
    """A JSON scalar as (kind, text), the same for equal numbers (1 and 1.0); None for anything else."""
    match value:
        case bool():
            return "boolean", "true" if value else "false"
        case str():
            return "string", value
        case int():
            # Beyond 64 bits a float, as orjson parses it.
            return ("number", str(value)) if abs(value) <= MAX_INT64 else typed_text(_as_float(value))
        case float() if math.isfinite(value):
            return "number", str(int(value)) if value.is_integer() and abs(value) < MAX_INT64 else repr(value)
    return None


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def read_revenue(value: Any) -> int | None:
    """Cents as a whole number; a fraction is cut off, as in the JavaScript SDK. None for an unusable value."""
    amount = _amount(value, MAX_REVENUE)
    return None if amount is None else math.trunc(amount)


def read_value(value: Any) -> float | None:
    """The amount in an event's `value`; None for an unusable one."""
    amount = _amount(value, MAX_VALUE)
    return None if amount is None else float(amount)


def _amount(value: Any, limit: float) -> int | float | None:
    """A number or its text as a number, without the noise of binary fractions: 1998.9999999999998 is 1999."""
    if isinstance(value, str):
        # A whole number does not become a float: that would round it.
        value = int(value) if _INTEGER.fullmatch(value) else number_in(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= limit:
        return None
    nearest = round(value)
    # A small amount is not rounded to zero.
    return nearest if nearest and abs(value - nearest) <= NOISE else value


def number_in(text: str) -> float | None:
    """The decimal number in `text`. Stricter than `float`, which accepts 1_000, nan and the digits of other scripts."""
    text = text.strip()
    return float(text) if len(text) <= MAX_NUMBER_DIGITS and _NUMBER.fullmatch(text) else None


def without_noise(total: float, magnitude: float = 0.0) -> int | float:
    """The shortest decimal number within the rounding error of a sum: 1702.4 for 1702.4000000000003.

    An int if that number is whole. Pass `magnitude`, the root of the sum of squares, for amounts that may cancel out:
    their rounding error is larger than the total suggests. At least twelve and at most fifteen digits are exact.
    """
    if float(total).is_integer() and abs(total) <= EXACT_INTEGER:
        return int(total)
    error = SUM_ERROR * max(abs(total), magnitude)
    if abs(total) <= error:
        return 0
    # `next` always finds one: fifteen digits are within the error.
    candidates = (float(f"{total:.{digits}g}") for digits in range(1, 16))
    shortest = next(candidate for candidate in candidates if abs(candidate - total) <= error)
    return int(shortest) if shortest.is_integer() and abs(shortest) <= EXACT_INTEGER else shortest


def quotient(value: float, samples: int) -> float:
    """`value` / `samples`, divided in decimal and rounded once: 1.7024 for 1702.4 / 1000."""
    return float(Decimal(repr(value)) / samples)
