"""Ids in the request body of a question."""

from __future__ import annotations

from typing import Any

from optimizely_api.services.http.errors import bad_request
from optimizely_api.services.results.numbers import MAX_INT64


def read_id(value: Any, name: str, expected: str = "a positive whole number") -> int:
    """An id, a number or its text; raises a ServiceError (400) saying that `name` must be `expected`."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_INT64:
        raise bad_request(f"{name} must be {expected}")
    return value
