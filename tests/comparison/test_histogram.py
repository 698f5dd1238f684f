"""Latencies in buckets: percentiles by nearest rank, at most 0.1 % too high, and sums without loss."""

import json
import random

import pytest

from optimizely_api.comparison.load.histogram import Histogram


def of(*values_us: int) -> Histogram:
    histogram = Histogram()
    for value in values_us:
        histogram.record_us(value)
    return histogram


def test_percentiles_of_1_to_1000_microseconds_are_exact() -> None:
    histogram = of(*range(1, 1001))
    # Nearest rank: the 990th of 1,000 values is p99, the 999th p99.9.
    assert [histogram.percentile(p) for p in (0, 50, 99, 99.9, 100)] == [0.001, 0.5, 0.99, 0.999, 1.0]


def test_percentiles_of_the_same_values_in_milliseconds_are_at_most_a_thousandth_too_high() -> None:
    histogram = of(*range(1000, 1_001_000, 1000))
    for percent, exact in ((50, 500), (90, 900), (99, 990), (99.9, 999)):
        found = histogram.percentile(percent)
        assert found is not None
        assert exact <= found <= exact * (1 + 1 / 1024)
    assert histogram.percentile(100) == 1000.0


def test_every_value_is_within_a_thousandth_of_its_bucket_up_to_an_hour() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    values = random.Random(seed)
    for _ in range(2000):
        value = int(10 ** values.uniform(0, 9.6))
        histogram = of(value, 3_600_000_000 * 2)  # the second one keeps the maximum from being the answer
        found = histogram.percentile(50)
        assert found is not None
        assert value / 1000 <= found <= value / 1000 * (1 + 1 / 1024)


def test_the_last_bucket_never_says_more_than_the_maximum() -> None:
    assert of(1_234_567).percentile(99) == 1234.567


def test_minimum_maximum_and_mean_are_exact() -> None:
    histogram = of(100_001, 200_003, 300_002)
    assert (histogram.min, histogram.max, histogram.mean) == (100.001, 300.002, 200.002)


def test_nothing_counted_has_no_figures() -> None:
    empty = Histogram()
    assert (empty.count, empty.percentile(99), empty.max, empty.min, empty.mean) == (
        0,
        None,
        None,
        None,
        None,
    )
    assert empty.share_above_ms(1) == 0.0


def test_a_clock_that_went_backwards_counts_as_nothing() -> None:
    assert of(-5).max == 0.0


def test_the_share_above_a_limit() -> None:
    assert of(*[1000] * 75, *[3000] * 25).share_above_ms(2) == 0.25


@pytest.mark.parametrize("percent", [-1, 100.1])
def test_there_is_no_percentile_outside_0_to_100(percent: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        of(1).percentile(percent)


def test_merged_histograms_are_as_if_all_had_been_recorded_in_one() -> None:
    low, high = of(1, 2000, 5_000_000), of(7, 2000)
    both = Histogram.merged([low, high, Histogram()])
    assert both == of(1, 2000, 5_000_000, 7, 2000)
    assert both.count == 5
    assert low == of(1, 2000, 5_000_000)


def test_merging_into_an_empty_one_keeps_the_minimum() -> None:
    assert Histogram.merged([of(9)]).min == 0.009


def test_json_and_back_is_the_same_and_holds_only_buckets_in_use() -> None:
    histogram = of(5, 5, 1_000_000)
    text = json.dumps(histogram.to_json())
    assert Histogram.from_json(json.loads(text)) == histogram
    assert json.loads(text)["buckets_us"] == [[5, 2], [1_000_447, 1]]


def test_json_that_does_not_add_up_is_refused() -> None:
    broken = {**of(5, 6).to_json(), "count": 3}
    with pytest.raises(ValueError, match="do not add up"):
        Histogram.from_json(broken)


def test_recording_many_at_once_is_recording_each() -> None:
    histogram = Histogram()
    histogram.record_us(10, times=3)
    assert histogram == of(10, 10, 10)
