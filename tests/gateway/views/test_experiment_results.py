"""GET /v2/experiments/{experiment_id}/results: one call instead of four."""

import gc
import time
from urllib.parse import quote

import pytest
import yaml

from optimizely_api import main
from optimizely_api.gateway.upstreams import GatewayRequest
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get
from tests.support.serving import KEEPS_NOTHING, ROOT

RESULTS = f"/v2/experiments/{samples.EXPERIMENT}/results"


def test_200_composes_experiment_campaign_project_and_results(gateway, services):
    response = get(gateway, RESULTS)
    assert response.json == {
        **samples.results(),
        "experiment_id": samples.EXPERIMENT,
        "confidence_threshold": samples.project()["confidence_threshold"],
    }
    first, *others = services.calls()
    assert first == "GET experiments /experiments/4001"
    assert sorted(others) == [
        "GET experiments /layers/3001",
        "GET projects /projects/2001",
        "POST results /results/4001",
    ]


def test_campaign_project_and_results_are_asked_for_in_parallel(gateway, services):
    for manners in services.manners.values():
        manners.delay_seconds = 0.2
    took = []
    while len(took) < 5 and min(took, default=1.0) >= 0.95:  # the machine's load can delay one, and not all
        started = time.monotonic()
        get(gateway, RESULTS)
        took.append(time.monotonic() - started)
    # Token, experiment, then three together: three steps where one after the other would be five.
    assert 0.6 <= min(took) < 0.95


def test_204_while_there_is_no_data(gateway, services):
    services.results.clear()
    assert get(gateway, RESULTS, status=204).body == b""


def test_202_while_the_results_are_computed(gateway, services):
    services.results_status = 202
    assert get(gateway, RESULTS, status=202).body == b""


def test_the_interval_and_the_segment_are_passed_on(gateway, services):
    query = (
        "start_time=2026-01-05T10:00:00Z&end_time=2026-01-06T10:00:00%2B01:00&browser=firefox&attribute_id=7"
    )
    get(gateway, f"{RESULTS}?{query}&attribute_value=gold")
    body = next(seen.body for seen in services.seen if seen.service == "results")
    assert body["start_time"] == "2026-01-05T10:00:00Z"
    assert body["end_time"] == "2026-01-06T09:00:00Z"
    assert body["segment"] == {"browser": "firefox", "attribute_id": 7, "attribute_value": "gold"}


@pytest.mark.parametrize(
    "conditions",
    [
        '["and", {"attribute_id": 7, "attribute_value": "gold;eu&ü"}]',
        "WyJhbmQiLCB7ImF0dHJpYnV0ZV9pZCI6IDcsICJhdHRyaWJ1dGVfdmFsdWUiOiAiZ29sZCJ9XQ==",
        "eyJhdHRyaWJ1dGVfaWQiOiA3LCAiYXR0cmlidXRlX3ZhbHVlIjogImdvbGQ_fiJ9",
    ],
    ids=["JSON", "Base64 with padding", "Base64"],
)
@pytest.mark.parametrize("unquoted", ["", "="], ids=["all escaped", "padding as it is"])
def test_segment_conditions_are_passed_on_as_they_are(gateway, services, conditions, unquoted):
    get(gateway, f"{RESULTS}?segment_conditions={quote(conditions, safe=unquoted)}")
    body = next(seen.body for seen in services.seen if seen.service == "results")
    assert body["segment"] == {"segment_conditions": conditions}


@pytest.mark.parametrize("name", ["browser", "device", "source"])
def test_the_contract_s_named_segments_are_passed_on(gateway, services, name):
    parameters = yaml.safe_load((ROOT / "swagger/parameters.yaml").read_text())["parameters"]
    for value in parameters[name]["enum"]:
        services.seen.clear()
        get(gateway, f"{RESULTS}?{name}={value}")
        body = next(seen.body for seen in services.seen if seen.service == "results")
        assert body["segment"] == {name: value}


def test_another_variation_may_be_the_baseline(gateway, services):
    get(gateway, f"{RESULTS}?baseline_variation_id={samples.TREATMENT}")
    body = next(seen.body for seen in services.seen if seen.service == "results")
    assert body["baseline_variation_id"] == str(samples.TREATMENT)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("baseline_variation_id=1", "/query/baseline_variation_id"),
        ("baseline_variation_id=x", "/query/baseline_variation_id"),
        ("start_time=yesterday", "/query/start_time"),
        ("browser=lynx", "/query/browser"),
        ("attribute_id=x", "/query/attribute_id"),
        ("attribute_value=gold", "/query/attribute_id"),
        ("attribute_id=7&attribute_value=gold%00", "/query/attribute_value"),
        ("segment_conditions=%00", "/query/segment_conditions"),
    ],
)
def test_400_says_where_the_query_is_wrong(gateway, query, pointer):
    body = assert_error(get(gateway, f"{RESULTS}?{query}", status=400), 400, "bad_request")
    assert list(body["messages"]) == [pointer]


def test_400_lists_every_violation(gateway):
    query = "browser=lynx&start_time=yesterday&attribute_id=x"
    body = assert_error(get(gateway, f"{RESULTS}?{query}", status=400), 400, "bad_request")
    assert set(body["messages"]) == {"/query/browser", "/query/start_time", "/query/attribute_id"}


def test_400_in_the_words_of_the_results_service(gateway, services):
    services.manners["results"].status = 400
    services.manners["results"].body = b'{"code": "bad_request", "message": "end_time is before start_time"}'
    assert_error(get(gateway, RESULTS, status=400), 400, "bad_request", "end_time is before start_time")


def test_403_for_another_accounts_experiment(gateway, services):
    path = f"/v2/experiments/{samples.OTHER_EXPERIMENT}/results"
    assert_error(get(gateway, path, status=403), 403, "forbidden", f"experiment {samples.OTHER_EXPERIMENT}")
    assert services.calls() == [f"GET experiments /experiments/{samples.OTHER_EXPERIMENT}"]


def test_403_when_the_project_belongs_to_another_account(gateway, services):
    services.projects[samples.PROJECT]["account_id"] = samples.OTHER_ACCOUNT
    assert_error(get(gateway, RESULTS, status=403), 403, "forbidden")


def test_404_when_the_experiment_is_unknown(gateway):
    assert_error(get(gateway, "/v2/experiments/99/results", status=404), 404, "not_found", "no experiment 99")


def test_502_when_the_results_break_the_contract_without_showing_them(gateway, services, caplog):
    services.results[samples.EXPERIMENT]["metrics"][0]["results"][str(samples.BASELINE)]["rate"] = (
        "secret-content"
    )
    response = get(gateway, RESULTS, status=502)
    assert_error(response, 502, "bad_upstream_answer", "results")
    assert "secret-content" not in response.text + caplog.text


@pytest.mark.parametrize("late", ["experiments", "results"])
def test_504_names_the_late_upstream(services, late):
    settings = {**services.settings(), **KEEPS_NOTHING, f"{late}_timeout_seconds": "1.0"}
    settings["identity_cache_seconds"] = "60"
    with GatewayTestApp(main({}, **settings)) as app:
        get(app, f"/v2/projects/{samples.PROJECT}")  # the token is known from now on
        services.manners[late].hang = True
        assert_error(get(app, RESULTS, status=504), 504, "upstream_timeout", f"The {late} service")


@pytest.mark.parametrize("status", [500, 503])
def test_200_without_the_threshold_while_the_project_cannot_be_had(services, status):
    settings = {**services.settings(), **KEEPS_NOTHING, "identity_cache_seconds": "60"}
    with GatewayTestApp(main({}, **settings)) as app:
        whole = get(app, RESULTS)  # the token is known from now on
        services.manners["projects"].status = status
        response = get(app, RESULTS)
    threshold = whole.json["confidence_threshold"]
    assert {**response.json, "confidence_threshold": threshold} == {**whole.json, "unreachable": ["project"]}
    assert response.headers["X-Unreachable"] == "project"
    assert response.headers["ETag"] != whole.headers["ETag"]


def test_a_whole_response_names_nothing_that_is_missing(gateway):
    response = get(gateway, RESULTS)
    assert "unreachable" not in response.json
    assert "X-Unreachable" not in response.headers


def test_502_when_the_campaign_that_the_experiment_names_is_unknown(gateway, services):
    """It is not missing: the service contradicts itself."""
    services.layers.clear()
    assert_error(get(gateway, RESULTS, status=502), 502, "bad_upstream_answer", "status 404")


@pytest.mark.parametrize("refused", ["experiments", "results"])
def test_503_names_the_refused_upstream_and_says_when_to_return(gateway, services, refused):
    services.close(refused)
    response = get(gateway, RESULTS, status=503)
    assert_error(response, 503, "upstream_unavailable", f"The {refused} service")
    assert int(response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("odd", ["experiments", "results"])
def test_502_names_the_upstream_with_an_odd_answer(gateway, services, odd):
    services.manners[odd].body = b'{"surprise": true}'
    assert_error(get(gateway, RESULTS, status=502), 502, "bad_upstream_answer", f"The {odd} service")


def test_an_answer_comes_before_the_deadline_whatever_the_upstreams_do(services):
    services.manners["results"].hang = True
    with GatewayTestApp(main({}, **services.settings(), request_deadline_seconds="2")) as app:
        get(app, "/v2/projects")  # the token is known from now on
        started = time.monotonic()
        assert_error(get(app, RESULTS, status=504), 504, "upstream_timeout", "results")
        assert time.monotonic() - started < 4


def test_a_failure_cancels_the_other_calls(gateway, services):
    services.manners["experiments"].delay_seconds = 0.1
    services.manners["results"].hang = True
    del services.layers[samples.LAYER]
    assert_error(get(gateway, RESULTS, status=502), 502, "bad_upstream_answer", "experiments")
    hung = next(seen for seen in services.seen if seen.service == "results")
    assert hung.ended.wait(5)
    assert hung.cancelled


def test_head_is_the_head_of_get(gateway):
    whole = get(gateway, RESULTS)
    head = gateway.head(RESULTS, headers=AUTHORIZED, status=200)
    assert head.body == b""
    assert head.headers["Content-Length"] == str(len(whole.body))


def test_an_answered_request_is_gone_without_the_garbage_collector(gateway, services):
    get(gateway, RESULTS)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            get(gateway, RESULTS)
        # One that held itself would keep its whole answer, until a collection stopped everything to find it.
        assert not [thing for thing in gc.get_objects() if isinstance(thing, GatewayRequest)]
    finally:
        gc.enable()


def test_an_experience_may_be_compared_with_those_held_back(gateway, services):
    services.experiments[samples.EXPERIMENT]["type"] = "personalization"
    get(gateway, f"{RESULTS}?baseline_variation_id=holdback")
    get(gateway, RESULTS)
    del services.experiments[samples.EXPERIMENT]["results_settings"]["variations"][1]
    get(gateway, RESULTS)
    bodies = [seen.body for seen in services.seen if seen.service == "results"]
    baselines = [body["baseline_variation_id"] for body in bodies]
    assert baselines == ["holdback", str(samples.BASELINE), "holdback"]
    assert [body["holdback"] for body in bodies] == [True] * 3


def test_400_for_visitors_held_back_from_an_experiment_that_is_no_experience(gateway):
    path = f"{RESULTS}?baseline_variation_id=holdback"
    body = assert_error(get(gateway, path, status=400), 400, "bad_request", "no variation holdback")
    assert list(body["messages"]) == ["/query/baseline_variation_id"]
