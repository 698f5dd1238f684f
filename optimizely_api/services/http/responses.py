"""JSON responses of the services: their body, the shape of a list, the text of a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from optimizely_api.http.reasons import REASONS

# Headers of every response of an application, and of those that a connection writes before the application is reached.
RESPONSE_HEADERS = web.AppKey("response_headers", dict)


class JSONResponse(web.Response):
    """A response whose body is `value` as JSON."""

    def __init__(self, value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(
            body=orjson.dumps(value),
            status=status,
            reason=REASONS.get(status),
            headers=headers,
            content_type="application/json",
        )


def page_body(total: int, items: Sequence[Any]) -> dict[str, Any]:
    """The body of every list answer."""
    return {"total": total, "items": list(items)}


def format_time(moment: datetime) -> str:
    """ISO 8601 in UTC with `Z`; six decimals when there is a fraction, none otherwise."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
