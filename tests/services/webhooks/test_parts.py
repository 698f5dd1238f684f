"""The pure parts: when to try again, what proves the sender, whom to call, what to say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from optimizely_api.services.projects.delivery.addresses import is_public
from optimizely_api.services.projects.delivery.messages import (
    EVENTS,
    SERVED_AFTER,
    message_of_revision,
    messages_of_change,
)
from optimizely_api.services.projects.delivery.schedule import LONGEST, RETRIES, SPREAD, next_attempt
from optimizely_api.services.projects.delivery.signature import signature_headers

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_retries_follow_after_1_5_and_30_minutes_and_2_6_and_12_hours() -> None:
    delays = []
    for failures in range(1, 7):
        until = next_attempt(NOON, failures, NOON, lambda: 0.0)
        assert until is not None
        delays.append((until - NOON) / timedelta(minutes=1))
    assert delays == [1, 5, 30, 120, 360, 720]
    assert next_attempt(NOON, 7, NOON, lambda: 0.0) is None


def test_retries_are_spread_so_that_receivers_are_not_called_all_at_once() -> None:
    for failures, delay in enumerate(RETRIES, start=1):
        assert next_attempt(NOON, failures, NOON, lambda: 1.0) == NOON + delay * (1 + SPREAD)


def test_what_waited_behind_others_for_the_whole_time_has_one_attempt() -> None:
    assert next_attempt(NOON - LONGEST, 1, NOON, lambda: 0.0) is None
    assert next_attempt(NOON - LONGEST + timedelta(seconds=1), 1, NOON, lambda: 0.0) is not None


def test_the_signatures_are_hmacs_of_the_raw_body() -> None:
    """The text and digest by which GitHub documents the same header, and RFC 2202's second case for SHA-1."""
    headers = signature_headers("It's a Secret to Everybody", b"Hello, World!")
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert headers["X-Hub-Signature-256"] == f"sha256={digest}"
    headers = signature_headers("Jefe", b"what do ya want for nothing?")
    assert headers["X-Hub-Signature"] == "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # where clouds keep credentials
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",  # 169.254.169.254 behind a translator
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",  # 127.0.0.1 in 6to4
        "",
        "localhost",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def record(kind: str, change_type: str, *changes: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "project_id": 7,
        "change_type": change_type,
        "changes": list(changes),
        "created": "2026-03-01T12:00:00.5Z",
        "entity": {"type": kind, "id": 9, "name": "It"},
        "summary": "Did it",
        "user": {"id": "1", "email": "a@shop.example"},
    }


@pytest.mark.parametrize(
    ("kind", "change_type", "event"),
    [
        ("attribute", "create", "attribute_created"),
        ("attribute", "update", "attribute_updated"),
        ("audience", "archive", "audience_archived"),
        ("event", "archive", "event_archived"),
        ("feature", "create", "flag_created"),
        ("feature", "archive", "flag_archived"),
        ("group", "delete", "group_deleted"),
        ("environment", "update", "environment_updated"),
        ("project", "update", "project_setting_updated"),
    ],
)
def test_events_are_named_after_the_entity_and_the_change(kind: str, change_type: str, event: str) -> None:
    [message] = messages_of_change(record(kind, change_type), "https://api.example")
    assert message.event == f"project.{event}"
    assert message.event in EVENTS
    assert (message.project_id, message.created) == (7, NOON + timedelta(milliseconds=500))


@pytest.mark.parametrize(
    ("kind", "change_type"),
    [("experiment", "update"), ("page", "create"), ("campaign", "publish"), ("project", "archive")],
)
def test_what_has_no_event_calls_nobody(kind: str, change_type: str) -> None:
    assert list(messages_of_change(record(kind, change_type), "https://api.example")) == []


def test_the_variables_of_a_feature_have_events_of_their_own() -> None:
    kept, old, new, gone, born = (
        {"id": 1, "default_value": "1"},
        {"id": 2, "default_value": "1"},
        {"id": 2, "default_value": "2"},
        {"id": 3, "default_value": "1"},
        {"id": 4, "default_value": "1"},
    )
    detail = {
        "property": "variables",
        "description": "Changed",
        "before": [kept, old, gone],
        "after": [kept, new, born],
    }
    messages = list(messages_of_change(record("feature", "update", detail), "https://api.example"))
    assert [message.event.removeprefix("project.") for message in messages] == [
        "flag_updated",
        "variable_created",
        "variable_updated",
        "variable_deleted",
    ]
    assert (
        '"before":[{"id":2,"default_value":"1"}],"after":[{"id":2,"default_value":"2"}]' in messages[2].body
    )


def test_a_revision_of_a_datafile_has_the_body_that_receivers_in_the_field_read() -> None:
    row = {
        "id": 5,
        "project_id": 7,
        "environment_id": 8,
        "environment_key": "production",
        "revision": 12,
        "url": "/datafiles/abc.json",
        "created": "2026-03-01T12:00:00Z",
    }
    message = message_of_revision(row, {8: "Production"}, "https://api.example")
    assert json.loads(message.body) == {
        "project_id": 7,
        "timestamp": int(NOON.timestamp()),
        "event": "project.datafile_updated",
        "data": {
            "revision": 12,
            "origin_url": "https://api.example/datafiles/abc.json",
            "cdn_url": "https://api.example/datafiles/abc.json",
            "environment": "Production",
        },
    }
    assert message.wait == SERVED_AFTER  # gateways serve the one before a little longer
