"""Verdicts at many points at once: each is the one that `judge` gives at its point."""

from __future__ import annotations

import random
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pytest

from optimizely_api.services.results.statistics.inference import (
    Arm,
    Comparison,
    Kind,
    Moments,
    compare_epochs,
    factor_to_significance,
    judge,
    per_visitor,
)
from optimizely_api.services.results.statistics.over_time import (
    Course,
    Looks,
    factors_to_significance,
    judge_points,
)

DAYS, TIERS, LEVEL = 40, [0, 1, 1], 0.9
KINDS: tuple[Kind, ...] = ("proportion", "mean", "mean")


def arm(rng: np.random.Generator, kind: Kind, effect: float) -> Moments:
    """A variation at DAYS looks; the effect ends halfway, so that looks differ."""
    moments = []
    totals = np.zeros(4)
    for day in range(DAYS):
        count = int(rng.integers(0, 300))
        share = 0.2 * (effect if day < DAYS // 2 else 2 - effect)
        x = (rng.random(count) < share).astype(float)
        if kind == "mean":
            x *= rng.lognormal(3, 1, count)
        totals += [count, (x > 0).sum(), x.sum(), (x * x).sum()]
        moments.append(totals.copy())
    return per_visitor(*np.array(moments).T)


def chosen(moments: Moments, looks: Any) -> Moments:
    return Moments(*(np.asarray(getattr(moments, field.name), float)[looks] for field in fields(Moments)))


@pytest.mark.parametrize("seed", range(8))
def test_every_verdict_is_that_of_judge(seed: int) -> None:
    rng, chance = np.random.default_rng(seed), random.Random(seed)
    effect = chance.choice([1.0, 1.2, 1.5])
    arms = [(arm(rng, kind, 1.0), arm(rng, kind, effect)) for kind in KINDS]
    lasting = np.array([day < 20 or day % 3 == 0 for day in range(DAYS)])
    before = np.array(sorted(chance.randint(0, DAYS) for _ in range(25)))
    own = np.array([number == 0 or chance.random() < 0.6 for number in before])
    moments = [chance.randrange(DAYS) for _ in before]  # each point's own
    known = [True, True, False]  # the third has no past looks, as a metric with a window
    courses = [
        Course(
            compare_epochs((a,), (b,), kind) if is_known else None,
            compare_epochs((chosen(a, moments),), (chosen(b, moments),), kind),
            "increasing",
        )
        for (a, b), kind, is_known in zip(arms, KINDS, known, strict=True)
    ]
    judged = judge_points(courses, Looks(lasting, before, own), LEVEL, TIERS)
    for number, end in enumerate(before):
        past = [day for day in range(end) if lasting[day] or day == end - 1]
        pairs = []
        for (a, b), kind, is_known in zip(arms, KINDS, known, strict=True):
            looks = [*past, moments[number]] if own[number] else past
            looks = looks if is_known else [moments[number]]
            pairs.append((Arm(chosen(a, looks), kind), Arm(chosen(b, looks), kind)))
        for course, expected in zip(judged, judge(pairs, LEVEL, TIERS), strict=True):
            assert asdict(course[number]) == asdict(expected)


def test_the_factors_of_an_array_are_those_of_its_members() -> None:
    rng = np.random.default_rng(20260131)
    count = 300
    comparison = Comparison(
        rng.uniform(0, 0.2, count),
        np.where(rng.random(count) < 0.1, np.nan, rng.uniform(0, 0.2, count)),
        *(rng.exponential(1e-4, count) for _ in range(2)),
        rng.exponential(2_000, count),
        np.where(rng.random(count) < 0.1, 0.0, rng.exponential(1, count)),
        rng.exponential(4_000, count),
    )
    factors = factors_to_significance(comparison, 0.1)
    one_by_one = [factor_to_significance(comparison.at(number), 0.1) for number in range(count)]
    assert [None if np.isnan(factor) else factor for factor in factors] == one_by_one
    assert sum(factor is None for factor in one_by_one) > 20
    assert sum(factor == 1.0 for factor in one_by_one) > 20


@pytest.mark.parametrize("kind", ["proportion", "mean"])
def test_an_epoch_that_has_no_visitors_yet_changes_nothing(kind: Kind) -> None:
    rng = np.random.default_rng(1)
    a, b, nobody = arm(rng, kind, 1.0), arm(rng, kind, 1.5), Moments()
    alone, with_epoch = compare_epochs((a,), (b,), kind), compare_epochs((a, nobody), (b, nobody), kind)
    for field in fields(Comparison):
        found, expected = getattr(with_epoch, field.name)[1:], getattr(alone, field.name)[1:]
        np.testing.assert_allclose(found, expected, err_msg=field.name)
