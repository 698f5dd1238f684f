"""Batches as the SDKs send them and questions as the gateway asks them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from optimizely_api.contract.times import format_time
from optimizely_api.services.results.ingest.batches import Batch, parse_batch

ACCOUNT, PROJECT = "77", 9001
CAMPAIGN, EXPERIMENT = 9100, 9101
CONTROL, TREATMENT = 9102, 9103
PURCHASE, SIGNUP = 9201, 9202
PLAN = 9401
NOON = 1_769_860_800_000  # 2026-01-31T12:00:00Z in milliseconds
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000

Entry = dict[str, Any]


def attribute(key: str, value: Any, entity_id: Any = PLAN) -> dict[str, Any]:
    """An attribute as it stands in a visitor entry."""
    return {"entity_id": str(entity_id), "key": key, "type": "custom", "value": value}


def impression(
    visitor: str,
    variation: int | None = CONTROL,
    at: int = NOON,
    *,
    experiment: int | str = EXPERIMENT,
    attributes: Sequence[dict[str, Any]] = (),
) -> Entry:
    """A visitor entry that reports a decision."""
    decision = {
        "campaign_id": str(CAMPAIGN),
        "experiment_id": str(experiment),
        "variation_id": None if variation is None else str(variation),
        "metadata": {"flag_key": "", "rule_key": "checkout", "rule_type": "experiment", "enabled": True},
    }
    event = {
        "entity_id": str(CAMPAIGN),
        "key": "campaign_activated",
        "uuid": str(uuid.uuid4()),
        "timestamp": at,
    }
    return {
        "visitor_id": visitor,
        "attributes": list(attributes),
        "snapshots": [{"decisions": [decision], "events": [event]}],
    }


def conversion(
    visitor: str,
    event_id: int = PURCHASE,
    at: int = NOON + SECOND,
    *,
    attributes: Sequence[dict[str, Any]] = (),
    **more: Any,
) -> Entry:
    """A visitor entry that reports a conversion; `more` are keys of the event, such as revenue."""
    event = {
        "entity_id": str(event_id),
        "key": "purchase",
        "uuid": str(uuid.uuid4()),
        "timestamp": at,
        **more,
    }
    return {"visitor_id": visitor, "attributes": list(attributes), "snapshots": [{"events": [event]}]}


def the_event(entry: Entry) -> dict[str, Any]:
    """The one event of an entry, to change it."""
    event: dict[str, Any] = entry["snapshots"][0]["events"][0]
    return event


def batch(*entries: Any, **more: Any) -> dict[str, Any]:
    """A batch of these visitor entries; `more` replaces top-level keys, None takes one out."""
    body = {
        "account_id": ACCOUNT,
        "project_id": str(PROJECT),
        "revision": "12",
        "client_name": "python-sdk",
        "client_version": "5.7.0",
        "anonymize_ip": True,
        "enrich_decisions": True,
        "visitors": list(entries),
        **more,
    }
    return {key: value for key, value in body.items() if value is not None}


def parsed(*entries: Entry) -> Batch:
    """A batch of these entries, as the service reads it."""
    return parse_batch(json.dumps(batch(*entries)).encode())


def metric(aggregator: str = "unique", event_id: int | None = PURCHASE, **more: Any) -> dict[str, Any]:
    """A metric definition."""
    return {"aggregator": aggregator, "event_id": event_id, "name": aggregator, "scope": "visitor", **more}


def question(*metrics: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The body of a question about control and treatment; `more` replaces keys."""
    return {
        "project_id": PROJECT,
        "metrics": list(metrics) or [metric()],
        "variations": [
            {"variation_id": CONTROL, "name": "Original"},
            {"variation_id": TREATMENT, "name": "Shorter form"},
        ],
        "stats_config": {"confidence_level": 0.9, "difference_type": "relative", "epoch_enabled": False},
        **more,
    }


def iso(milliseconds: int) -> str:
    """The moment as the API writes it."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    return format_time(moment)
