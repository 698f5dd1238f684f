"""What the gateway asks for and how it merges answers: pure functions, no request."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from optimizely_api.contract import load
from optimizely_api.gateway.composition import results as composition
from optimizely_api.gateway.composition.parts import Parts
from optimizely_api.gateway.errors import BadRequest
from optimizely_api.upstream.errors import BadUpstreamResponse
from optimizely_api.upstream.responses import Computing, read_response
from tests.support import samples

CONTRACT = load()
EXPERIMENT_MAKERS = composition.experiment_results_makers({}, 5.0)


def results_body(query, experiment=None):
    makers = composition.experiment_results_makers(query, 5.0)
    return makers["results"]({"experiment": experiment or samples.experiment()}).body


def pages_of(*experiments):
    return [{"total": len(experiments), "items": list(experiments)}]


def test_the_second_step_asks_for_campaign_project_and_results():
    parts = Parts(
        CONTRACT.operations["get_experiment_results"].composition, {"experiment": samples.experiment()}
    )
    asked = parts.next_calls(composition.experiment_results_makers({}, 5.0))
    assert [(call.upstream, call.method, call.path) for call in asked] == [
        ("experiments", "GET", "/layers/3001"),
        ("projects", "GET", "/projects/2001"),
        ("results", "POST", "/results/4001"),
    ]


def test_the_results_call_carries_the_results_settings():
    body = results_body({})
    assert body["metrics"] == [{**samples.metric(), "name": "Purchase"}]
    assert body["variations"] == [
        {"variation_id": samples.BASELINE, "name": "Original"},
        {"variation_id": samples.TREATMENT, "name": "Larger button"},
    ]
    assert body["stats_config"] == samples.results_settings()["stats_config"]
    assert body["baseline_variation_id"] == str(samples.BASELINE)
    assert "segment" not in body


def test_the_results_call_follows_the_settings_for_results_alone():
    edited = {**samples.experiment(), "metrics": [], "variations": []}
    assert results_body({}, edited) == results_body({})


def test_the_results_call_says_when_the_experiment_ran():
    run = {"start_time": samples.CREATED, "end_time": None, "weights": {str(samples.BASELINE): 10_000}}
    assert results_body({}, {**samples.experiment(), "runs": [run]})["epochs"] == [run]
    assert results_body({}, {**samples.experiment(), "runs": []})["epochs"] == []
    assert "epochs" not in results_body({})


def test_the_interval_begins_when_the_experiment_started():
    assert results_body({})["earliest"] == samples.CREATED


def test_times_are_sent_in_utc():
    noon_in_berlin = datetime(2026, 1, 5, 12, 0, tzinfo=timezone(timedelta(hours=1)))
    body = results_body({"start_time": noon_in_berlin, "end_time": datetime(2026, 1, 6, tzinfo=UTC)})
    assert (body["start_time"], body["end_time"]) == ("2026-01-05T11:00:00Z", "2026-01-06T00:00:00Z")


def test_the_caller_may_choose_another_baseline():
    body = results_body({"baseline_variation_id": samples.TREATMENT})
    assert body["baseline_variation_id"] == str(samples.TREATMENT)


def test_a_baseline_that_is_no_variation_is_refused_with_those_that_are():
    with pytest.raises(BadRequest, match="its variations are 6001, 6002"):
        results_body({"baseline_variation_id": 1})


def test_a_segment_is_passed_on():
    body = results_body({"attribute_id": 7, "attribute_value": "gold", "browser": "firefox", "device": None})
    assert body["segment"] == {"attribute_id": 7, "attribute_value": "gold", "browser": "firefox"}


def test_an_attribute_value_without_its_attribute_is_refused():
    with pytest.raises(BadRequest, match="attribute_value needs attribute_id"):
        results_body({"attribute_value": "gold"})


def test_experiment_results_add_the_experiment_and_the_projects_threshold():
    composed = composition.experiment_results(
        samples.experiment(), samples.layer(), samples.project(), samples.results()
    )
    assert composed == {
        **samples.results(),
        "experiment_id": samples.EXPERIMENT,
        "confidence_threshold": 0.9,
    }


@pytest.mark.parametrize("nothing", [None, Computing()])
def test_no_results_stay_no_results(nothing):
    assert (
        composition.experiment_results(samples.experiment(), samples.layer(), samples.project(), nothing)
        is nothing
    )


@pytest.mark.parametrize(
    ("layer", "project", "upstream"),
    [
        (samples.layer(9), samples.project(), "experiments"),
        (samples.layer(project_id=9), samples.project(), "experiments"),
        (samples.layer(), samples.project(9), "projects"),
        (samples.layer(), samples.project(account_id=9), "projects"),
    ],
    ids=["another campaign", "campaign of another project", "another project", "project of another account"],
)
def test_services_that_disagree_are_a_bad_answer(layer, project, upstream):
    with pytest.raises(BadUpstreamResponse) as failure:
        composition.experiment_results(samples.experiment(), layer, project, samples.results())
    assert failure.value.upstream == upstream


@pytest.mark.parametrize(
    ("campaign", "project"), [(None, samples.project()), (samples.layer(), None), (None, None)]
)
def test_a_missing_part_contradicts_nothing(campaign, project):
    composed = composition.experiment_results(samples.experiment(), campaign, project, samples.results())
    assert composed["metrics"] == samples.results()["metrics"]
    assert ("confidence_threshold" in composed) is (project is not None)


def test_metrics_without_their_names_are_a_bad_answer():
    with pytest.raises(BadUpstreamResponse, match="1 metrics have 0 names"):
        results_body(
            {},
            {**samples.experiment(), "results_settings": {**samples.results_settings(), "metric_names": []}},
        )


def test_a_campaign_asks_for_every_page_of_its_experiments():
    layer = samples.layer(experiment_ids=tuple(range(1, 252)))
    pages = composition.campaign_results_makers({}, 5.0, 10)["experiments"]({"campaign": layer})
    assert [dict(call.query)["page"] for call in pages] == ["1", "2", "3"]


def test_campaign_results_hold_every_variation_of_every_experiment():
    first, second = samples.experiment(), samples.experiment(samples.SECOND_EXPERIMENT)
    other = samples.results()
    metric = other["metrics"][0]
    metric["results"] = {"7001": {**metric["results"][str(samples.BASELINE)], "variation_id": "7001"}}
    other["start_time"], other["is_stale"] = "2026-01-01T00:00:00Z", True
    merged = composition.campaign_results(
        samples.layer(experiment_ids=(samples.EXPERIMENT, samples.SECOND_EXPERIMENT)),
        samples.project(),
        pages_of(first, second),
        [samples.results(), other],
    )
    (shared,) = merged["metrics"]
    assert {key: variant["experiment_id"] for key, variant in shared["results"].items()} == {
        str(samples.BASELINE): samples.EXPERIMENT,
        str(samples.TREATMENT): samples.EXPERIMENT,
        "7001": samples.SECOND_EXPERIMENT,
    }
    assert "conclusion" not in shared
    assert (merged["start_time"], merged["end_time"]) == ("2026-01-01T00:00:00Z", "2026-01-19T09:30:00Z")
    assert merged["is_stale"] is True


def test_a_campaign_of_services_that_disagree_is_a_bad_answer():
    with pytest.raises(BadUpstreamResponse):
        composition.campaign_results(
            samples.layer(9), samples.project(), pages_of(samples.experiment()), [samples.results()]
        )


@pytest.mark.parametrize(
    "call",
    [
        *(EXPERIMENT_MAKERS[name]({"experiment": samples.experiment()}) for name in ("campaign", "project")),
        composition.campaign_results_makers({}, 5.0, 10)["project"]({"campaign": samples.layer()}),
    ],
    ids=lambda call: call.path,
)
def test_what_one_service_names_another_must_know(call):
    with pytest.raises(BadUpstreamResponse, match="status 404"):
        read_response(call, 404, b"", {})


def test_metrics_that_differ_are_kept_apart():
    other = samples.results()
    other["metrics"][0]["aggregator"] = "count"
    merged = composition.campaign_results(
        samples.layer(),
        samples.project(),
        pages_of(samples.experiment(), samples.experiment(samples.SECOND_EXPERIMENT)),
        [samples.results(), other],
    )
    assert [metric["aggregator"] for metric in merged["metrics"]] == ["unique", "count"]


@pytest.mark.parametrize(
    ("results", "status"),
    [([None, None], 204), ([samples.results(), None], 200), ([samples.results(), Computing()], 202)],
)
def test_a_campaign_is_answered_by_what_its_experiments_have(results, status):
    merged = composition.campaign_results(
        samples.layer(),
        samples.project(),
        pages_of(samples.experiment(), samples.experiment(samples.SECOND_EXPERIMENT)),
        results,
    )
    assert composition.results_response(merged)[0] == status
