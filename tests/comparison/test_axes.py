"""Axes of the charts: round numbers that enclose every value, evenly spaced or in powers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizely_api.comparison.report.axes import MOST_TICKS, linear, logarithmic

values = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=9)


def numbers(axis):
    return [tick.text for tick in axis.ticks()]


def test_a_linear_axis_begins_with_zero_and_ends_with_a_round_number():
    assert numbers(linear("", [3.0, 112.0], 0, 100)) == ["0", "20", "40", "60", "80", "100", "120"]


def test_a_logarithmic_axis_has_powers_with_the_steps_between_them_where_they_fit():
    assert numbers(logarithmic("", [95.0, 2000.0], 0, 100)) == ["50", "100", "200", "500", "1,000", "2,000"]
    assert numbers(logarithmic("", [2.0, 2000.0], 0, 100)) == ["10", "100", "1,000"]


def test_an_axis_has_the_words_of_its_values():
    assert numbers(linear("", [1.0], 0, 100, words="{:.0%}".format))[-1] == "100%"


@pytest.mark.parametrize("make", [linear, logarithmic])
def test_an_axis_of_nothing_still_has_numbers(make):
    assert numbers(make("", [], 0, 100))


@pytest.mark.parametrize("make", [linear, logarithmic])
@given(values)
def test_every_value_lies_between_the_ends_and_greater_ones_are_nearer_the_end(make, given_values):
    axis = make("", given_values, 300.0, 20.0)
    places = [axis.at(value) for value in sorted(given_values)]
    assert axis.first <= min(given_values) * (1 + 1e-9)
    assert max(given_values) <= axis.last * (1 + 1e-9)
    assert places == sorted(places, reverse=True)
    assert all(20 <= place <= 300 for place in places)


@pytest.mark.parametrize("make", [linear, logarithmic])
@given(values)
def test_the_numbers_are_few_and_differ(make, given_values):
    texts = numbers(make("", given_values, 0.0, 300.0))
    assert 1 <= len(texts) <= MOST_TICKS + 1
    assert len(set(texts)) == len(texts)
