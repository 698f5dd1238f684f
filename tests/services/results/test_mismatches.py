"""A sample ratio mismatch is announced in a header, and once in the log."""

from __future__ import annotations

import logging

import pytest

from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    HOUR,
    NOON,
    TREATMENT,
    impression,
    iso,
    question,
)

EVEN = {str(CONTROL): 5_000, str(TREATMENT): 5_000}


async def header(results: Results, *epochs: dict[str, object]) -> str | None:
    url = f"{results.caller.url}/results/{EXPERIMENT}"
    async with results.caller.session.post(url, json=question(epochs=list(epochs) or None)) as response:
        assert response.status == 200, await response.text()
        return response.headers.get("X-Sample-Ratio-Mismatch")


async def send(results: Results, control: int, treatment: int, at: int = NOON) -> None:
    for variation, count in ((CONTROL, control), (TREATMENT, treatment)):
        await results.send(
            *[impression(f"{variation}-{at}-{number}", variation, at) for number in range(count)]
        )


async def test_a_mismatch_is_announced_and_logged_once(
    results: Results, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "optimizely_api.services.results")
    await send(results, 700, 400)
    epoch = {"start_time": iso(NOON - 3 * HOUR), "weights": EVEN}
    for _ in range(2):
        found = await header(results, epoch)
        assert found is not None
        assert 0 < float(found) < 0.01
    assert sum("sample ratio mismatch" in message for message in caplog.messages) == 1


async def test_there_is_no_header_while_visitors_come_as_the_weights_say(results: Results) -> None:
    await send(results, 310, 290)
    assert await header(results, {"start_time": iso(NOON - 3 * HOUR), "weights": EVEN}) is None
    assert await header(results) is None


async def test_each_epoch_has_its_own_weights(results: Results) -> None:
    await send(results, 900, 100)
    await send(results, 300, 300, NOON + 5 * HOUR)
    change = iso(NOON + 2 * HOUR)
    nine_to_one = {str(CONTROL): 9_000, str(TREATMENT): 1_000}
    first = {"start_time": iso(NOON - 3 * HOUR), "end_time": change, "weights": nine_to_one}
    assert await header(results, first, {"start_time": change, "weights": EVEN}) is None
    assert await header(results, {"start_time": iso(NOON - 3 * HOUR), "weights": EVEN}) is not None


@pytest.mark.parametrize("weights", [None, [], {"1": -1}, {"1": 1.5}, {"1": True}, {"x": 1}])
async def test_400_for_weights_that_are_none(results: Results, weights: object) -> None:
    body = question(epochs=[{"start_time": iso(NOON), "weights": weights}])
    status, _ = await results.caller.post(f"/results/{EXPERIMENT}", body)
    assert status == 400
