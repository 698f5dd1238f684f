"""What senders get wrong: tables for the tests of parsing and of the service."""

from __future__ import annotations

from typing import Any

from tests.services.results.sending import conversion, impression, the_event

# Bodies that are no batch at all, and a part of what the error says.
MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not JSON"),
    "cut off": (b"{", "not JSON"),
    "not UTF-8": (b"\xff\xfe{}", "not UTF-8"),
    "an array": (b"[]", "JSON object"),
    "null": (b"null", "JSON object"),
    "NaN": (b"NaN", "JSON object"),
    "an empty object": (b"{}", "account_id"),
    "no visitors": (b'{"account_id": "77"}', "visitors"),
    "visitors no array": (b'{"account_id": "77", "visitors": {}}', "visitors"),
    "account null": (b'{"account_id": null, "visitors": []}', "account_id"),
    "account true": (b'{"account_id": true, "visitors": []}', "account_id"),
    "account with NUL": (b'{"account_id": "a\\u0000", "visitors": []}', "account_id"),
    "account half an emoji": (b'{"account_id": "a\\ud83d", "visitors": []}', "account_id"),
    "deep arrays": (b"[" * 100_000, "nested too deeply"),
    "deep objects": (b'{"a":' * 100_000, "nested too deeply"),
}

# Visitor entries that are unusable, each in one way.
BAD_VISITORS: dict[str, Any] = {
    "null": None,
    "text": "ann",
    "no visitor_id": {"snapshots": []},
    "visitor_id null": {**impression("x"), "visitor_id": None},
    "visitor_id a number": {**impression("x"), "visitor_id": 12},
    "visitor_id empty": {**impression("x"), "visitor_id": ""},
    "visitor_id with NUL": impression("a\0b"),
    "visitor_id half an emoji": impression("a\ud83d"),
    "visitor_id too long": impression("a" * 1001),
    "no snapshots": {"visitor_id": "x"},
    "snapshots text": {"visitor_id": "x", "snapshots": "none"},
    "a snapshot null": {"visitor_id": "x", "snapshots": [None]},
    "a snapshot without events": {"visitor_id": "x", "snapshots": [{"decisions": []}]},
    "a decision without event": {
        "visitor_id": "x",
        "snapshots": [{**impression("x")["snapshots"][0], "events": []}],
    },
}


def changed(**more: Any) -> dict[str, Any]:
    entry = conversion("ann", revenue=500)
    the_event(entry).update(more)
    return entry


# Entries whose only event is unusable.
BAD_EVENTS: dict[str, Any] = {
    "timestamp missing": changed(timestamp=None),
    "timestamp text": changed(timestamp="now"),
    "timestamp true": changed(timestamp=True),
    "timestamp negative": changed(timestamp=-1),
    "timestamp huge": changed(timestamp=10**30),
    "timestamp in seconds": changed(timestamp=1_769_860_800),
    "timestamp of 2009": changed(timestamp=1_262_303_999_999),
    "timestamp of 2100": changed(timestamp=4_102_444_800_000),
    "timestamp the largest": changed(timestamp=253_402_300_799_999),
    "timestamp NaN": changed(timestamp=float("nan")),
    "timestamp infinite": changed(timestamp=float("inf")),
}


# Senders without uuids.
NO_UUIDS: list[Any] = [None, 12, ""]


# Revenue as sent, and as counted (None: the event counts, without revenue).
REVENUES: list[tuple[Any, int | None]] = [
    (500, 500),
    (-500, -500),
    ("500", 500),
    ("-5", -5),
    (499.99, 499),
    ("499.99", 499),
    (-499.99, -499),
    (1998.9999999999998, 1999),
    ("1998.9999999999998", 1999),
    (-1998.9999999999998, -1999),
    (1999.0000009, 1999),
    (1998.999998, 1998),
    (0.9999999, 1),
    (0.0000001, 0),
    (2**31, 2**31),
    ("ten", None),
    ("٣", None),
    (None, None),
    (True, None),
    ([5], None),
    (10**11, 10**11),
    (10**11 + 1, None),
    (-(10**11) - 1, None),
    (2**53, None),
    (10**30, None),
    ("9" * 5000, None),
    (float("nan"), None),
    (float("inf"), None),
]

VALUES: list[tuple[Any, float | None]] = [
    (2, 2.0),
    (0.25, 0.25),
    ("0.25", 0.25),
    (" 2.5e1 ", 25.0),
    (2.9999999999999996, 3.0),
    (1e-7, 1e-7),
    (1.00001, 1.00001),
    (".5", 0.5),
    ("1_000", None),
    ("٣", None),
    ("", None),
    (10**11, 1e11),
    (1.1e11, None),
    (-1.5, -1.5),
    ("much", None),
    (True, None),
    ("nan", None),
    (float("inf"), None),
    (1e300, None),
    (10**400, None),
]

# Entries that count, whatever stands in their tags.
ODD_TAGS = [
    conversion("tagged", tags=tags)
    for tags in (
        {"a": "half an emoji \ud83d"},
        {"a": float("nan")},
        {"a": 10**40},
        {"a": "\0"},
        {"\0": 1},
        "text",
        [1],
    )
]
