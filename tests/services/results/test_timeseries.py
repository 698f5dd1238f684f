"""POST /results/{experiment_id}/timeseries: every point is what the results of an interval that ends there say."""

from __future__ import annotations

import random
from typing import Any

import pytest

from optimizely_api.services.results.query import points
from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    HOUR,
    MINUTE,
    NOON,
    PURCHASE,
    SIGNUP,
    TREATMENT,
    attribute,
    conversion,
    impression,
    iso,
    metric,
    question,
)
from tests.services.results.test_aggregation import send_all
from tests.services.results.test_epochs import NINE_TO_ONE, epoch
from tests.services.results.test_past_looks import DAY, invent

OF_POINTS = ("value", "samples", "rate", "variance", "lift")
METRICS = (
    metric("unique"),
    metric("count", SIGNUP, winning_direction="decreasing"),
    metric("sum", field="revenue"),
    metric("sum", None, field="value"),
    metric("sum", field="revenue", scope="event"),
    metric("unique", None, scope="event"),
    metric("unique", SIGNUP, time_window="30h"),
)
TEN_DAYS = {"end_time": iso(NOON + 10 * DAY + 35 * MINUTE)}
A_DAY = {"start_time": iso(NOON + 2 * DAY + 20 * MINUTE), "end_time": iso(NOON + 3 * DAY + 10 * MINUTE)}
PAUSED = [
    epoch(NOON - DAY, NOON + 3 * DAY + 7 * MINUTE),
    epoch(NOON + 4 * DAY, NOON + 6 * DAY),
    epoch(NOON + 6 * DAY, None, NINE_TO_ONE),
]
EPOCHS = {"epochs": PAUSED, "stats_config": {"confidence_level": 0.9, "epoch_enabled": True}}


async def timeseries(results: Results, *metrics: dict[str, Any], **more: Any) -> Any:
    status, body = await results.caller.post(f"/results/{EXPERIMENT}/timeseries", question(*metrics, **more))
    assert status == 200, body
    return body


def at(body: Any, time: str) -> list[dict[str, Any]]:
    """What the series of all metrics have at a time."""
    return [
        {
            variation: next(
                {name: point[name] for name in OF_POINTS if name in point}
                for point in variant["timeseries"]
                if point["time"] == time
            )
            for variation, variant in one["results"].items()
        }
        for one in body["metrics"]
    ]


def figures(body: Any) -> list[dict[str, Any]]:
    """The same of results."""
    return [
        {
            variation: {name: variant[name] for name in OF_POINTS if name in variant}
            for variation, variant in one["results"].items()
        }
        for one in body["metrics"]
    ]


def times(body: Any) -> list[str]:
    return [point["time"] for point in body["metrics"][0]["results"][str(CONTROL)]["timeseries"]]


def assert_close(found: Any, expected: Any, place: str = "") -> None:
    """Equal, but for the rounding of sums that were added up in another order."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for key, value in expected.items():
            assert_close(found[key], value, f"{place}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for index, value in enumerate(expected):
            assert_close(found[index], value, f"{place}/{index}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9), place
    else:
        assert found == expected, place


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(TEN_DAYS, id="days"),
        pytest.param(
            {**TEN_DAYS, "start_time": iso(NOON + DAY + 5 * MINUTE)}, id="days from a day that is cut"
        ),
        pytest.param({**TEN_DAYS, **EPOCHS}, id="days with a pause and new weights"),
        pytest.param({**TEN_DAYS, "segment": {"browser": "chrome"}}, id="days of a segment"),
        pytest.param({"end_time": iso(NOON + 40 * DAY)}, id="days, the last ones after all activity"),
        pytest.param(A_DAY, id="hours"),
        pytest.param({**A_DAY, **EPOCHS}, id="hours with a pause"),
    ],
)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_each_point_equals_the_results_up_to_then(results: Results, asked: Any, seed: int) -> None:
    rng = random.Random(seed)
    people = invent(rng)
    await send_all(results, people, rng)
    for name in people:
        browser = attribute("browser", rng.choice(["chrome", "firefox"]))
        await results.send(
            {**conversion(name, PURCHASE, NOON + 30 * DAY, revenue=1), "attributes": [browser]}
        )
    body = await timeseries(results, *METRICS, **asked)
    assert times(body)[-1] == body["end_time"]
    for time in times(body)[:-1]:
        then = await results.ask(*METRICS, **{**asked, "end_time": time})
        assert_close(at(body, time), figures(then), time)


@pytest.mark.parametrize("asked", [TEN_DAYS, {}, {**TEN_DAYS, **EPOCHS}])
async def test_the_last_point_equals_the_results_exactly(results: Results, asked: Any) -> None:
    rng = random.Random(3)
    await send_all(results, invent(rng), rng)
    body = await timeseries(results, *METRICS, **asked)
    now = await results.ask(*METRICS, **asked)
    assert at(body, body["end_time"]) == figures(now)
    assert {name: body[name] for name in ("start_time", "stats_config", "is_stale")} == {
        name: now[name] for name in ("start_time", "stats_config", "is_stale")
    }


async def test_points_are_full_hours_up_to_seven_days_and_the_end(results: Results) -> None:
    await results.send(impression("ann", CONTROL, NOON + 5 * MINUTE))
    body = await timeseries(results, end_time=iso(NOON + 7 * DAY + 5 * MINUTE))
    assert times(body)[:2] == [iso(NOON + HOUR), iso(NOON + 2 * HOUR)]
    assert times(body)[-2:] == [iso(NOON + 7 * DAY), iso(NOON + 7 * DAY + 5 * MINUTE)]
    assert len(times(body)) == 7 * 24 + 1


async def test_points_are_full_days_above(results: Results) -> None:
    await results.send(impression("ann", CONTROL, NOON))
    body = await timeseries(results, end_time=iso(NOON + 8 * DAY))
    midnight = NOON + 12 * HOUR
    assert times(body) == [*(iso(midnight + day * DAY) for day in range(8)), iso(NOON + 8 * DAY)]


async def test_at_most_500_points_whole_days_apart(results: Results) -> None:
    await results.send(impression("ann", CONTROL, NOON - 900 * DAY))
    body = await timeseries(results, end_time=iso(NOON))
    assert 400 < len(times(body)) <= 500
    assert all(time.endswith("T00:00:00Z") for time in times(body)[:-1])


async def test_points_before_the_first_visitor_are_left_out(results: Results) -> None:
    await results.send(impression("ann", CONTROL, NOON))
    body = await timeseries(results, start_time=iso(NOON - 3 * HOUR), end_time=iso(NOON + 2 * HOUR))
    assert times(body) == [iso(NOON + HOUR), iso(NOON + 2 * HOUR)]


async def test_many_series_have_fewer_points_together(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "MAX_DATAPOINTS", 120)
    await results.send(impression("ann", CONTROL, NOON))
    body = await timeseries(results, *[metric()] * 6, end_time=iso(NOON + DAY))
    assert len(times(body)) == 8  # of 2 variations and 6 metrics: every three hours


async def test_metrics_that_are_not_computed_have_no_series(results: Results) -> None:
    await results.send(impression("ann", CONTROL, NOON), impression("bob", TREATMENT, NOON))
    body = await timeseries(results, metric(), metric("bounce"), end_time=iso(NOON + HOUR))
    assert [bool(one["results"]) for one in body["metrics"]] == [True, False]
    assert "reach" not in body
    assert "conclusion" not in body["metrics"][0]


async def test_204_when_nobody_lies_in_the_interval(results: Results) -> None:
    path = f"/results/{EXPERIMENT}/timeseries"
    assert await results.caller.post(path, question()) == (204, None)
    assert await results.caller.post(path, {**question(), "variations": []}) == (204, None)
