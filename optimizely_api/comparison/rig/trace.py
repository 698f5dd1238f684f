"""A trace of a few requests that arrive together: when each began and ended, and each of its upstream calls."""

import asyncio
import time
from typing import Any

from optimizely_api.comparison.rig.bench import Bench
from optimizely_api.comparison.rig.gateway import get
from optimizely_api.comparison.rig.upstreams import StubProcess

REQUESTS = 4
WARMING_REQUESTS = 4


async def traced(bench: Bench) -> list[dict[str, Any]]:
    """Send four requests together; times are seconds since the first was sent, calls as the upstreams saw them."""
    upstreams = bench.upstreams
    assert isinstance(upstreams, StubProcess)  # noqa: S101
    await asyncio.to_thread(bench.one_after_the_other, WARMING_REQUESTS)
    upstreams.record()
    sending = (asyncio.to_thread(_send, bench, f"traced-{number}") for number in range(REQUESTS))
    requests = await asyncio.gather(*sending)
    calls = upstreams.recorded()
    zero = min(start for start, _, _ in requests)
    return [
        {
            "start": round(start - zero, 4),
            "end": round(end - zero, 4),
            "status": status,
            "calls": [_call(call, zero) for call in calls if _is_of(call, f"traced-{number}")],
        }
        for number, (start, end, status) in enumerate(requests)
    ]


def _send(bench: Bench, request_id: str) -> tuple[float, float, int]:
    """Start, end and status of a request; its upstream calls carry its id."""
    start = time.monotonic()
    limit = bench.options.timeout_seconds * 2
    status = get("127.0.0.1", bench.port, bench.gateway.target, limit, {"X-Request-Id": request_id})
    return start, time.monotonic(), status


def _is_of(call: dict[str, Any], request_id: str) -> bool:
    """A call has the id of its request, and a number after a dot."""
    return str(call["request_id"]).rpartition(".")[0] == request_id


def _call(call: dict[str, Any], zero: float) -> dict[str, Any]:
    return {
        "service": call["service"],
        "path": call["path"],
        "begin": round(call["begin"] - zero, 4),
        "end": None if call["end"] is None else round(call["end"] - zero, 4),
    }
