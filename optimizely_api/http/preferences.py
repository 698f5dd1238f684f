"""The request header Prefer (RFC 7240): how long a client will wait for a response."""

from __future__ import annotations

import re

# RFC 7240 has whole seconds; the gateway asks its services for fractions too.
_WAIT = re.compile(r"""wait[ \t]*=[ \t]*"?([0-9]{1,9}(?:\.[0-9]{1,3})?)"?""", re.ASCII | re.IGNORECASE)


def preferred_wait(field: str | None) -> float | None:
    """The seconds of the first `wait` among the preferences; None without one that can be read."""
    for preference in (field or "").split(","):
        # What follows a semicolon are parameters, of which `wait` has none.
        if match := _WAIT.fullmatch(preference.partition(";")[0].strip(" \t")):
            return float(match[1])
    return None


def wait_preference(seconds: float) -> str:
    """The preference as it is sent, or reported as applied: `wait=5`."""
    return f"wait={round(seconds, 3):g}"
