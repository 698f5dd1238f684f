"""Results that take longer to compute than a request waits: 202, Retry-After, and one computation for all who ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.util import await_only

from optimizely_api.services.results import computations, handlers
from optimizely_api.services.results.computations import (
    Computations,
    Computed,
    Durations,
    Pending,
    TooManyComputations,
)
from tests.services.results.conftest import Results
from tests.services.results.sending import CONTROL, EXPERIMENT, NOON, impression, metric, question

SOON = {"Prefer": "wait=0.05"}
SHORTEST = 0.01


class Slow:
    """Makes measuring wait until it is let go, and counts how often it was begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = 0, asyncio.Event()
        measure = handlers.measure

        def slow_measure(*arguments: Any, **more: Any) -> Any:
            self.begun += 1
            await_only(self.go.wait())
            return measure(*arguments, **more)

        monkeypatch.setattr(handlers, "measure", slow_measure)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(monkeypatch)


async def ask(results: Results, what: str = "", asked: Any = None, **headers: str) -> Any:
    """(status, headers, body)."""
    url = f"{results.caller.url}/results/{EXPERIMENT}{what}"
    async with results.caller.session.post(url, json=asked or question(), headers=headers) as response:
        return response.status, response.headers, await response.json() if response.status == 200 else None


@pytest.mark.parametrize("what", ["", "/timeseries"])
async def test_202_says_when_to_ask_again_and_then_the_results_are_there(
    results: Results, slow: Slow, what: str
) -> None:
    await results.send(impression("ann", CONTROL, NOON))
    status, headers, _ = await ask(results, what, **SOON)
    assert (status, headers["Retry-After"]) == (202, "1")
    slow.go.set()
    status, _, body = await ask(results, what)
    assert (status, slow.begun) == (200, 1)
    assert body["is_stale"] is False
    assert (await ask(results, what, **SOON))[2] == body
    assert slow.begun == 1


async def test_without_a_preference_a_request_waits_until_the_results_are_there(
    results: Results, slow: Slow
) -> None:
    await results.send(impression("ann", CONTROL, NOON))
    asking = asyncio.create_task(ask(results))
    assert (await ask(results, **SOON))[0] == 202
    slow.go.set()
    assert (await asking)[0] == 200


async def test_requests_with_one_question_share_a_computation(results: Results, slow: Slow) -> None:
    await results.send(impression("ann", CONTROL, NOON))
    responses = await asyncio.gather(*(ask(results, **SOON) for _ in range(5)))
    assert [status for status, *_ in responses] == [202] * 5
    assert slow.begun == 1
    assert (await ask(results, asked=question(metric("count")), **SOON))[0] == 202
    assert slow.begun == 2


async def test_events_that_come_meanwhile_make_the_results_stale_and_no_poll_begins_anew(
    results: Results, slow: Slow
) -> None:
    await results.send(impression("ann", CONTROL, NOON))
    await ask(results, **SOON)
    await results.send(impression("bob", CONTROL, NOON))
    assert (await ask(results, **SOON))[0] == 202
    slow.go.set()
    _, headers, body = await ask(results)
    assert (body["is_stale"], body["reach"]["total_count"], slow.begun) == (True, 1, 1)
    assert "ETag" not in headers


async def test_what_was_kept_for_long_is_computed_anew(
    results: Results, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    await results.send(impression("ann", CONTROL, NOON))
    await ask(results, **SOON)
    slow.go.set()
    await ask(results)
    await results.send(impression("bob", CONTROL, NOON))
    assert (await ask(results))[2]["is_stale"] is True
    monkeypatch.setattr(computations, "KEPT_SECONDS", 0.0)
    _, _, body = await ask(results)
    assert (body["is_stale"], body["reach"]["total_count"]) == (False, 2)


async def test_204_after_a_202_too(results: Results, slow: Slow) -> None:
    assert (await ask(results, **SOON))[0] == 202
    slow.go.set()
    assert (await ask(results))[0] == 204


async def test_fast_results_count_every_event_at_once(results: Results) -> None:
    for number in range(5):
        await results.send(impression(f"visitor {number}", CONTROL, NOON))
        _, _, body = await ask(results, Prefer="wait=60")
        assert (body["is_stale"], body["reach"]["total_count"]) == (False, number + 1)


def never(begun: list[int]) -> Callable[[], Any]:
    async def compute() -> Computed:
        begun.append(1)
        await asyncio.Event().wait()
        raise AssertionError

    return compute


async def test_503_while_too_many_computations_go_on(
    results: Results, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computations, "MAX_UNATTENDED", 1)
    await results.send(impression("ann", CONTROL, NOON))
    assert (await ask(results, **SOON))[0] == 202
    status, headers, _ = await ask(results, asked=question(metric("count")), **SOON)
    assert (status, headers["Retry-After"]) == (503, "10")
    slow.go.set()
    assert (await ask(results))[0] == 200


async def test_a_computation_that_nobody_waits_for_any_more_is_cancelled() -> None:
    computing, begun = Computations(), []
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(computing.get("a", "q", 1, never(begun), None), SHORTEST)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(computing.get("a", "q", 1, never(begun), None), SHORTEST)
    assert len(begun) == 2
    await computing.close()


async def test_a_computation_that_nobody_asks_for_any_more_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computing, begun = Computations(), []
    assert isinstance(await computing.get("a", "q", 1, never(begun), SHORTEST), Pending)
    monkeypatch.setattr(computations, "ABANDONED_SECONDS", 0.0)
    await computing.get("b", "q", 1, never(begun), SHORTEST)
    monkeypatch.setattr(computations, "ABANDONED_SECONDS", 600.0)
    await computing.get("a", "q", 1, never(begun), SHORTEST)
    assert len(begun) == 3
    await computing.close()


async def test_a_failure_reaches_who_waits_and_the_next_one_begins_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    computing, go, begun = Computations(), asyncio.Event(), []

    async def fail() -> Computed:
        begun.append(1)
        await go.wait()
        raise ValueError("no such thing")

    assert isinstance(await computing.get("a", "q", 1, fail, SHORTEST), Pending)
    go.set()
    while "no such thing" not in caplog.text:
        await asyncio.sleep(0)
    with pytest.raises(ValueError, match="no such thing"):
        await computing.get("a", "q", 1, fail, None)
    assert len(begun) == 2


async def test_the_oldest_responses_go_when_they_take_too_much_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(computations, "MAX_KEPT_BYTES", 2_500)
    computing, go, begun = Computations(), asyncio.Event(), []

    async def compute() -> Computed:
        begun.append(1)
        await go.wait()
        return Computed({"is_stale": False, "name": "x" * 1_000}, 1)

    for about in "abc":
        go.clear()
        assert isinstance(await computing.get(about, "q", 1, compute, SHORTEST), Pending)
        go.set()
        assert isinstance(await computing.get(about, "q", 1, compute, None), Computed)
    for about, times in (("b", 3), ("c", 3), ("a", 4)):
        await computing.get(about, "q", 1, compute, None)
        assert len(begun) == times


async def test_too_many_are_refused_without_being_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computations, "MAX_UNATTENDED", 2)
    computing, begun = Computations(), []
    for about in "ab":
        await computing.get(about, "q", 1, never(begun), SHORTEST)
    with pytest.raises(TooManyComputations):
        await computing.get("c", "q", 1, never(begun), SHORTEST)
    assert isinstance(await computing.get("a", "q", 2, never(begun), SHORTEST), Pending)
    assert len(begun) == 3
    await computing.close()


@pytest.mark.parametrize(
    ("before", "elapsed", "seconds"),
    [
        pytest.param({}, 2.0, 2, id="the first one: twice as long as so far"),
        pytest.param({"a": [10.0]}, 2.0, 9, id="as long as before, and a tenth"),
        pytest.param({"a": [4.0, 10.0, 5.0]}, 2.0, 9, id="as the longest of the last ones"),
        pytest.param({"b": [4.0] * 4, "c": [20.0]}, 2.0, 20, id="as four in five of the others"),
        pytest.param({"a": [3.0]}, 6.0, 6, id="longer than before: twice as long as so far"),
        pytest.param({"a": [500.0]}, 2.0, 60, id="a minute at most"),
        pytest.param({"a": [1.0]}, 1.05, 1, id="a second at least"),
    ],
)
def test_retry_after_is_how_long_such_computations_took(
    before: dict[str, list[float]], elapsed: float, seconds: int
) -> None:
    durations = Durations()
    for about, taken in before.items():
        for duration in taken:
            durations.add(about, duration)
    assert durations.retry_after("a", elapsed) == seconds
