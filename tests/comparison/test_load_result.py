"""The arithmetic of a load: 5XX by class, sums, and when the generator did not keep the rate."""

from collections import Counter
from pathlib import Path

import pytest

from optimizely_api.comparison.load.plan import LoadPlan
from optimizely_api.comparison.load.result import (
    BAD,
    LATE,
    NO_CONNECTION,
    REFUSED,
    RESET,
    TIMEOUT,
    LoadResult,
    Slice,
    Tally,
)

PLAN = LoadPlan("http://127.0.0.1:1", ((100.0, 2.0), (200.0, 1.0)))


def tally(sent: int = 100, offered: int = 100, lag_us: int = 500) -> Tally:
    made = Tally(offered=offered, sent=sent, statuses=Counter({200: sent}))
    made.ok.record_us(20_000, times=sent)
    made.lag.record_us(lag_us, times=sent)
    return made


def result(*tallies: Tally) -> LoadResult:
    slices = [Slice(0, 1, 100, 0), Slice(1, 2, 100, 0), Slice(2, 3, 200, 1)]
    for each, known in zip(slices, tallies, strict=True):
        each.tally = known
    return LoadResult(PLAN, slices)


def test_failures_count_as_the_5xx_that_a_load_balancer_would_answer() -> None:
    known = Tally(
        statuses=Counter({200: 900, 404: 7, 500: 1, 502: 2, 503: 3, 504: 4}),
        failures=Counter({TIMEOUT: 10, REFUSED: 20, RESET: 30, BAD: 40}),
    )
    assert known.server_errors() == {500: 1, 502: 2 + 30 + 40, 503: 3 + 20, 504: 4 + 10}
    assert known.server_error_count == 110
    assert known.by_class() == {"2xx": 900, "4xx": 7, "5xx": 10}


def test_what_was_never_sent_is_no_failure_of_the_server() -> None:
    assert Tally(offered=5, unsent=Counter({LATE: 3, NO_CONNECTION: 2})).server_error_count == 0


def test_latencies_are_those_of_good_and_bad_ends_together() -> None:
    known = Tally()
    known.ok.record_us(5_000, times=98)
    known.other.record_us(10_000_000, times=2)
    assert known.latency.percentile(98) == pytest.approx(5, rel=0.001)
    assert known.latency.percentile(99) == 10_000.0


def test_phases_and_stretches_add_up_to_the_total() -> None:
    whole = result(tally(), tally(), tally(200, 200))
    assert [whole.of_phase(phase).offered for phase in (0, 1)] == [200, 200]
    assert whole.between(1, 3).offered == 300
    assert whole.total().offered == 400
    assert whole.total().ok.count == 400
    assert whole.offered_rate == whole.achieved_rate == pytest.approx(400 / 3)


@pytest.mark.parametrize(
    ("sent", "lag_us", "behind"),
    [(199, 500, False), (198, 500, False), (197, 500, True), (203, 500, True), (200, 50_001, True)],
    ids=["one-off", "one-percent", "more-than-one-percent", "too-many", "late"],
)
def test_more_than_one_percent_off_or_late_is_behind(sent: int, lag_us: int, behind: bool) -> None:
    whole = result(tally(), tally(), tally(sent, 200, lag_us))
    assert whole.fell_behind is behind
    assert len(whole.why_fell_behind()) == behind


def test_requests_sent_in_a_phase_are_no_part_of_those_due_in_it() -> None:
    (why,) = result(tally(), tally(), tally(240, 200)).why_fell_behind()
    assert "240 requests were sent while 200 were due" in why


def test_a_phase_that_fell_behind_is_not_hidden_by_one_that_did_not() -> None:
    catching_up = result(tally(90), tally(100), tally(210, 200))
    assert catching_up.total().sent == catching_up.total().offered
    assert len(catching_up.why_fell_behind()) == 2


def test_requests_without_a_connection_are_named_as_the_reason() -> None:
    known = tally(200, 200)
    known.unsent[NO_CONNECTION] = 10
    (why,) = result(tally(), tally(), known).why_fell_behind()
    assert "10 not at all: 10000 connections were not enough" in why


def test_a_written_result_is_read_back_the_same(tmp_path: Path) -> None:
    whole = result(tally(), Tally(failures=Counter({RESET: 1}), unfinished=2), tally(200, 200))
    whole.interrupted = True
    path = tmp_path / "load.json"
    whole.write(path)
    assert LoadResult.read(path).to_json() == whole.to_json()
    assert LoadResult.read(path).slices == whole.slices
    assert [each.name for each in tmp_path.iterdir()] == ["load.json"]


def test_a_token_is_not_written_down(tmp_path: Path) -> None:
    plan = LoadPlan(
        "http://127.0.0.1:1", ((1.0, 1.0),), headers={"Authorization": "Bearer secret", "X-A": "b"}
    )
    path = tmp_path / "load.json"
    LoadResult(plan, []).write(path)
    assert "secret" not in path.read_text()
    assert LoadResult.read(path).plan.headers == {"Authorization": "(not written down)", "X-A": "b"}
