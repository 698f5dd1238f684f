"""The gateway's client before the real results service: what it keeps is confirmed, and new events are seen."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from optimizely_api.services.results import handlers as routes
from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.caching_client import CachingClient, CachingOptions
from optimizely_api.upstream.client import CallContext
from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    HOUR,
    NOON,
    TREATMENT,
    conversion,
    impression,
    iso,
    question,
)
from tests.upstream.versioned_service import FakeClock, caching_client


class Gateway:
    """A client with a clock of its own, and how often the service has computed."""

    def __init__(self, client: CachingClient, clock: FakeClock, measured: list[Any]) -> None:
        self.client, self.clock, self.measured = client, clock, measured

    async def results(self, **more: Any) -> Any:
        context = CallContext("8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", time.monotonic() + 10)
        return await self.client.fetch(calls.compute_results(EXPERIMENT, question(**more)), context)

    async def purchases(self, **more: Any) -> float:
        answer = await self.results(**more)
        return float(answer["metrics"][0]["results"][str(TREATMENT)]["value"])


@pytest_asyncio.fixture
async def gateway(results: Results, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    measured, measure, clock = [], routes.measure, FakeClock()
    monkeypatch.setattr(routes, "measure", lambda *given: measured.append(given) or measure(*given))
    await results.send(impression("ann", CONTROL), impression("bob", TREATMENT))
    async with caching_client(results.caller.url, CachingOptions(clock=clock.clock)) as client:
        yield Gateway(client, clock, measured)


@pytest.mark.parametrize("interval", [{}, {"end_time": iso(NOON + HOUR)}], ids=["open", "closed"])
async def test_unchanged_results_are_computed_once_and_are_the_same_object(
    gateway: Gateway, interval: dict[str, Any]
) -> None:
    value = await gateway.results(**interval)
    five_minutes = time.time() // 300
    for _ in range(3):
        gateway.clock.go_on(1)
        again = await gateway.results(**interval)
        assert again is value or time.time() // 300 != five_minutes
    assert len(gateway.measured) == 1 or time.time() // 300 != five_minutes


@pytest.mark.parametrize("interval", [{}, {"end_time": iso(NOON + HOUR)}], ids=["open", "closed"])
async def test_a_new_event_is_seen_within_a_second(
    gateway: Gateway, results: Results, interval: dict[str, Any]
) -> None:
    assert await gateway.purchases(**interval) == 0
    await results.send(conversion("bob"))
    gateway.clock.go_on(1)
    assert await gateway.purchases(**interval) == 1


async def test_the_first_visitor_is_seen_at_once(gateway: Gateway, results: Results) -> None:
    nobody = {"start_time": iso(NOON + 2 * HOUR)}
    assert await gateway.results(**nobody) is None
    await results.send(impression("eve", TREATMENT, NOON + 3 * HOUR))
    assert (await gateway.results(**nobody))["reach"]["total_count"] == 1
