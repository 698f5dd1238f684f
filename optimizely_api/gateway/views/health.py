"""Whether the gateway is alive and ready: for load balancers, outside the contract and without a token."""

import asyncio
from typing import Any

from pyramid.request import Request
from pyramid.view import view_config

from optimizely_api.gateway.errors import GatewayError
from optimizely_api.upstream import calls
from optimizely_api.upstream.errors import RETRY_AFTER_SECONDS, UpstreamError

UPSTREAMS = ("projects", "experiments", "results")
LONGEST_CHECK_SECONDS = 2.0


@view_config(route_name="healthz", renderer="json")
async def healthz(request: Request) -> dict[str, str]:
    """200 as long as this worker answers at all."""
    return {"status": "ok"}


@view_config(route_name="readyz", renderer="json")
async def readyz(request: Request) -> dict[str, Any]:
    """200 when all services answer; else 503, whose `messages` say which do not, and why."""
    async with asyncio.TaskGroup() as group:
        checks = {name: group.create_task(_health(request, name)) for name in UPSTREAMS}
    failing = {f"/{name}": reason for name, check in checks.items() if (reason := check.result())}
    if failing:
        raise GatewayError(
            "upstream_unavailable",
            "Not ready: see messages.",
            messages=failing,
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    return {"status": "ready"}


async def _health(request: Request, upstream: str) -> str | None:
    """None when the service is well, or what is wrong with it."""
    try:
        async with asyncio.timeout(LONGEST_CHECK_SECONDS):
            await request.fetch(calls.check_health(upstream))
    except UpstreamError as exc:
        return exc.message
    except TimeoutError:
        return f"The {upstream} service did not answer within {LONGEST_CHECK_SECONDS:g} seconds."
    return None
