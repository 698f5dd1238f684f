"""The benchmark keeps working; its figures for 1,000,000 visitors are printed by running it as a script."""

from __future__ import annotations

from tests.services.results.benchmark_results import (
    QUESTIONS,
    TIME_SERIES,
    measure_answers,
    measure_posting,
)


async def test_answers_of_a_small_experiment_come_within_the_limit() -> None:
    figures = await measure_answers(3_000, seed=1)
    assert figures.keys() == {*QUESTIONS, TIME_SERIES}
    assert max(figures.values()) < 5.0  # whatever else the machine does


async def test_a_thousand_visitors_are_taken_within_seconds() -> None:
    """Far below what any machine does: this is to notice a blunder."""
    assert await measure_posting(1_000, seed=1, size=10, senders=8) < 20.0
