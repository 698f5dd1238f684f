"""Impressions by experiment and day, counted while events are stored and read for an account's usage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import Connection

from optimizely_api.services.results.ingest.admission import Received
from optimizely_api.services.results.statements import paced, write
from optimizely_api.services.results.statistics.looks import DAY_MILLISECONDS
from optimizely_api.services.results.tables import HOLDBACK, IMPRESSIONS
from optimizely_api.services.storage.rows import upsert


def count_impressions(connection: Connection, received: Iterable[Received]) -> None:
    """Add the decision events among those that are being stored, once for each experiment that an event names."""
    counts = Counter(
        (experiment, item.event.happened // DAY_MILLISECONDS)
        for item in paced(received)
        if item.event.is_impression
        for experiment in {
            decision.experiment_id for decision in item.decisions if decision.variation_id != HOLDBACK
        }
    )
    rows = ((experiment, day, count) for (experiment, day), count in counts.items())
    write(connection, _addition(connection.dialect.name), rows)


@cache
def _addition(dialect: str) -> Any:
    insert = upsert(dialect, IMPRESSIONS)
    added = {"impressions": IMPRESSIONS.c.impressions + insert.excluded.impressions}
    return insert.on_conflict_do_update(index_elements=["experiment_id", "day"], set_=added)
