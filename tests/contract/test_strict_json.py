"""Bodies are read as Python's own parser would read them, with what it lets pass refused."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizely_api.http.strict_json import InvalidJson, Read, finish, reading

PARTS = ["a", "b", ":", ",", "[", "{", "}", " ", "é", "1" * 19]
ESCAPED = [r"\"", r"\\", r"\u003a", r"\u003A", r"\u0000", r"\n", r"\\u0000", r"\\u003a", r"\u005c"]
NUMBERS = ["0", "-1", "1.5", "1e9", "9223372036854775807", "-9223372036854775808", "1.1234567890123456789012"]
TOO_LARGE = ["9223372036854775808", "-9223372036854775809", "18446744073709551615", "1" * 30]


def text_of(chance: random.Random) -> str:
    return '"' + "".join(chance.choices(PARTS + ESCAPED, k=chance.randrange(4))) + '"'


def json_text(chance: random.Random, depth: int = 3) -> str:
    space = chance.choice(["", " ", "\n"])
    match chance.randrange(5 if depth else 3):
        case 0:
            return chance.choice(TOO_LARGE if chance.random() < 0.05 else NUMBERS) + space
        case 1:
            return chance.choice(["null", "true", "false"]) + space
        case 2:
            return text_of(chance)
        case 3:
            items = [json_text(chance, depth - 1) for _ in range(chance.randrange(4))]
            return f"[{space}{','.join(items)}]"
        case _:
            members = [
                f"{text_of(chance)}{space}:{json_text(chance, depth - 1)}" for _ in range(chance.randrange(4))
            ]
            return f"{{{','.join(members)}{space}}}"


class Refused(Exception):
    pass


class Reference:
    """What the reader is held against: slow and plain."""

    def __init__(self, text: str) -> None:
        self.members = 0
        self.value = json.loads(text, object_pairs_hook=self._object, parse_int=self._integer)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self.members += len(pairs)
        if len(dict(pairs)) != len(pairs):
            raise Refused
        return dict(pairs)

    def _integer(self, digits: str) -> int:
        if not -(2**63) <= int(digits) < 2**63:
            raise Refused
        return int(digits)


def read(text: str, max_values: int | None = None) -> Read | None:
    try:
        return finish(reading(text.encode(), max_values=max_values))
    except InvalidJson:
        return None


def reference(text: str) -> Reference | None:
    try:
        return Reference(text)
    except Refused:
        return None


def values_in(value: Any) -> int:
    """Members and entries, and one for each empty object or array."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    if inner is None:
        return 0
    return sum(1 + values_in(item) for item in inner) or 1


@settings(max_examples=100, deadline=None, print_blob=True)
@given(seed=st.integers(0, 2**63))
def test_it_reads_and_refuses_as_pythons_own_parser_does(seed: int) -> None:
    chance = random.Random(seed)
    for text in (json_text(chance) for _ in range(50)):
        found, expected = read(text), reference(text)
        assert (found is None) == (expected is None), text
        if found is not None and expected is not None:
            assert found.value == expected.value, text
            assert found.member_count() == expected.members, text
            assert found.has_nul == ("\\u0000" in json.dumps(expected.value).replace("\\\\", "")), text


@settings(max_examples=50, deadline=None, print_blob=True)
@given(seed=st.integers(0, 2**63))
def test_it_counts_members_and_entries(seed: int) -> None:
    chance = random.Random(seed)
    for text in (json_text(chance) for _ in range(50)):
        if (found := read(text)) is not None:
            count = values_in(found.value)
            assert read(text, max_values=count) is not None, text
            assert count == 0 or read(text, max_values=count - 1) is None, text


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("escape", [r"\\\\", r"\"", r"\u0000", r"\\u0000"])
def test_an_escape_may_lie_between_two_pieces(shift: int, escape: str) -> None:
    text = f'["{"x" * shift}{escape * 60_000}", {{"a": 1}}]'
    found = read(text)
    assert found is not None
    assert found.value == json.loads(text)
    assert found.has_nul == (escape == r"\u0000")
    assert found.member_count() == 1
