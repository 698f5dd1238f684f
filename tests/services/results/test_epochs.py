"""Results count decisions by when the experiment ran, and compare visitors within times of unchanged weights."""

from __future__ import annotations

import random
from typing import Any

import pytest

from optimizely_api.services.experiments.runs import MAX_RUNS
from optimizely_api.services.results.ingest.rollups import neutral_rank
from optimizely_api.services.results.query.questions import MAX_EPOCHS
from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    TREATMENT,
    conversion,
    impression,
    iso,
    metric,
    question,
)
from tests.services.results.test_aggregation import GRID, METRICS, figures, invent, send_all

DAY = 24 * HOUR
C, T = str(CONTROL), str(TREATMENT)
EVEN, NINE_TO_ONE = {C: 5_000, T: 5_000}, {C: 9_000, T: 1_000}


def epoch(start: int, end: int | None = None, weights: dict[str, int] = EVEN) -> dict[str, Any]:
    """A time in which the experiment ran."""
    return {"start_time": iso(start), "end_time": None if end is None else iso(end), "weights": weights}


async def test_decisions_count_only_while_the_experiment_ran(results: Results) -> None:
    ran = [epoch(NOON, NOON + 2 * HOUR), epoch(NOON + 5 * HOUR)]
    counted = [NOON, NOON + 2 * HOUR - 1, NOON + 5 * HOUR]
    left_out = [NOON - 1, NOON + 2 * HOUR, NOON + 5 * HOUR - 1]
    await results.send(*[impression(f"in {at}", at=at) for at in counted])
    await results.send(*[impression(f"out {at}", at=at) for at in left_out])
    assert await results.figures(epochs=ran) == {C: (0, 3), T: (0, 0)}
    assert await results.figures() == {C: (0, 6), T: (0, 0)}


async def test_without_an_end_the_interval_ends_when_the_experiment_was_last_active(results: Results) -> None:
    paused = NOON + 90 * MINUTE + 7 * SECOND
    await results.send(impression("ann"), impression("bob"), impression("eve"))
    await results.send(conversion("ann", at=paused - 1), conversion("bob", at=paused))
    answer = await results.ask(epochs=[epoch(NOON, paused)])
    assert (answer["start_time"], answer["end_time"]) == (iso(NOON), iso(paused))
    assert answer["metrics"][0]["results"][C]["value"] == 1


async def test_conversions_after_the_pause_count_in_an_interval_that_is_asked_for(results: Results) -> None:
    paused = NOON + HOUR
    await results.send(impression("ann"), conversion("ann", at=paused + MINUTE))
    await results.send(impression("late", at=paused + MINUTE))
    explicit = {"end_time": iso(paused + HOUR)}
    assert await results.figures(epochs=[epoch(NOON, paused)], **explicit) == {C: (1, 1), T: (0, 0)}
    assert await results.figures(epochs=[epoch(NOON, paused)]) == {C: (0, 1), T: (0, 0)}


async def test_conversions_during_a_pause_that_is_over_count(results: Results) -> None:
    ran = [epoch(NOON, NOON + HOUR), epoch(NOON + 3 * HOUR)]
    await results.send(impression("ann"), conversion("ann", at=NOON + 2 * HOUR))
    assert await results.figures(epochs=ran) == {C: (1, 1), T: (0, 0)}


async def test_204_for_an_experiment_that_never_ran(results: Results) -> None:
    await results.send(impression("ann"))
    assert await results.figures(epochs=[]) == {}


async def test_an_experiment_may_have_run_as_often_as_runs_are_kept(results: Results) -> None:
    ran = [epoch(NOON + start, NOON + start + MINUTE) for start in range(0, MAX_EPOCHS * HOUR, HOUR)]
    assert MAX_EPOCHS == MAX_RUNS
    last = NOON + (MAX_EPOCHS - 1) * HOUR
    await results.send(*[impression(f"{at}", at=at) for at in (NOON, NOON + MINUTE, last, last + MINUTE)])
    assert await results.figures(epochs=ran) == {C: (0, 2), T: (0, 0)}


async def test_another_run_is_another_answer_with_another_etag(results: Results) -> None:
    await results.send(impression("ann"))
    tags = []
    for ran in (epoch(NOON, NOON + HOUR), epoch(NOON, NOON + 2 * HOUR)):
        url = f"{results.caller.url}/results/{EXPERIMENT}"
        async with results.caller.session.post(url, json=question(epochs=[ran])) as response:
            tags.append(response.headers["ETag"])
    assert tags[0] != tags[1]


@pytest.mark.parametrize("seed", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
async def test_figures_of_several_runs_equal_a_plain_recomputation(results: Results, seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    people = invent(rng)
    await send_all(results, people, rng)
    edges = sorted(NOON + rng.randint(0, 110) * GRID + rng.choice([0, 1, HOUR // 7]) for _ in range(6))
    runs = list(zip(edges[::2], edges[1::2], strict=True))
    weights = [rng.choice([EVEN, NINE_TO_ONE]) for _ in runs]
    epochs = [epoch(*run, weights=split) for run, split in zip(runs, weights, strict=True)]
    rows: dict[int, list[Any]] = {CONTROL: [], TREATMENT: []}
    for name, person in people.items():
        counting = [
            (at, variation)
            for at, variation in person.decisions
            if variation in rows and any(start <= at < end for start, end in runs)
        ]
        if counting:
            entered, variation = min(counting, key=lambda one: (one[0], neutral_rank(name, one[1])))
            amounts = [1.0 for item in person.conversions if entered <= item.at < edges[-1]]
            rows[variation].append((person, entered, amounts))
    reached = sum(map(len, rows.values()))
    assert reached
    answer = await results.ask(*METRICS, epochs=epochs, stats_config={"epoch_enabled": True})
    assert answer["reach"]["total_count"] == reached
    purchases = METRICS.index(metric("count"))
    for variation, members in rows.items():
        own = [
            [1.0 for item in person.conversions if item.event_id == 9201 and entered <= item.at < edges[-1]]
            for person, entered, _ in members
        ]
        value, samples, variance = figures(METRICS[purchases], own)
        found = answer["metrics"][purchases]["results"][str(variation)]
        assert (found["value"], found["samples"]) == (value, samples)
        assert found.get("variance") == (None if variance is None else pytest.approx(variance))


# Looks at the past


async def send_day(results: Results, day: int, arms: dict[int, tuple[int, int]], at: int = 0) -> None:
    """So many visitors of each variation on that day, and how many of them convert."""
    entries = []
    for variation, (visitors, converting) in arms.items():
        for number in range(visitors):
            name, entered = f"{variation}-{day}-{number}-{at}", NOON + day * DAY + at + number
            entries.append(impression(name, variation, entered))
            if number < converting:
                entries.append(conversion(name, at=entered + 1))
    await results.send(*entries)


async def test_a_verdict_stays_whatever_comes_while_the_experiment_is_paused(results: Results) -> None:
    await send_day(results, 0, {CONTROL: (300, 30), TREATMENT: (300, 75)})
    await send_day(results, 1, {CONTROL: (300, 60), TREATMENT: (300, 45)})
    ran = [epoch(NOON, NOON + DAY + HOUR)]
    before = (await results.ask(epochs=ran))["metrics"][0]["results"][T]
    assert before["lift"]["lift_status"] == "better"
    stray = [impression("early", TREATMENT, NOON - HOUR), impression("late", CONTROL, NOON + DAY + 2 * HOUR)]
    await results.send(*stray, conversion("early"), conversion(f"{TREATMENT}-1-299-0", at=NOON + 3 * DAY))
    after = (await results.ask(epochs=ran))["metrics"][0]["results"][T]
    assert after == before


# Changes of the weights


async def drift(results: Results, **more: Any) -> Any:
    """Rate .10 with weights 9:1, then .05 with 1:1: the variations are alike. Returns treatment's results."""
    await send_day(results, 0, {CONTROL: (900, 90), TREATMENT: (100, 10)})
    await send_day(results, 0, {CONTROL: (500, 25), TREATMENT: (500, 25)}, at=4 * HOUR)
    change = NOON + 2 * HOUR
    epochs = [epoch(NOON, change, NINE_TO_ONE), epoch(change, None)]
    return (await results.ask(epochs=epochs, **more))["metrics"][0]["results"]


async def test_variations_are_compared_within_times_of_unchanged_weights(results: Results) -> None:
    found = await drift(results, stats_config={"epoch_enabled": True})
    assert found[T]["lift"]["value"] == pytest.approx(0)
    assert found[T]["lift"]["significance"] == 0
    # What is shown is that of all visitors.
    assert (found[C]["value"], found[C]["samples"], found[C]["rate"]) == (115, 1400, 115 / 1400)
    assert (found[T]["value"], found[T]["samples"], found[T]["rate"]) == (35, 600, 35 / 600)


async def test_epochs_are_used_unless_they_are_switched_off(results: Results) -> None:
    assert (await drift(results, stats_config={}))[T]["lift"]["value"] == pytest.approx(0)
    pooled = await results.ask(
        epochs=[epoch(NOON, NOON + 2 * HOUR, NINE_TO_ONE), epoch(NOON + 2 * HOUR)],
        stats_config={"epoch_enabled": False},
    )
    assert pooled["metrics"][0]["results"][T]["lift"]["value"] == pytest.approx(35 / 600 / (115 / 1400) - 1)


async def test_a_pause_without_a_change_of_weights_begins_no_epoch(results: Results) -> None:
    await send_day(results, 0, {CONTROL: (90, 9), TREATMENT: (10, 1)})
    await send_day(results, 0, {CONTROL: (50, 2), TREATMENT: (50, 2)}, at=4 * HOUR)
    ran = [epoch(NOON, NOON + HOUR), epoch(NOON + 2 * HOUR, None, {C: 2_500, T: 2_500})]
    lift = (await results.ask(epochs=ran))["metrics"][0]["results"][T]["lift"]
    assert lift["value"] == pytest.approx(3 / 60 / (11 / 140) - 1)


async def test_a_segment_is_compared_within_epochs_too(results: Results) -> None:
    segment = {"segment_conditions": '["not", {"name": "nothing", "match_type": "exists"}]'}
    found = await drift(results, stats_config={"epoch_enabled": True}, segment=segment)
    assert found[T]["lift"]["value"] == pytest.approx(0)
    assert found[C]["samples"] == 1400
