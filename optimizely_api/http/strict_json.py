"""JSON as request bodies have it, read strictly and in steps none of which takes long.

Python's own parser calls Python for every object and number that is to be looked at; here all of it runs in C. What
orjson lets pass (two members of one name, integers beyond 64 bits) is found in the bytes.
"""

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

Json = Any
T = TypeVar("T")

PIECE_BYTES = 128 * 1024  # no step of a smaller body takes long
NUMBERS_PER_STEP = 1000  # long ones, looked at one by one

_SAME_DIGIT = bytes.maketrans(b"123456789", b"000000000")
_LONG_RUN = b"0" * 19
_LONG_NUMBER = re.compile(rb"[-+.0-9eE]{19,}")
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


@dataclass(frozen=True, slots=True)
class Read:
    """A JSON text that was read."""

    value: Json
    has_nul: bool  # the character U+0000 is in one of its texts or names
    member_count: Callable[[], int]  # of all its objects together


def reading(body: bytes, *, max_values: int | None = None) -> Generator[None, None, Read]:
    """Read a JSON text; a generator, so that between the steps of a large body others may go on.

    Raises InvalidJson for invalid UTF-8, a byte order mark, NaN and Infinity, numbers too large for a double, lone
    surrogates, integers beyond 64 bits, a name twice in one object, nesting deeper than 254, and more than
    `max_values` members and entries (an empty object or array counts as two).
    """
    is_large = len(body) > PIECE_BYTES
    if is_large:
        yield  # it was read a moment ago
    text = (yield from _without_escapes(body)) if b"\\" in body else body
    if max_values is not None and not _has_few_values(text, max_values):
        raise TooManyValues(max_values)
    if is_large:
        yield
    value = _parsed(body)
    if is_large:
        yield
    _check_names(text, value)
    if is_large:
        yield
    yield from _check_integers(text)
    if is_large:
        yield  # it will be held against a schema in a moment
    return Read(value, b"\\u0000" in text, lambda: _outside_strings(text).count(b":"))


def finish(steps: Generator[None, None, T], *, between: Callable[[], object] = lambda: None) -> T:
    """Run all steps, and call a function between two of them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        between()


def _without_escapes(body: bytes) -> Generator[None, None, bytes]:
    """The text without its escaped backslashes and quotation marks: each mark that is left begins or ends a string."""
    pieces: list[bytes] = []
    rest = b""
    for start in range(0, len(body), PIECE_BYTES):
        if start:
            yield
        piece = rest + body[start : start + PIECE_BYTES]
        is_cut = (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1  # between a backslash and what it escapes
        rest = b"\\" if is_cut else b""
        pieces.append(piece[: len(piece) - len(rest)].replace(b"\\\\", b"").replace(b'\\"', b""))
    return b"".join(pieces) + rest


def _outside_strings(text: bytes) -> bytes:
    return b"".join(text.split(b'"')[::2])


def _parsed(body: bytes) -> Json:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"the body is not JSON: {error}", "must be JSON") from error


def _has_few_values(text: bytes, limit: int) -> bool:
    if _has_few_marks(text, limit):
        return True
    # Each value and each name can be a string; more quotation marks need not be looked at one by one.
    return text.count(b'"') <= 4 * limit + 2 and _has_few_marks(_outside_strings(text), limit)


def _has_few_marks(text: bytes, limit: int) -> bool:
    """Each member or entry follows a comma or a bracket; those inside strings only count more."""
    return text.count(b",") + text.count(b"{") + text.count(b"[") <= limit


def _check_names(text: bytes, value: Json) -> None:
    """Of two members with one name orjson keeps the last: a text written from the value has fewer colons then."""
    try:
        written = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise InvalidJson(
            "the body is nested too deeply", "must not be nested more than 254 levels deep"
        ) from error
    if written.count(b":") != text.count(b":") + text.count(b"\\u003a") + text.count(b"\\u003A"):
        raise RepeatedName


def _check_integers(text: bytes) -> Generator[None, None, None]:
    if _LONG_RUN not in text.translate(_SAME_DIGIT):
        return
    numbers = _outside_strings(text).translate(None, b" \t\r\n")
    for count, match in enumerate(_LONG_NUMBER.finditer(numbers), 1):
        if count % NUMBERS_PER_STEP == 0:
            yield
        digits = match[0]
        if not digits.removeprefix(b"-").isdigit():
            continue
        if len(digits) > _MOST_DIGITS or not -(2**63) <= int(digits) < 2**63:
            raise InvalidJson(
                f"the body holds the integer {digits[:_SHOWN_DIGITS].decode()}, which is out of range",
                "must not have integers beyond 64 bits",
            )
