"""Queries: only `&` separates, in the gateway, in its links and in the services."""

from typing import Any

import pytest

from optimizely_api.contract.query import read_query


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a=1;b=2", [("a", "1;b=2")]),
        ("a=gold;eu&b=2", [("a", "gold;eu"), ("b", "2")]),
        ("a=1%3Bb=2", [("a", "1;b=2")]),
        ("a=1&amp;b=2", [("a", "1"), ("amp;b", "2")]),
        ("a=1%26b=2", [("a", "1&b=2")]),
        ("a=1=2", [("a", "1=2")]),
        ("a&b=&=c&&", [("a", ""), ("b", ""), ("", "c")]),
        ("a=1+2%2B3%20", [("a", "1 2+3 ")]),
        ("a=%C3%A9&b=\xc3\xa9", [("a", "é"), ("b", "é")]),
        ("a=%zz%", [("a", "%zz%")]),
        ("", []),
    ],
)
def test_a_query_is_read_as_browsers_write_it(text: str, pairs: Any) -> None:
    assert read_query(text) == pairs


@pytest.mark.parametrize("text", ["a=%ff", "%ff", "a=\xff", "a=%C3"])
def test_bytes_that_are_not_utf8_raise(text: str) -> None:
    with pytest.raises(UnicodeDecodeError):
        read_query(text)
