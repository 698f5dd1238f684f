"""Credentials for the store that events are exported to; no store can be set up yet."""

import re
from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.errors import BadRequest, GatewayError
from optimizely_api.gateway.resource import operation

SHORTEST_MINUTES, LONGEST_MINUTES = 15, 60

_DURATION = re.compile(r"([0-9]{1,4})([hHmM])", re.ASCII)
_MINUTES = {"m": 1, "h": 60}


@operation
async def get_enriched_events_export_credentials(request: Request) -> dict[str, Any]:
    minutes_of(request.swagger_data["duration"])
    raise GatewayError(
        "forbidden",
        "There is nothing to get credentials for: exports need an S3-compatible store, and this release has no setting"
        " for one, so that no events are exported. The results of experiments are at"
        " /v2/experiments/{experiment_id}/results.",
    )


def minutes_of(duration: str) -> int:
    """How many minutes `15m` or `1h` are; raises BadRequest unless they are 15 to 60."""
    if written := _DURATION.fullmatch(duration):
        minutes = int(written[1]) * _MINUTES[written[2].lower()]
        if SHORTEST_MINUTES <= minutes <= LONGEST_MINUTES:
            return minutes
    problem = "must be from 15m to 1h, such as 30m"
    raise BadRequest(f"duration {problem}.", {"/query/duration": problem})
