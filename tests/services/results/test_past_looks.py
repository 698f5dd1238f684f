"""Looks at past times: exact whatever order the events arrive in, verdicts that stay, and amounts far out."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, true

from optimizely_api.services.results.ingest.growth import size_class, upper_bound
from optimizely_api.services.results.ingest.rollups import neutral_rank
from optimizely_api.services.results.query import cut_days
from optimizely_api.services.results.query.cut_days import add_cut_days
from optimizely_api.services.results.query.history import (
    DAILY_LOOKS,
    History,
    Scope,
    Visitors,
    _select_looks,
    load_histories,
)
from optimizely_api.services.results.query.measurement import Selection
from optimizely_api.services.results.query.questions import read_question
from optimizely_api.services.results.statistics.inference import compare, p_value, per_visitor
from optimizely_api.services.results.statistics.smoothing import Sizes, smoothed
from optimizely_api.services.storage.database import Database
from tests.services.conftest import migrate_to
from tests.services.results.conftest import Results
from tests.services.results.sending import (
    CONTROL,
    EXPERIMENT,
    HOUR,
    NOON,
    PURCHASE,
    SIGNUP,
    TREATMENT,
    conversion,
    impression,
    iso,
    metric,
    question,
)
from tests.services.results.test_aggregation import Happening, Person, send_all

SEED = 20260131
DAY = 24 * HOUR
C, T = str(CONTROL), str(TREATMENT)


def load_whole_history(connection: Connection) -> History:
    scope = Scope(EXPERIMENT, [CONTROL, TREATMENT], [PURCHASE, SIGNUP], true())
    (history,) = load_histories(connection, scope, [(0, 10**6, 0)], [Visitors()])
    return history


async def history_of(
    database_url: str, load: Callable[[Connection], History] = load_whole_history
) -> History:
    database = Database(database_url)
    try:
        async with database.snapshot() as connection:
            return await connection.run_sync(load)
    finally:
        await database.close()


def invent(rng: random.Random) -> dict[str, Person]:
    """Visitors of ten days, some of whom return on many; decisions that another one replaces; refunds."""
    people = {}
    for number in range(rng.randint(5, 40)):
        person = Person(None, [])
        for _ in range(rng.choice([1, 1, 1, 2])):
            at = NOON + rng.randint(0, 10) * DAY + rng.randint(0, DAY)
            person.decisions.append((at, rng.choice([CONTROL, TREATMENT])))
        for _ in range(rng.choice([0, 1, 2, 6])):
            at = person.decisions[0][0] + rng.randint(-DAY, 6 * DAY)
            event_id, value = (
                rng.choice([PURCHASE, SIGNUP]),
                rng.choice([None, rng.uniform(-1, 9), 1e10]),
            )
            person.conversions.append(
                Happening(at, event_id, None, rng.choice([None, -500, 7, 4_000]), value)
            )
        people[f"visitor {number}"] = person
    return people


def recompute(people: dict[str, Person], before: int, variation: int, event_id: int) -> list[list[float]]:
    """Of each visitor who entered and converted before then: events, revenue and value."""
    rows = []
    for name, person in people.items():
        entered, given = min(person.decisions, key=lambda one: (one[0], neutral_rank(name, one[1])))
        if given != variation or entered >= before:
            continue
        own = [
            item for item in person.conversions if item.event_id == event_id and entered <= item.at < before
        ]
        if own:
            amounts = [[item.revenue or 0, item.value or 0.0] for item in own]
            rows.append([float(len(own)), *(float(sum(column)) for column in zip(*amounts, strict=True))])
    return rows


@pytest.mark.parametrize(
    "seed", [1, 2, 3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 12))]
)
async def test_past_looks_equal_a_plain_recomputation(results: Results, database_url: str, seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    people = invent(rng)
    await send_all(results, people, rng)
    agree(await history_of(database_url), people)


def load_history_of_cut_days(connection: Connection) -> History:
    """The same as from the rollup: of the same visitors, all of whom are read."""
    body = question(metric(), metric(event_id=SIGNUP), end_time=iso(NOON + 30 * DAY))
    selection, visitors = Selection(connection, read_question(EXPERIMENT, body)), Visitors()
    times = [(NOON - DAY, NOON + DAY), (NOON + DAY, NOON + 20 * DAY)]
    assert add_cut_days(selection, times, visitors, most=0) is None
    assert not visitors.entered
    add_cut_days(selection, times, visitors, most=1_000)
    scope = Scope(EXPERIMENT, [CONTROL, TREATMENT], [PURCHASE, SIGNUP], true())
    (history,) = load_histories(connection, scope, [], [visitors])
    return history


@pytest.mark.parametrize("at_once", [3, cut_days.VISITORS_AT_ONCE])
async def test_past_looks_of_days_that_are_cut_equal_a_plain_recomputation(
    results: Results, database_url: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut_days, "VISITORS_AT_ONCE", at_once)
    people = invent(random.Random(SEED))
    await send_all(results, people, random.Random(SEED))
    history = await history_of(database_url, load_history_of_cut_days)
    assert list(history.days) == list((await history_of(database_url)).days)
    agree(history, people)


def agree(history: History, people: dict[str, Person]) -> None:
    for look, day in enumerate(history.days):
        before = (int(day) + 1) * DAY
        for variation in (CONTROL, TREATMENT):
            entered = [
                min(person.decisions, key=lambda one, name=name: (one[0], neutral_rank(name, one[1])))
                for name, person in people.items()
            ]
            visitors = sum(at < before and given == variation for at, given in entered)
            assert history.visitors[variation][look] == visitors
            for event_id in (PURCHASE, SIGNUP):
                rows = recompute(people, before, variation, event_id)
                for number, field in enumerate(("events", "revenue", "value")):
                    totals = history.totals_of([variation], event_id, field)[variation]
                    found, wanted = sums(totals, look), plain_sums(rows, number)
                    assert found.keys() == wanted.keys()
                    for size, parts in wanted.items():
                        assert found[size] == pytest.approx(parts, rel=1e-9)


def sums(totals: Sizes, look: int) -> dict[int, tuple[float, ...]]:
    """By size class: visitors, x, x squared, x times events."""
    return {
        int(size): tuple(float(part[index, look]) for part in (totals.visitors, totals.x, totals.xx, totals.x_events))
        for index, size in enumerate(totals.sizes)
        if totals.visitors[index, look]
    }  # fmt: skip


def plain_sums(rows: list[list[float]], number: int) -> dict[int, tuple[float, ...]]:
    found: dict[int, list[float]] = defaultdict(lambda: [0.0] * 4)
    for row in rows:
        x = row[number]
        if x:
            for index, part in enumerate((1, x, x * x, x * row[0])):
                found[size_class(x)][index] += part
    return {size: tuple(parts) for size, parts in found.items()}


def test_earlier_looks_stay_when_days_are_added() -> None:
    for count in (10, 365, 366, 400, 2_000):
        now, later = _select_looks(count), _select_looks(count + 30)
        assert set(now[:-1]) <= set(later)
        assert now[-1] == count - 1
    assert len(_select_looks(DAILY_LOOKS + 2_000)) <= 500


# Verdicts


async def send_day(results: Results, day: int, visitors: int, control: int, treatment: int) -> None:
    """So many visitors of each variation on that day, and how many of them convert."""
    entries = []
    for number in range(visitors):
        at = NOON + day * DAY + number
        for name, variation, converting in (("c", CONTROL, control), ("t", TREATMENT, treatment)):
            entries.append(impression(f"{name}{day}-{number}", variation, at))
            if number < converting:
                entries.append(conversion(f"{name}{day}-{number}", at=at + 1))
    await results.send(*entries)


async def test_a_verdict_stays_when_later_days_tell_less(results: Results) -> None:
    await send_day(results, 0, 600, 60, 120)
    first = (await results.ask())["metrics"][0]["results"][T]["lift"]
    await send_day(results, 1, 600, 120, 70)
    (answer,) = (await results.ask())["metrics"]
    lift = answer["results"][T]["lift"]
    assert first["lift_status"] == lift["lift_status"] == "better"
    assert lift["significance"] == first["significance"]
    assert lift["value"] == pytest.approx(190 / 180 - 1)  # the lift is the present one
    assert answer["conclusion"] == {"winner": T}
    fresh = question(metric())  # whoever asks for the first time gets the same
    _, again = await results.caller.post(f"/results/{EXPERIMENT}", fresh)
    assert again["metrics"][0] == answer


async def test_an_order_of_a_million_does_not_end_the_metric(results: Results) -> None:
    """2,000 visitors each, 200 and 320 buyers of about $50; the shown sum has every cent."""
    entries = []
    for number in range(2_000):
        for name, variation, buyers in (("c", CONTROL, 200), ("t", TREATMENT, 320)):
            entries.append(impression(f"{name}{number}", variation))
            if number < buyers:
                entries.append(conversion(f"{name}{number}", revenue=4_000 + number * 10))
    for first in range(0, len(entries), 1_000):
        await results.send(*entries[first : first + 1_000])
    revenue = metric("sum", field="revenue")
    before = (await results.ask(revenue))["metrics"][0]["results"]
    await results.send(impression("whale", CONTROL), conversion("whale", revenue=100_000_000))
    after = (await results.ask(revenue))["metrics"][0]["results"]
    assert before[T]["lift"]["lift_status"] == after[T]["lift"]["lift_status"] == "better"
    assert after[C]["value"] == before[C]["value"] + 100_000_000


# Smoothing


def sizes_of(amounts: Any) -> Sizes:
    """One look at these totals of visitors, each with one event."""
    amounts = amounts[amounts != 0]
    classes = np.sign(amounts).astype(int) * (np.frexp(amounts)[1] + size_class(0.5))
    sizes, index = np.unique(classes, return_inverse=True)
    ones = np.ones(len(amounts))
    parts = [np.bincount(index, weights=part)[:, None] for part in (ones, amounts, amounts**2, amounts, ones)]
    return Sizes(sizes, *parts)


def p_value_of(one: Any, other: Any) -> float:
    totals = smoothed({1: sizes_of(one), 2: sizes_of(other)})
    arms = [
        per_visitor(len(amounts), totals[number].visitors.sum(axis=0), *totals[number].sums[:2])
        for number, amounts in ((1, one), (2, other))
    ]
    return float(p_value(compare(arms[0], arms[1], "mean"))[0])


def orders(rng: np.random.Generator, visitors: int, buyers: int, sigma: float = 0.8) -> Any:
    amounts = np.zeros(visitors)
    amounts[:buyers] = 50 * rng.lognormal(-sigma * sigma / 2, sigma, buyers)
    return amounts


def test_an_amount_counts_for_at_most_eight_times_the_tenth_largest() -> None:
    amounts = np.array([1_000_000.0, *range(100, 120)])
    found = smoothed({1: sizes_of(amounts)})[1]
    assert float(found.sums[0][0]) == sum(range(100, 120)) + upper_bound(size_class(110)) * 4
    assert upper_bound(size_class(110)) * 4 <= 8 * 110


def test_amounts_that_are_not_far_out_stay_as_they_are() -> None:
    amounts = np.array([float(amount) for amount in (*range(100, 120), 500)])
    assert float(smoothed({1: sizes_of(amounts)})[1].sums[0][0]) == amounts.sum()


def test_smoothing_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULTS_SMOOTHING", "off")
    amounts = np.array([1_000_000.0, *range(100, 120)])
    assert float(smoothed({1: sizes_of(amounts)})[1].sums[0][0]) == amounts.sum()


@pytest.mark.parametrize(
    "experiments", [60, pytest.param(1_000, marks=pytest.mark.whole)], ids=["short", "whole"]
)
def test_20_percent_more_buyers_are_found_beside_an_order_of_a_million_in_either_arm(
    experiments: int,
) -> None:
    """10,000 visitors each, 2,000 and 2,400 buyers."""
    rng = np.random.default_rng(SEED)
    found = {"without it": 0, "in the baseline": 0, "in the treatment": 0}
    for _ in range(experiments):
        one, other = orders(rng, 10_000, 2_000), orders(rng, 10_000, 2_400)
        found["without it"] += p_value_of(one, other) <= 0.1
        for where, arm in (("in the baseline", one), ("in the treatment", other)):
            arm[-1] = 1_000_000
            found[where] += p_value_of(one, other) <= 0.1
            arm[-1] = 0
    print(f"significant of {experiments} (seed {SEED}): {found}")
    assert found["without it"] > 0.8 * experiments
    assert found["in the baseline"] >= 0.75 * found["without it"]
    assert found["in the treatment"] >= 0.9 * found["without it"]


@pytest.mark.parametrize(
    "experiments", [100, pytest.param(1_000, marks=pytest.mark.whole)], ids=["short", "whole"]
)
@pytest.mark.parametrize("sigmas", [(1.0, 1.0), (2.0, 2.0), (1.0, 2.0)], ids=str)
def test_smoothing_does_not_make_equal_means_differ(experiments: int, sigmas: tuple[float, float]) -> None:
    """Equal means, half of the visitors buy, 20 looks at up to 20,000 visitors in each variation."""
    rng = np.random.default_rng(SEED)
    ever = 0
    for _ in range(experiments):
        arms = [
            (rng.random(20_000) < 0.5) * rng.lognormal(-sigma * sigma / 2, sigma, 20_000) for sigma in sigmas
        ]
        ever += any(p_value_of(arms[0][:size], arms[1][:size]) <= 0.1 for size in range(1_000, 20_001, 1_000))
    print(f"sigma {sigmas}: ever significant in {ever} of {experiments} (seed {SEED})")
    assert ever <= experiments * 0.1 + 3 * (experiments * 0.09) ** 0.5


# Migration


async def test_what_was_stored_before_is_summed_up_by_day(results: Results, database_url: str) -> None:
    """Back to the revision before and forth again: the same totals by day, and the same growth."""
    print("seed", SEED)
    rng = random.Random(SEED)
    people = invent(rng)
    await send_all(results, people, rng)
    await migrate_to(database_url, "results", "0002")
    await migrate_to(database_url, "results", "head")
    agree(await history_of(database_url), people)
    await send_day(results, 20, 5, 1, 2)  # and storing goes on
