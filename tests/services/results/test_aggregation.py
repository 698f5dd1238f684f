"""The rollups agree with a plain recomputation from the events, whatever order they arrive in."""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest

from optimizely_api.services.results.ingest.rollups import neutral_rank
from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    HOUR,
    MINUTE,
    NOON,
    PLAN,
    PROJECT,
    PURCHASE,
    SIGNUP,
    TREATMENT,
    attribute,
    conversion,
    impression,
    iso,
    metric,
)

SEEDS = [1, 2, 3, 4]
GRID = 5 * MINUTE  # many events fall on the edges of intervals, and on one another
METRICS = [
    metric(aggregator, event_id, scope=scope, **field)
    for aggregator, field in (
        ("unique", {}),
        ("count", {}),
        ("sum", {"field": "revenue"}),
        ("sum", {"field": "value"}),
    )
    for event_id in (PURCHASE, SIGNUP, None)
    for scope in ("visitor", "event")
]


@dataclass
class Happening:
    """A conversion as the plain recomputation sees it."""

    at: int
    event_id: int
    project_id: int | None
    revenue: int | None
    value: float | None


@dataclass
class Person:
    """A visitor: decisions as (time, variation), one project for all of them."""

    project_id: int | None
    plans: list[str]
    decisions: list[tuple[int, int]] = field(default_factory=list)
    conversions: list[Happening] = field(default_factory=list)


def invent(rng: random.Random) -> dict[str, Person]:
    people = {}
    for number in range(rng.randint(5, 60)):
        person = Person(
            rng.choice([PROJECT, PROJECT, None, 9002]), rng.sample(["gold", "silver"], rng.randint(0, 2))
        )
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            at = NOON + rng.randint(0, 100) * GRID + rng.choice([0, 0, 1, -1])
            person.decisions.append((at, rng.choice([CONTROL, TREATMENT, TREATMENT, 9999])))
        for _ in range(rng.choice([0, 0, 1, 1, 2, 5])):
            at = rng.choice([at for at, _ in person.decisions] or [NOON]) + rng.choice(
                [0, 0, -1, 1]
            ) * rng.randint(0, 3 * HOUR)
            project = rng.choice([PROJECT, PROJECT, None, 9002])
            revenue, value = (
                rng.choice([None, rng.randint(-500, 5000)]),
                rng.choice([None, rng.uniform(-1, 9)]),
            )
            person.conversions.append(
                Happening(at, rng.choice([PURCHASE, SIGNUP, 9203]), project, revenue, value)
            )
        people[f"visitor {number}"] = person
    return people


async def send_all(results: Results, people: dict[str, Person], rng: random.Random) -> None:
    """Everything in any order, in batches of any size, some of it twice."""
    waiting: list[tuple[int | None, Any]] = []
    for name, person in people.items():
        plans = [attribute("plan", plan) for plan in person.plans]
        waiting += [
            (person.project_id, impression(name, variation, at, attributes=plans))
            for at, variation in person.decisions
        ]
        for item in person.conversions:
            given = {"revenue": item.revenue, "value": item.value}
            more = {key: number for key, number in given.items() if number is not None}
            entry = conversion(name, item.event_id, item.at, attributes=plans, **more)
            waiting.append((item.project_id, entry))
    waiting += rng.sample(waiting, len(waiting) // 4)
    rng.shuffle(waiting)
    while waiting:
        size = rng.randint(1, 25)
        together: dict[int | None, list[Any]] = defaultdict(list)
        for project, entry in waiting[:size]:
            together[project].append(entry)
        waiting = waiting[size:]
        for project, entries in together.items():
            await results.send(*entries, project_id=None if project is None else str(project))


def recompute(
    people: dict[str, Person],
    definition: dict[str, Any],
    start: int | None,
    end: int | None,
    plan: str | None,
) -> dict[str, tuple[float, int, float | None]]:
    """(value, samples, variance) by variation, from the events alone."""
    per_visitor: dict[int, list[list[float]]] = {CONTROL: [], TREATMENT: []}
    for name, person in people.items():
        if plan is not None and plan not in person.plans:
            continue
        counting = [(at, variation) for at, variation in person.decisions if variation in per_visitor]
        if not counting:
            continue
        entered, variation = min(counting, key=lambda one: (one[0], neutral_rank(name, one[1])))
        if not (start or 0) <= entered < (end or 10**15):
            continue
        amounts = [
            amount_of(definition, item)
            for item in person.conversions
            if entered <= item.at < (end or 10**15)
            and (
                item.event_id == definition["event_id"]
                or (
                    definition["event_id"] is None
                    and (item.project_id or person.project_id or PROJECT) == PROJECT
                )
            )
        ]
        per_visitor[variation].append(amounts)
    return {str(variation): figures(definition, rows) for variation, rows in per_visitor.items()}


def amount_of(definition: dict[str, Any], item: Happening) -> float:
    amount = {"revenue": item.revenue, "value": item.value}.get(definition.get("field", ""), 1)
    return amount or 0


def figures(definition: dict[str, Any], rows: list[list[float]]) -> tuple[float, int, float | None]:
    if definition["aggregator"] == "unique":
        samples = [float(bool(row)) for row in rows]
        if definition["scope"] == "event":
            samples = [float(index == 0) for row in rows for index in range(len(row))]
        variance = statistics.pvariance(samples) if samples else None
    else:
        samples = (
            [sum(row) for row in rows]
            if definition["scope"] == "visitor"
            else [amount for row in rows for amount in row]
        )
        variance = None if not samples else statistics.variance(samples) if len(samples) > 1 else 0.0
    return sum(samples), len(samples), variance


INTERVALS = [
    (None, None),
    (NOON, None),
    (NOON + 30 * GRID, None),
    (None, NOON + 60 * GRID),
    (NOON + 5 * GRID, NOON + 40 * GRID),
    (NOON + 12 * GRID, NOON + 24 * GRID),
    (NOON + HOUR, NOON + 200 * GRID),
]


@pytest.mark.parametrize("seed", SEEDS)
async def test_answers_equal_a_plain_recomputation(results: Results, seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    people = invent(rng)
    await send_all(results, people, rng)
    for start, end in INTERVALS:
        for plan in (None, "gold"):
            times = {"start_time": start, "end_time": end}
            more: dict[str, Any] = {name: iso(time) for name, time in times.items() if time is not None}
            if plan is not None:
                more["segment"] = {"attribute_id": PLAN, "attribute_value": plan}
            await compare(results, people, start, end, plan, more)


async def compare(
    results: Results,
    people: dict[str, Person],
    start: int | None,
    end: int | None,
    plan: str | None,
    more: dict[str, Any],
) -> None:
    expected = [recompute(people, definition, start, end, plan) for definition in METRICS]
    reached = sum(samples for _, samples, _ in expected[0].values())
    if not reached:
        assert await results.figures(**more) == {}
        return
    answer = await results.ask(*METRICS, **more)
    assert answer["reach"]["total_count"] == reached
    for definition, wanted, found in zip(METRICS, expected, answer["metrics"], strict=True):
        for variation, (value, samples, variance) in wanted.items():
            result = found["results"][variation]
            where = (definition, more, variation)
            assert result["samples"] == samples, where
            assert result["value"] == pytest.approx(value, abs=1e-9), where
            assert ("variance" in result) == (variance is not None), where
            if variance is not None:
                assert result["variance"] == pytest.approx(variance, rel=1e-9, abs=1e-6), where


VALUE_METRICS = [
    metric("sum", field=field, scope=scope)
    for field in ("value", "revenue")
    for scope in ("visitor", "event")
]


async def variances(results: Results) -> list[float]:
    """The variance of each of VALUE_METRICS for control, from the rollups."""
    answer = await results.ask(*VALUE_METRICS)
    return [measured["results"][str(CONTROL)]["variance"] for measured in answer["metrics"]]


async def send_small_purchases(results: Results) -> list[float]:
    """200 visitors of control with small values; returns the variances of VALUE_METRICS."""
    values = [1.5 + number % 3 / 10 for number in range(200)]
    await results.send(
        *[
            entry
            for number, value in enumerate(values)
            for entry in (impression(f"v{number}"), conversion(f"v{number}", value=value, revenue=number % 7))
        ]
    )
    revenues = [float(number % 7) for number in range(200)]
    return [statistics.variance(amounts) for amounts in (values, values, revenues, revenues)]


@pytest.mark.parametrize("is_first", [True, False])
async def test_small_numbers_are_still_there_when_the_largest_moves_away(
    results: Results, is_first: bool
) -> None:
    largest = impression("big"), conversion("big", value=1e11 - 0.37, revenue=10**11)
    if is_first:
        await results.send(*largest)
    expected = await send_small_purchases(results)
    if not is_first:
        await results.send(*largest)
    await results.send(impression("big", TREATMENT, NOON - 1))
    assert await variances(results) == pytest.approx(expected, rel=1e-9)


async def test_small_numbers_are_still_there_when_a_large_one_is_refunded(results: Results) -> None:
    await results.send(impression("big"), conversion("big", value=1e10, revenue=10**10))
    await send_small_purchases(results)
    await results.send(conversion("big", value=-1e10, revenue=-(10**10)))
    values = [0.0, *(1.5 + number % 3 / 10 for number in range(200))]
    by_visitor = (await variances(results))[0]
    assert by_visitor == pytest.approx(statistics.variance(values), rel=1e-9)
