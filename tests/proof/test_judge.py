"""What is wrong with a response: the verdicts of a proof, one by one."""

from dataclasses import replace

import orjson
import pytest

from optimizely_api.comparison.load.result import RESET, TIMEOUT
from optimizely_api.contract import load
from optimizely_api.contract.definitions import example
from optimizely_api.proof.judge import Judge, Question, Received, Verdict, difference

ID = "7c2b1c1e-0000-4000-8000-000000000001"
RIGHT = example("Attribute")
QUESTION = Question("get_attribute", "/v2/attributes/1", "token", value=RIGHT)


@pytest.fixture(scope="module")
def judge():
    return Judge(load(), deadline_seconds=10.0)


def received(value=RIGHT, status=200, seconds=0.1, **headers):
    headers = {"x-request-id": ID, **{name.replace("_", "-"): text for name, text in headers.items()}}
    return Received(status, headers, orjson.dumps(value), "", seconds)


def error(code):
    return {"code": code, "message": "The results service did not answer.", "uuid": ID}


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        pytest.param(received(), Verdict.FRESH, id="right"),
        pytest.param(received(seconds=10.09), Verdict.FRESH, id="just in time"),
        pytest.param(received(seconds=10.11), Verdict.LATE, id="late"),
        pytest.param(received({**RIGHT, "name": "Another"}), Verdict.WRONG, id="another value"),
        pytest.param(received({**RIGHT, "id": str(RIGHT["id"])}), Verdict.OFF_CONTRACT, id="another type"),
        pytest.param(received({**RIGHT, "internal": 1}), Verdict.OFF_CONTRACT, id="an internal member"),
        pytest.param(received("text"), Verdict.OFF_CONTRACT, id="no entity"),
        pytest.param(received(x_request_id="another"), Verdict.WRONG, id="to another request"),
        pytest.param(received(error("not_found"), 404), Verdict.WRONG, id="404 of what exists"),
        pytest.param(received(error("conflict"), 409, retry_after="9"), Verdict.LATER, id="409 for now"),
        pytest.param(received(error("conflict"), 409), Verdict.WRONG, id="409 for good"),
        pytest.param(received(error("upstream_timeout"), 504), Verdict.EXPLAINED, id="504"),
        pytest.param(
            received(error("upstream_unavailable"), 503, retry_after="1"), Verdict.EXPLAINED, id="503"
        ),
        pytest.param(
            received(error("upstream_unavailable"), 503), Verdict.UNEXPLAINED, id="503 without Retry-After"
        ),
        pytest.param(
            received(error("bad_upstream_answer"), 502, x_request_id="the balancer's"),
            Verdict.UNEXPLAINED,
            id="502 of the shipped balancer",
        ),
        pytest.param(
            received(error("overloaded"), 503, x_request_id="the balancer's", retry_after="1"),
            Verdict.EXPLAINED,
            id="503 of the shipped balancer",
        ),
        pytest.param(received(error("internal_error"), 500), Verdict.UNEXPLAINED, id="500"),
        pytest.param(received("Bad Gateway", 502), Verdict.UNEXPLAINED, id="502 of the balancer"),
        pytest.param(
            received(error("upstream_timeout"), 504, seconds=11), Verdict.LATE, id="504 after the deadline"
        ),
        pytest.param(
            received({"message": "x", "uuid": ID, "code": "bad_upstream_answer", "more": 1}, 502),
            Verdict.OFF_CONTRACT,
            id="an error with more members",
        ),
        pytest.param(Received(0, {}, b"", RESET, 0.1), Verdict.UNEXPLAINED, id="reset"),
        pytest.param(Received(0, {}, b"", TIMEOUT, 15.0), Verdict.LATE, id="no response"),
    ],
)
def test_a_response_gets_its_verdict(judge, answer, verdict):
    assert judge.verdict(QUESTION, ID, answer)[0] is verdict


def test_a_response_without_its_optional_part_says_so(judge):
    results = example("ExperimentResults")
    question = Question("get_experiment_results", "/v2/experiments/1/results", "token", value=results)
    less = {name: value for name, value in results.items() if name != "confidence_threshold"}
    named = {**less, "unreachable": ["project"]}
    assert judge.verdict(question, ID, received(named, x_unreachable="project"))[0] is Verdict.PARTIAL
    assert judge.verdict(question, ID, received(less))[0] is Verdict.WRONG
    assert judge.verdict(question, ID, received({**named, "reach": {}}, x_unreachable="project"))[0].is_bad


def test_a_list_without_its_optional_part_lacks_what_the_contract_says(judge):
    environment = example("Environment")
    datafile = {name: environment["datafile"][name] for name in ("id", "sdk_key", "url")}
    whole = [{**environment, "datafile": {**datafile, "revision": 7, "latest_file_size": 9}}]
    question = Question("list_environments", "/v2/environments?project_id=1", "token", value=whole)
    less = [{**environment, "datafile": datafile}]
    assert judge.verdict(question, ID, received(less, x_unreachable="datafile"))[0] is Verdict.PARTIAL
    assert judge.verdict(question, ID, received(less))[0] is Verdict.WRONG
    without_key = [{**environment, "datafile": {**datafile, "sdk_key": "another"}}]
    assert judge.verdict(question, ID, received(without_key, x_unreachable="datafile"))[0] is Verdict.WRONG


def test_only_what_is_known_of_a_body_is_compared(judge):
    question = replace(QUESTION, value=RIGHT["key"], known=lambda attribute: attribute["key"])
    assert judge.verdict(question, ID, received({**RIGHT, "name": "Another"}))[0] is Verdict.FRESH
    assert judge.verdict(question, ID, received({**RIGHT, "key": "another"}))[0] is Verdict.WRONG


def test_outside_the_contract_there_is_204_or_an_error(judge):
    question = Question("", "/v1/events", "", status=204)
    assert judge.verdict(question, ID, Received(204, {"x-request-id": ID}, b"", "", 0.1))[0] is Verdict.FRESH
    assert judge.verdict(question, ID, received({}))[0] is Verdict.OFF_CONTRACT
    assert judge.verdict(question, ID, received(error("bad_request"), 400))[0].is_bad


def test_stale_results_are_right_when_they_say_so(judge):
    results = {**example("ExperimentResults"), "is_stale": False}
    question = Question("get_experiment_results", "/v2/experiments/1/results", "token", value=results)
    assert judge.verdict(question, ID, received({**results, "is_stale": True}))[0] is Verdict.STALE
    assert judge.verdict(QUESTION, ID, received(age="7"))[0] is Verdict.STALE
    growing = replace(question, value=9, known=lambda _: 7, grows=True)
    assert judge.verdict(growing, ID, received({**results, "is_stale": True}))[0] is Verdict.STALE
    assert judge.verdict(growing, ID, received(results))[0] is Verdict.WRONG


def test_an_expected_refusal_is_a_right_answer(judge):
    question = replace(QUESTION, status=404, value=None)
    assert judge.verdict(question, ID, received(error("not_found"), 404))[0] is Verdict.FRESH
    assert judge.verdict(question, ID, received())[0] is Verdict.WRONG


def test_a_difference_is_found_where_it_is():
    assert difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}) is None
    assert difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == "a.b"
    assert difference({"a": [1, {"b": 2}]}, {"a": [1, {}]}) == "a.b"
    assert difference({"a": [1, {"b": 2}]}, {"a": [1, {}]}, may_differ={"a.b"}) is None
    assert difference({"a": 1}, {"a": 1, "b": 1}) == "b"
    assert difference({"a": 1}, {"a": True}) == "a"
    assert difference([1], [1, 2]) == ""
