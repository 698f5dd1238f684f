"""The log line about parts of batches that were left out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

log = logging.getLogger("optimizely_api.services.results")


def log_dropped(source: str, dropped: Counter[str], fields: Mapping[str, Any]) -> None:
    """Log how many parts of `source` were left out, and why; `fields` are further fields of the log line."""
    log.warning(
        "left out %d parts of %s: %s",
        dropped.total(),
        source,
        ", ".join(f"{reason} ({count})" for reason, count in dropped.items()),
        extra={"fields": {**fields, "dropped": dropped.total(), "reasons": dict(dropped)}},
    )
