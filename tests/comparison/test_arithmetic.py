"""Known counts give known figures: classes of 5XX, shares, ratios, and the highest rate."""

import pytest

from optimizely_api.comparison.load.result import BAD, LATE, REFUSED, RESET, Tally
from optimizely_api.comparison.report.arithmetic import (
    BROKEN_OFF,
    CUT_SHORT,
    NO_RESPONSE,
    QUEUE_FULL,
    REFUSED_CONNECTION,
    UNANSWERED,
    RateSearch,
    error_class,
    highest_in_ramp,
    measurement,
    ramp_rates,
)
from optimizely_api.comparison.rig.balancer import LogLine
from tests.comparison.known_report import STARTED_AT, load, tally


def line(status: int, ended: str, arrived: float = STARTED_AT, sent_bytes: int = 200) -> LogLine:
    return LogLine(arrived, 100, status, ended, 0, sent_bytes, "/v2/experiments/1/results")


@pytest.mark.parametrize(
    ("status", "ended", "seen"),
    [
        (200, "--", None),
        (404, "--", None),
        (503, "--", "503, by the gateway"),
        (504, "--", "504, by the gateway"),
        (500, "--", "500, by the gateway"),
        (504, "sH", NO_RESPONSE),
        (502, "SH", BROKEN_OFF),
        (502, "PH", BROKEN_OFF),
        (503, "SC", REFUSED_CONNECTION),
        (503, "sC", REFUSED_CONNECTION),
        (503, "sQ", QUEUE_FULL),
        (200, "SD", CUT_SHORT),
        (200, "sD", CUT_SHORT),
        (-1, "CH", None),
        (200, "CD", None),
        (408, "cR", None),
        (503, "CC", None),
    ],
)
def test_the_termination_state_says_who_answered_a_5xx(status, ended, seen):
    assert error_class(line(status, ended)) == seen


def test_a_connection_closed_without_an_answer_is_asked_again_and_is_no_5xx():
    assert error_class(line(503, "SC", sent_bytes=0)) is None


def test_the_balancers_5xx_belong_to_the_second_in_which_their_request_arrived():
    lines = [
        line(504, "sH", STARTED_AT - 0.1),  # in the warm-up
        line(504, "sH", STARTED_AT + 0.2),
        line(503, "SC", STARTED_AT + 1.0),
        line(503, "SC", STARTED_AT + 1.9),
        line(200, "--", STARTED_AT + 1.9),
        line(502, "SH", STARTED_AT + 2.0),  # asked again, after the end
    ]
    made = measurement(load(tally(10), tally(10)), lines)
    assert [second.errors for second in made.seconds] == [
        {NO_RESPONSE: 1},
        {BROKEN_OFF: 1, REFUSED_CONNECTION: 2},
    ]
    assert made.errors == {NO_RESPONSE: 1, BROKEN_OFF: 1, REFUSED_CONNECTION: 2}
    assert made.error_count == 4
    assert made.counted_by == "load balancer"


def test_the_share_of_5xx_is_of_requests_each_of_which_has_one_end():
    seen = tally(70)
    seen.statuses[504], seen.statuses[404], seen.unsent[LATE] = 20, 9, 1
    seen.offered, seen.sent = 100, 99
    made = measurement(load(seen), [line(504, "--")] * 25)  # five of them of requests that were asked again
    assert (made.error_count, made.lost, made.error_share) == (25, 20, 0.2)
    assert [second.lost for second in made.seconds] == [20]


def test_with_a_balancer_a_caller_that_nobody_answers_is_counted_once():
    made = measurement(load(tally(8, late=2)), [])
    assert (made.good, made.errors, made.other) == (8, {UNANSWERED: 2}, {})


def test_without_a_balancer_failures_count_as_one_would_have_answered_them():
    seen = tally(90, late=4)
    seen.statuses[503] = 3
    seen.failures[REFUSED], seen.failures[RESET], seen.failures[BAD] = 1, 1, 1
    made = measurement(load(seen), None)
    assert made.errors == {NO_RESPONSE: 4, "503, by the gateway": 3, REFUSED_CONNECTION: 1, BROKEN_OFF: 2}
    assert made.counted_by == "load generator"


def test_a_redirect_or_a_refusal_is_neither_good_nor_a_5xx():
    seen = tally(8)
    seen.statuses[404] = 2
    seen.offered = seen.sent = 10
    made = measurement(load(seen), None)
    assert (made.good, made.errors, made.other) == (8, {}, {"404": 2})
    assert not made.meets(1000)


@pytest.mark.parametrize(
    ("seen", "meets"),
    [
        (tally(100), True),
        (tally(100, latency_ms=1001), False),
        (tally(99, late=1), False),
        (tally(10_000, late=1), False),
    ],
    ids=["fast", "slow", "one in 100 lost", "one in 10,000 lost"],
)
def test_a_rate_holds_when_nothing_is_lost_and_p99_is_within_the_objective(seen, meets):
    assert measurement(load(seen), None).meets(1000) is meets


def test_a_rate_that_the_generator_did_not_keep_never_holds():
    seen = Tally(offered=100, sent=90)
    seen.statuses[200] = 90
    seen.ok.record_us(1000, 90)
    seen.unsent[LATE] = 10
    made = measurement(load(seen), None)
    assert made.not_fit
    assert not made.seconds[0].fit
    assert not made.meets(1000)


def test_a_distribution_keeps_every_good_answer():
    spread = Tally(offered=5000, sent=5000)
    for number in range(5000):
        spread.ok.record_us(1000 * (number + 1))
    made = measurement(load(spread), None).distribution
    assert sum(count for _, count in made) == 5000
    assert len(made) <= 300
    assert made[-1][0] == pytest.approx(5000, rel=0.002)


def test_a_ramp_grows_by_the_same_factor_each_second():
    assert ramp_rates(1, 1000, 4) == [1, 10, 100, 1000]
    assert ramp_rates(5, 50, 1) == [50]


@pytest.mark.parametrize(
    ("tallies", "highest", "may_be_more"),
    [
        ([tally(10), tally(20), tally(40, late=1)], 20.0, False),
        ([tally(10), tally(20), tally(40, latency_ms=1500), tally(80)], 20.0, False),
        ([tally(10), tally(20)], 20.0, True),
        ([tally(10, late=1)], 0.0, False),
    ],
    ids=["5XX end it", "so does p99", "it may be more than was offered", "none holds"],
)
def test_the_highest_rate_of_a_ramp_is_the_last_before_the_first_trouble(tallies, highest, may_be_more):
    seconds = measurement(load(*tallies), None).seconds
    assert highest_in_ramp(seconds, 1000) == (highest, may_be_more)


@pytest.mark.parametrize("capacity", [0.7, 3.0, 8.4, 97.0, 640.0])
@pytest.mark.parametrize("guess", [4.0, 60.0, 1000.0])
def test_the_search_ends_just_below_the_capacity_wherever_it_begins(capacity, guess):
    search = RateSearch(guess, step=1.12)
    tried = []
    while (rate := search.next_rate()) is not None:
        assert rate not in tried, "no rate is tried twice"
        tried.append(rate)
        search.record(rate, rate <= capacity)
    assert capacity / 1.13 <= search.highest <= capacity
    assert len(tried) < 20


def test_the_search_gives_up_where_nothing_holds():
    search = RateSearch(4.0, step=1.12, lowest=0.5)
    while (rate := search.next_rate()) is not None:
        search.record(rate, False)
    assert search.highest == 0
    assert not search.reached_limit


def test_the_search_says_when_everything_holds():
    search = RateSearch(4.0, step=1.12, limit=100)
    while (rate := search.next_rate()) is not None:
        search.record(rate, True)
    assert search.highest == 100
    assert search.reached_limit
