"""Counts and intervals of a proof."""

import pytest

from optimizely_api.proof.judge import Question, Received, Verdict
from optimizely_api.proof.tally import MOST_EXAMPLES, Tally, interval, summary

QUESTION = Question("get_attribute", "/v2/attributes/1", "token")
RESPONSE = Received(200, {}, b"", "", 0.1)


def counted(*verdicts, interruption=None, faults=()):
    tally = Tally()
    for verdict in verdicts:
        tally.record(
            (verdict, ""), QUESTION, RESPONSE, at=0.0, request_id="", faults=faults, interruption=interruption
        )
    return tally


@pytest.mark.parametrize(
    ("bad", "number", "low", "high"),
    [
        # Clopper and Pearson's, as in R's binom.test; without a bad one the rule of three, exactly.
        (0, 300_000, 0.0, 9.98572e-6),
        (1, 10, 0.002528579, 0.4450161),
        (5, 100, 0.01643188, 0.1128349),
        (10, 10, 0.6915029, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_interval_is_exact(bad, number, low, high):
    assert interval(bad, number) == (pytest.approx(low, rel=1e-5), pytest.approx(high, rel=1e-5))


def test_only_bad_verdicts_are_bad():
    tally = counted(Verdict.FRESH, Verdict.PARTIAL, Verdict.EXPLAINED, Verdict.WRONG, Verdict.LATE)
    assert (tally.bad, tally.judged) == (2, 5)


def test_a_worker_that_is_killed_excuses_no_wrong_response():
    tally = counted(Verdict.UNEXPLAINED, Verdict.WRONG, interruption="in flight in a killed worker")
    assert tally.apart == {"in flight in a killed worker": 1}
    assert (tally.bad, tally.judged) == (1, 1)


def test_responses_count_for_every_fault_that_lasted():
    of_fault = counted(Verdict.FRESH, Verdict.LATE, faults=("slow", "reset")).to_json()["of_fault"]
    assert {kind: (each["bad"], each["judged"]) for kind, each in of_fault.items()} == {
        "reset": (1, 2),
        "slow": (1, 2),
    }


def test_examples_of_each_verdict_are_few():
    tally = counted(*[Verdict.WRONG] * 100, Verdict.LATE)
    assert [example["verdict"] for example in tally.examples] == ["wrong"] * MOST_EXAMPLES + ["late"]


def test_the_summary_says_of_bad_responses_why_they_are_and_what_may_be_the_cause():
    tally = Tally()
    for interruption in (None, "in flight in a killed worker"):
        judgement = Verdict.UNEXPLAINED, "500 internal_error"
        tally.record(
            judgement, QUESTION, RESPONSE, at=33.7, request_id="", faults=(), interruption=interruption
        )
    document = {
        **tally.to_json(),
        "seed": 1,
        "faults": [],
        "written": {"attributes": 0, "batches": 0},
        "recovered_seconds": 0.0,
        "memory": {},
        "others_share": 0.35,
    }
    for example in document["examples"]:
        example["log"] = ["Traceback (most recent call last):", "TypeError: it is none"]
    lines = summary(document)
    assert lines.count("Bad, at 33.7 s: GET /v2/attributes/1: 500 internal_error") == 1
    assert lines.count("    TypeError: it is none") == 1
    assert "Other programs took 35 % of the processors: what is late may be so by them." in lines
