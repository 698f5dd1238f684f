"""A service's limits on its clients: connections, times and memory, from the environment."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from optimizely_api.start_failures import InvalidVariable


def _limit(default: float, variable: str, *, may_be_zero: bool = False) -> Any:
    return field(default=default, metadata={"variable": variable, "may_be_zero": may_be_zero})


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one worker of a service; the environment has each as `<SERVICE>_<variable>`."""

    connections: int = _limit(10_000, "MAX_CONNECTIONS")  # more wait in the backlog
    backlog: int = _limit(2048, "BACKLOG_CONNECTIONS")  # net.core.somaxconn must be no smaller
    head_timeout_seconds: float = _limit(10.0, "HEAD_TIMEOUT_SECONDS")
    # A body may take `body_timeout_seconds`, and one second more for each `body_rate_bytes_per_second` received, up to
    # `body_longest_seconds` in all.
    body_timeout_seconds: float = _limit(10.0, "BODY_TIMEOUT_SECONDS")
    body_rate_bytes_per_second: int = _limit(4096, "BODY_RATE_BYTES_PER_SECOND")
    body_longest_seconds: float = _limit(60.0, "BODY_LONGEST_SECONDS")
    bodies_bytes: int = _limit(64 * 1024 * 1024, "BODIES_BYTES")  # of all requests under way
    write_timeout_seconds: float = _limit(60.0, "WRITE_TIMEOUT_SECONDS")  # while the client reads nothing
    # Longer than the gateway keeps idle connections, so that the client closes first and never sends a request on a
    # connection that the service is closing.
    keepalive_seconds: float = _limit(75.0, "KEEPALIVE_SECONDS")
    # Requests that wait for longer than this without a break are an overload, and some are refused; 0 is off.
    overload_wait_seconds: float = _limit(0.5, "OVERLOAD_WAIT_SECONDS", may_be_zero=True)

    def body_seconds(self, received_bytes: int) -> float:
        """The time limit, from its start, of a body of which `received_bytes` have arrived."""
        earned = self.body_timeout_seconds + received_bytes / self.body_rate_bytes_per_second
        return min(earned, max(self.body_longest_seconds, self.body_timeout_seconds))

    @property
    def shortest_seconds(self) -> float:
        """The shortest of the timeouts that the worker checks itself."""
        return min(self.head_timeout_seconds, self.write_timeout_seconds)


def limits_from_environment(service: str, environ: Mapping[str, str] | None = None) -> Limits:
    """The limits of `service`. Raises InvalidVariable for a value that is not a positive number."""
    environ = os.environ if environ is None else environ
    given: dict[str, Any] = {}
    for item in fields(Limits):
        variable = f"{service.upper()}_{item.metadata['variable']}"
        if text := environ.get(variable, "").strip():
            may_be_zero = item.metadata["may_be_zero"] and text == "0"
            given[item.name] = 0.0 if may_be_zero else _positive(variable, text, is_whole=item.type == "int")
    return Limits(**given)


def _positive(variable: str, text: str, *, is_whole: bool) -> float:
    try:
        value = int(text) if is_whole else float(text)
    except ValueError:
        value = 0
    if value <= 0 or not math.isfinite(value):
        kind = "whole number" if is_whole else "number"
        raise InvalidVariable(f"{variable} must be a positive {kind}, not {text!r}")
    return value
