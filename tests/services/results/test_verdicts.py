"""What a verdict promises, by simulation: tiers, running looks, epochs, sample ratios."""

from __future__ import annotations

import math
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest

from optimizely_api.services.results.statistics.inference import (
    Arm,
    Moments,
    compare,
    compare_epochs,
    judge,
    p_value,
    per_visitor,
)
from optimizely_api.services.results.statistics.sample_ratio import ALARM, mismatch_p_value
from optimizely_api.services.results.statistics.tiers import discoveries, tier_of

SEED = 20260131
EXPERIMENTS = [pytest.param(400, id="short"), pytest.param(4_000, id="whole", marks=pytest.mark.whole)]
ALPHA = 0.1


def tolerance(share: float, experiments: int) -> float:
    """Three standard errors of a share among so many experiments."""
    return 3 * math.sqrt(share * (1 - share) / experiments)


def shares(visitors: Any, conversions: Any) -> Moments:
    return per_visitor(visitors, conversions, conversions, conversions)


def converted(rng: np.random.Generator, experiments: int, sizes: Any, rate: float) -> Moments:
    """Conversions at the sizes, of so many experiments: arrays of (experiment, look)."""
    steps = np.diff(sizes, prepend=0)
    return shares(sizes, np.cumsum(rng.binomial(steps, rate, (experiments, len(steps))), axis=1))


# V1: tiers


@pytest.mark.parametrize("experiments", EXPERIMENTS)
def test_the_primary_metric_is_found_as_often_beside_others_as_alone(experiments: int) -> None:
    """+8 % of 10 %, 20,000 visitors in each variation on 30 days, 90 %; the other metrics have no effect."""
    rng = np.random.default_rng(SEED)
    sizes = np.linspace(667, 20_000, 30).astype(int)
    found = []
    for others in (0, 1, 4, 9, 19):
        arms = [
            (converted(rng, experiments, sizes, 0.1), converted(rng, experiments, sizes, rate))
            for rate in (0.108, *[0.1] * others)
        ]
        p_values = np.stack([p_value(compare(a, b, "proportion")).min(axis=1) for a, b in arms], axis=1)
        tiers = [tier_of(position) for position in range(1 + others)]
        verdicts = [discoveries(row, np.ones(len(row), bool), tiers, ALPHA) for row in p_values]
        found.append(float(np.mean([row[0].is_significant for row in verdicts])))
        for tier in sorted(set(tiers) - {0}):  # all are null there: one discovery makes the proportion 1
            false = [
                any(f.is_significant for f, t in zip(row, tiers, strict=True) if t == tier)
                for row in verdicts
            ]
            print(
                f"{others} others, tier {tier}: false discovery proportion {np.mean(false):.3f} (seed {SEED})"
            )
            assert np.mean(false) <= ALPHA
    print(f"primary found alone and beside 1, 4, 9, 19: {found} of {experiments} (seed {SEED})")
    assert found[0] == pytest.approx(0.52, abs=tolerance(0.52, experiments))
    # Drawn anew for each number of metrics: two shares differ by chance too.
    assert found[1:] == pytest.approx([found[0]] * 4, abs=max(0.035, 1.5 * tolerance(0.5, experiments)))


def test_further_metrics_change_nothing_of_the_primary_metrics_verdict() -> None:
    borderline = (Arm(shares(5_000, 500), "proportion"), Arm(shares(5_000, 600), "proportion"))
    nothing = (Arm(shares(5_000, 500), "proportion"), Arm(shares(5_000, 501), "proportion"))
    (alone,) = judge([borderline], 0.95, [0])
    for others in (1, 4, 19):
        tiers = [tier_of(position) for position in range(1 + others)]
        assert judge([borderline, *[nothing] * others], 0.95, tiers)[0] == alone


def test_the_first_metric_then_four_then_the_rest_make_the_tiers() -> None:
    assert [tier_of(position) for position in range(8)] == [0, 1, 1, 1, 1, 2, 2, 2]


# V2: looks


@pytest.mark.parametrize("experiments", EXPERIMENTS)
def test_over_30_looks_verdicts_stay_and_as_few_are_wrong_as_before(experiments: int) -> None:
    """Ever significant is the same event before and after; significant on day 30 was .53, .51 and .38."""
    rng = np.random.default_rng(SEED)
    for name, daily, one, other, at_least in (
        ("A/A", 500, 0.1, 0.1, None),
        ("+8 % of 10 %", 667, 0.1, 0.108, 0.55),
    ):
        sizes = np.arange(1, 31) * daily
        comparison = compare(
            converted(rng, experiments, sizes, one), converted(rng, experiments, sizes, other), "proportion"
        )
        each = p_value(comparison)
        running = np.minimum.accumulate(each, axis=1)
        ever, last, kept = ((p <= ALPHA).mean() for p in (each.min(axis=1), each[:, -1], running[:, -1]))
        print(f"{name}: ever {ever:.3f}, last look alone {last:.3f}, running {kept:.3f} (seed {SEED})")
        assert kept == ever
        if at_least is None:
            assert kept <= ALPHA
        else:
            assert kept >= at_least - tolerance(at_least, experiments)
            assert kept > last


def looks(*conversions: int) -> Arm:
    sizes = np.arange(1, len(conversions) + 1) * 5_000
    return Arm(shares(sizes, np.array(conversions)), "proportion")


def test_a_verdict_once_given_stays_and_its_interval_leaves_zero_out() -> None:
    """10 % against 12.4 % on the first day, nearly nothing in the end."""
    (first,) = judge([(looks(500), looks(620))], 0.9)
    (later,) = judge([(looks(500, 1_100), looks(620, 1_130))], 0.9)
    (alone,) = judge(
        [(Arm(shares(10_000, 1_100), "proportion"), Arm(shares(10_000, 1_130), "proportion"))], 0.9
    )
    assert first.status == later.status == "better"
    assert alone.status == "equal"
    assert later.significance == first.significance
    assert later.difference == pytest.approx(0.003)  # what is shown is the present
    assert later.difference_interval is not None
    assert later.difference_interval[0] > 0


def test_intervals_that_have_nothing_in_common_give_way_to_the_present_one() -> None:
    (verdict,) = judge([(looks(500, 4_000), looks(1_000, 2_500))], 0.9)
    (alone,) = judge(
        [(Arm(shares(10_000, 4_000), "proportion"), Arm(shares(10_000, 2_500), "proportion"))], 0.9
    )
    assert verdict.difference_interval == pytest.approx(alone.difference_interval)


# V3: amounts


@pytest.mark.parametrize(
    ("experiments", "visitors"),
    [(200, 20_000), pytest.param(1_000, 100_000, marks=pytest.mark.whole)],
    ids=["short", "whole"],
)
def test_amounts_of_sigma_2_against_1_with_equal_means_hold_the_level(
    experiments: int, visitors: int
) -> None:
    rng = np.random.default_rng(SEED)
    sizes = np.linspace(visitors / 50, visitors, 50).astype(int)
    arms = [amounts_at(rng, experiments, sizes, sigma) for sigma in (1.0, 2.0)]
    ever = float((p_value(compare(arms[0], arms[1], "mean")) <= ALPHA).any(axis=1).mean())
    print(f"sigma 2 against 1, even split: ever significant {ever:.3f} of {experiments} (seed {SEED})")
    assert ever <= ALPHA + tolerance(ALPHA, experiments)


def amounts_at(rng: np.random.Generator, experiments: int, sizes: Any, sigma: float) -> Moments:
    rows = []
    for _ in range(experiments):
        buys = rng.random(sizes[-1]) < 0.5
        x = buys * rng.lognormal(-sigma * sigma / 2, sigma, sizes[-1])
        rows.append([np.cumsum(part)[sizes - 1] for part in (buys, x, x * x)])
    count, x, xx = np.moveaxis(np.array(rows, float), 1, 0)
    return per_visitor(sizes, count, x, xx)


def spend(visitors: int, mean: float, deviation: float) -> Moments:
    """Spend per visitor with this mean and standard deviation; one in a hundred buys."""
    return per_visitor(visitors, visitors // 100, visitors * mean, visitors * (mean**2 + deviation**2))


def test_spend_of_a_mailing_to_64000_customers_is_judged() -> None:
    """Hillstrom's published figures: spend of $1.42 +- 17.75 (men's e-mail) and $1.08 +- 15.10 (women's)."""
    mens, womens = spend(21_307, 1.42, 17.75), spend(21_387, 1.08, 15.10)
    comparison = compare(womens, mens, "mean")
    print(f"readiness {float(comparison.readiness):.2f}, p = {float(p_value(comparison)):.2f}")
    assert comparison.enough  # with 200 equal amounts it was not


# V5: epochs


@pytest.mark.parametrize("experiments", EXPERIMENTS)
@pytest.mark.parametrize("shares_of_control", [(0.9, 0.5), (0.9, 0.5, 0.9)], ids=str)
def test_a_change_of_weights_while_the_rate_drifts_makes_no_difference(
    experiments: int, shares_of_control: tuple[float, ...]
) -> None:
    """Rates .10, .05, .10 with weights 9:1, 1:1, 9:1, 15 looks each; no effect. Pooled, nearly all are significant."""
    rng = np.random.default_rng(SEED)
    steps, last = 1_000 * np.arange(1, 16), len(shares_of_control) - 1
    arms: tuple[list[Moments], list[Moments]] = [], []
    for number, share in enumerate(shares_of_control):
        for arm, part in zip(arms, (share, 1 - share), strict=True):
            grown = converted(rng, experiments, (steps * part).round().astype(int), (0.1, 0.05)[number % 2])
            arm.append(padded(grown, before=15 * number, after=15 * (last - number)))
    apart = p_value(compare_epochs(*arms, "proportion"))
    pooled = p_value(compare(*(reduce(add, arm) for arm in arms), "proportion"))
    ever, without = ((p <= ALPHA).any(axis=1).mean() for p in (apart, pooled))
    print(f"drift and {shares_of_control}: ever significant {ever:.3f}, pooled {without:.3f} (seed {SEED})")
    assert ever <= ALPHA
    assert without > 0.5


def padded(moments: Moments, before: int, after: int) -> Moments:
    """Nothing at `before` looks ahead, and the last numbers at `after` more."""

    def pad(numbers: Any) -> Any:
        numbers = np.broadcast_to(numbers, np.shape(moments.x))
        edge = np.pad(numbers, ((0, 0), (0, after)), mode="edge")
        return np.pad(edge, ((0, 0), (before, 0)))

    return per_visitor(*(pad(part) for part in (moments.visitors, moments.converting, moments.x, moments.xx)))


def test_epochs_are_added_up_by_their_visitors() -> None:
    """1,000 visitors with 10 % and 14 %, 3,000 with 20 % and 21 %: (0.04 + 3 * 0.01) / 4."""
    comparison = compare_epochs(
        (shares(500, 50), shares(2_000, 400)), (shares(500, 70), shares(1_000, 210)), "proportion"
    )
    assert float(comparison.difference) == pytest.approx((0.04 + 3 * 0.01) / 4)
    assert float(comparison.baseline) == pytest.approx((0.10 + 3 * 0.20) / 4)


def test_an_epoch_in_which_one_variation_had_nobody_changes_nothing() -> None:
    alone = compare(shares(5_000, 500), shares(5_000, 600), "proportion")
    both = compare_epochs(
        (shares(5_000, 500), shares(900, 400)), (shares(5_000, 600), shares(0, 0)), "proportion"
    )
    assert float(p_value(both)) == pytest.approx(float(p_value(alone)))


# V6: sample ratio


@pytest.mark.parametrize("experiments", EXPERIMENTS)
def test_an_even_split_hardly_ever_alarms_and_52_to_48_nearly_always_does(experiments: int) -> None:
    """Looked at each hour of 30 days, 30,000 visitors in all."""
    rng = np.random.default_rng(SEED)
    alarms = {}
    for share in (0.5, 0.52):
        hourly = rng.binomial(42, share, (experiments, 720)).cumsum(axis=1)
        total = 42 * np.arange(1, 721)
        p_values = [mismatch_p_value([({1: 5_000, 2: 5_000}, {1: row, 2: total - row})]) for row in hourly]
        alarms[share] = float(np.mean(np.array(p_values) <= ALARM))
    print(f"alarms of {experiments} (seed {SEED}): {alarms}")
    assert alarms[0.5] <= ALARM
    assert alarms[0.52] >= 0.99 - tolerance(0.99, experiments)


def test_5446_against_4554_is_a_mismatch_at_even_weights_and_none_at_the_right_ones() -> None:
    counts = {1: 5_446, 2: 4_554}
    assert mismatch_p_value([({1: 5_000, 2: 5_000}, counts)]) < 1e-9
    assert mismatch_p_value([({1: 5_446, 2: 4_554}, counts)]) > ALARM


def test_a_change_of_weights_is_no_mismatch() -> None:
    epochs = [({1: 9_000, 2: 1_000}, {1: 900, 2: 100}), ({1: 5_000, 2: 5_000}, {1: 500, 2: 500})]
    assert mismatch_p_value(epochs) == 1.0
    assert mismatch_p_value([({1: 5_000, 2: 5_000}, {1: 1_400, 2: 600})]) < ALARM


def test_variations_without_weight_are_left_out() -> None:
    assert mismatch_p_value([({1: 5_000, 2: 5_000, 3: 0}, {1: 50, 2: 50, 3: 900})]) == 1.0
    assert mismatch_p_value([({1: 10_000, 2: 0}, {1: 50, 2: 50})]) == 1.0


# V7


def test_significance_is_never_one() -> None:
    (verdict,) = judge(
        [(Arm(shares(10**6, 10**5), "proportion"), Arm(shares(10**6, 5 * 10**5), "proportion"))], 0.9
    )
    assert verdict.p_value == 0
    assert 0.999 < verdict.significance < 1
