"""JSON as request bodies have it, read strictly and in steps none of which takes long.

Python's own parser calls Python for every object and number that is to be looked at; here all of it runs in C. What
orjson lets pass (two members of one name, integers beyond 64 bits) is found in the bytes.
"""

import re
from collections.abc import Generator
from typing import Any

import orjson

Json = Any

LARGE_BYTES = 64 * 1024  # the steps of a smaller body together take less than one of a large body

_SAME_DIGIT = bytes.maketrans(b"123456789", b"000000000")
_LONG_RUN = b"0" * 19
_LONG_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}(?![0-9.eE])")
_MOST_DIGITS = 20  # with the sign, of an integer of 64 bits
_SHOWN_DIGITS = 24


class InvalidJson(ValueError):
    """A body that is not read: the message is about "the body", and `problem` completes "The body ..."."""

    def __init__(self, message: str, problem: str) -> None:
        super().__init__(message)
        self.problem = problem


class RepeatedName(InvalidJson):
    """An object has two members of one name."""

    def __init__(self) -> None:
        super().__init__(
            "a name appears twice in one object", "must not have two members of one name in one object"
        )


class TooManyValues(InvalidJson):
    """The body has more members and entries than are looked at."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the body has more than {limit} members and entries",
            f"must have at most {limit} members and entries",
        )


def reading(body: bytes, *, max_values: int | None = None) -> Generator[None, None, Json]:
    """Read a JSON text; a generator, so that between the steps of a large body others may go on.

    Raises InvalidJson for invalid UTF-8, a byte order mark, NaN and Infinity, numbers too large for a double, lone
    surrogates, integers beyond 64 bits, a name twice in one object, nesting deeper than 254, and more than
    `max_values` members and entries (an empty object or array counts as two).
    """
    is_large = len(body) > LARGE_BYTES
    if max_values is not None and not _has_few_marks(body, max_values):
        if is_large:
            yield
        _check_values(body, max_values)
    if is_large:
        yield
    value = _parsed(body)
    if is_large:
        yield
    _check_names(body, value)
    if is_large:
        yield
    _check_integers(body)
    return value


def finish(steps: Generator[None, None, Json]) -> Json:
    """Run all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def holds_nul(body: bytes) -> bool:
    """Whether a JSON text has the character U+0000 somewhere, which it can have in its escaped form only."""
    return b"\\u0000" in body and b"\\u0000" in body.replace(b"\\\\", b"")


def member_count(body: bytes) -> int:
    """The number of all objects' members in a JSON text, those of a repeated name included."""
    return _outside_strings(_without_escapes(body)).count(b":")


def _parsed(body: bytes) -> Json:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"the body is not JSON: {error}", "must be JSON") from error


def _has_few_marks(body: bytes, limit: int) -> bool:
    """Each member or entry follows a comma or a bracket; those inside strings only count more."""
    return body.count(b",") + body.count(b"{") + body.count(b"[") <= limit


def _check_values(body: bytes, limit: int) -> None:
    text = _without_escapes(body)
    # Each value and each name can be a string; more quotation marks need not be looked at one by one.
    if text.count(b'"') > 4 * limit + 2 or not _has_few_marks(_outside_strings(text), limit):
        raise TooManyValues(limit)


def _check_names(body: bytes, value: Json) -> None:
    """Of two members with one name orjson keeps the last: a text written from the value has fewer colons then."""
    try:
        written = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise InvalidJson(
            "the body is nested too deeply", "must not be nested more than 254 levels deep"
        ) from error
    colons = body.count(b":")
    if b"\\u003" in body:
        text = body.replace(b"\\\\", b"")
        colons += text.count(b"\\u003a") + text.count(b"\\u003A")
    if colons != written.count(b":"):
        raise RepeatedName


def _check_integers(body: bytes) -> None:
    if _LONG_RUN not in body.translate(_SAME_DIGIT):
        return
    for match in _LONG_INTEGER.finditer(_outside_strings(_without_escapes(body))):
        digits = match[0]
        if len(digits) > _MOST_DIGITS or not -(2**63) <= int(digits) < 2**63:
            raise InvalidJson(
                f"the body holds the integer {digits[:_SHOWN_DIGITS].decode()}, which is out of range",
                "must not have integers beyond 64 bits",
            )


def _without_escapes(body: bytes) -> bytes:
    """The text without its escaped backslashes and quotation marks: the marks that are left begin or end strings."""
    return body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body


def _outside_strings(text: bytes) -> bytes:
    return b"".join(text.split(b'"')[::2])
