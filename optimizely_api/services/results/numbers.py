"""Numbers as senders spell them, and sums as answers show them."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

MAX_ID = 2**63 - 1  # what a database's integer holds
# Far beyond any purchase, and their squares still add up exactly enough for a variance.
MAX_REVENUE = 10**11  # cents
MAX_VALUE = 1e11
NOISE = 1e-6  # an amount so near a whole number is that number
MAX_NUMBER_DIGITS = 400  # longer ones are beyond a double anyway
EXACT_INTEGER = 2**53  # doubles hold each whole number up to here
SUM_ERROR = 1e-14  # of a sum of doubles, relative to it: what adding some ten thousand of them takes away

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
# No digit can be read by two of its parts: the time stays linear in the length.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)


def typed_text(value: Any) -> tuple[str, str] | None:
    """A JSON scalar as (kind, text), alike for alike numbers (1 and 1.0); None for anything else."""
    match value:
        case bool():
            return "boolean", "true" if value else "false"
        case str():
            return "string", value
        case int():
            # Beyond 64 bits as the faster parser has it: a float.
            return ("number", str(value)) if abs(value) <= MAX_ID else typed_text(_as_float(value))
        case float() if math.isfinite(value):
            return "number", str(int(value)) if value.is_integer() and abs(value) < MAX_ID else repr(value)
    return None


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def read_revenue(value: Any) -> int | None:
    """Cents: a whole number, or what the JavaScript SDK would make of it (fractions are cut off)."""
    amount = _amount(value, MAX_REVENUE)
    return None if amount is None else math.trunc(amount)


def read_value(value: Any) -> float | None:
    """The amount in `value` of an event, None for what is no usable number."""
    amount = _amount(value, MAX_VALUE)
    return None if amount is None else float(amount)


def _amount(value: Any, limit: float) -> int | float | None:
    """A number, also one written as text, without the noise of binary fractions: 1998.9999999999998 is 1999."""
    if isinstance(value, str):
        # Not through a float first: whole numbers stay as they are.
        value = int(value) if _INTEGER.fullmatch(value) else number_in(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= limit:
        return None
    whole = round(value)
    # Nothing is rounded to nothing: small amounts are amounts.
    return whole if whole and abs(value - whole) <= NOISE else value


def number_in(text: str) -> float | None:
    """The number that a text spells in decimal; Python would also read 1_000, nan and other scripts' digits."""
    text = text.strip()
    return float(text) if len(text) <= MAX_NUMBER_DIGITS and _NUMBER.fullmatch(text) else None


def without_noise(total: float, magnitude: float = 0.0) -> int | float:
    """The shortest decimal number within rounding of a sum of such numbers: 1702.4 for 1702.4000000000003.

    An int where that is whole. `magnitude`, the root of the sum of squares, tells the rounding where amounts
    cancel. Otherwise twelve digits and more are kept as far as a double holds them, fifteen.
    """
    if float(total).is_integer() and abs(total) <= EXACT_INTEGER:
        return int(total)
    error = SUM_ERROR * max(abs(total), magnitude)
    if abs(total) <= error:
        return 0
    # The last one, of fifteen digits, is always near enough.
    candidates = (float(f"{total:.{digits}g}") for digits in range(1, 16))
    shortest = next(near for near in candidates if abs(near - total) <= error)
    return int(shortest) if shortest.is_integer() and abs(shortest) <= EXACT_INTEGER else shortest


def quotient(value: float, samples: int) -> float:
    """The double nearest to a decimal number by a whole one: 1.7024 for 1702.4 by 1000."""
    return float(Decimal(repr(value)) / samples)
