"""Who gets which bucket: what holds for every history of an experiment's traffic and weights."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizely_api.services.experiments.datafiles import buckets
from optimizely_api.services.experiments.datafiles.buckets import ALL, NOBODY, Buckets, moved, shares

A, B, C = 101, 102, 103
THIRDS = {A: 3333, B: 3333, C: 3334}

totals = st.one_of(st.sampled_from([0, 500, 1000, 2500, 5000, ALL]), st.integers(0, ALL))
weights = st.lists(
    st.one_of(st.sampled_from([0, 1, 2500, 3333, 3334, 5000]), st.integers(0, ALL)), min_size=2, max_size=6
)


def by_owner(values):
    return dict(enumerate(values, 1))


@st.composite
def histories(draw):
    """Pairs of weights and totals for the same owners, one after the other; the last is yet to come."""
    number = draw(st.integers(2, 5))
    lists = st.lists(st.integers(0, 5), min_size=number, max_size=number)
    return draw(st.lists(st.tuples(lists, totals), min_size=2, max_size=7))


def after(history):
    """The buckets after all but the last of a history, and the shares that are wanted last."""
    state = Buckets()
    *past, last = [shares(by_owner(values), total) for values, total in history]
    for wanted in past:
        state = moved(state, wanted)
    return state, last


def counts_of(state):
    return {owner: count for owner, count in Counter(state.owners).items() if owner != NOBODY}


def ranges_of(state):
    return buckets.ranges(buckets.dump(state))


def has_moved(before, after):
    return sum(1 for old, new in zip(before.owners, after.owners, strict=True) if old not in (NOBODY, new))


@settings(deadline=None)
@given(weights, totals)
def test_shares_are_within_one_of_the_target(values, total):
    divided = shares(by_owner(values), total)
    assert sum(divided.values()) == (total if any(values) else 0)
    for owner, weight in by_owner(values).items():
        assert abs(divided[owner] - weight * total / (sum(values) or 1)) < 1


@settings(max_examples=20, deadline=None)
@given(weights, st.lists(st.integers(0, ALL), min_size=2, max_size=8).map(sorted))
def test_more_traffic_means_fewer_for_nobody(values, rising):
    for fewer, more in pairwise(shares(by_owner(values), total) for total in rising):
        assert all(fewer[owner] <= more[owner] for owner in fewer)


@settings(max_examples=40, deadline=None)
@given(histories())
def test_every_owner_gets_its_share(history):
    state, wanted = after(history)
    assert counts_of(moved(state, wanted)) == {owner: share for owner, share in wanted.items() if share}


@settings(max_examples=40, deadline=None)
@given(histories(), weights.filter(any), totals, totals)
def test_raising_traffic_moves_nobody(history, values, one, other):
    state, _ = after(history)
    low = moved(state, shares(by_owner(values), min(one, other)))
    high = moved(low, shares(by_owner(values), max(one, other)))
    assert has_moved(low, high) == 0


@settings(max_examples=40, deadline=None)
@given(histories())
def test_undoing_a_change_restores_the_buckets(history):
    state, wanted = after(history)
    undone = moved(moved(state, wanted), counts_of(state))
    assert undone.owners == state.owners


@settings(max_examples=40, deadline=None)
@given(histories())
def test_no_more_buckets_move_than_the_shares_demand(history):
    state, wanted = after(history)
    demanded = sum(max(0, count - wanted.get(owner, 0)) for owner, count in counts_of(state).items())
    assert has_moved(state, moved(state, wanted)) == demanded


@settings(max_examples=20, deadline=None)
@given(histories())
def test_the_stored_form_holds_everything(history):
    state, wanted = after(history)
    for each in (state, moved(state, wanted)):
        assert buckets.load(buckets.dump(each)) == each


@pytest.mark.parametrize(
    "path",
    [
        [THIRDS, {A: 5000, B: 2500, C: 2500}, THIRDS],
        [THIRDS, {A: 5000, B: 5000, C: 0}, THIRDS],
        [THIRDS, shares(THIRDS, 2000), THIRDS],
        [THIRDS, shares(THIRDS, 5000), shares(THIRDS, 2000), shares(THIRDS, 5000), THIRDS],
        [{A: 5000, B: 5000}, THIRDS, {A: 5000, B: 5000, C: 0}],
    ],
    ids=["weights", "a pause", "less traffic", "less and less traffic", "one more, set to 0"],
)
def test_the_way_back_ends_where_it_began(path):
    first = state = moved(Buckets(), path[0])
    for wanted in path[1:]:
        state = moved(state, wanted)
    assert state.owners == first.owners


def test_ranges_name_gaps_and_end_with_the_last_owner():
    state = moved(Buckets(), shares({A: 5000, B: 5000}, 1000))
    assert ranges_of(state) == [(A, 500), (B, 1000)]
    assert ranges_of(moved(state, {A: 200, B: 500})) == [(A, 200), (NOBODY, 500), (B, 1000)]
    assert ranges_of(moved(state, {})) == []


def test_10_25_50_100_percent_keep_everybody():
    state = moved(Buckets(), shares(THIRDS, 1000))
    for total in (2500, 5000, 10_000):
        state, before = moved(state, shares(THIRDS, total)), state
        assert has_moved(before, state) == 0
    assert len(ranges_of(state)) == 12
