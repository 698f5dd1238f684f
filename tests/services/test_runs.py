"""The times in which an experiment ran, as it is asked about by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from optimizely_api.services.experiments.runs import MAX_RUNS, Run, dump, load

BEGIN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def runs(count: int) -> list[Run]:
    """Half of each hour, each with weights of its own."""
    starts = [BEGIN + timedelta(hours=number) for number in range(count)]
    return [Run(start, start + timedelta(minutes=30), {"1": number}) for number, start in enumerate(starts)]


def test_runs_are_kept_one_by_one() -> None:
    assert list(load(dump(runs(MAX_RUNS)))) == runs(MAX_RUNS)


def test_of_too_many_runs_the_oldest_are_taken_for_one() -> None:
    made = runs(MAX_RUNS + 3)
    first, *others = load(dump(made))
    assert first == Run(BEGIN, made[3].end, {"1": 3})
    assert others == made[4:]
