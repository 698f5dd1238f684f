"""GET /v2/campaigns/{campaign_id}/results: the results of all experiments of a campaign."""

import statistics

import pytest

from optimizely_api.gateway.composition.results import pooled
from tests.support import samples
from tests.support.asserting import assert_error, get

RESULTS = f"/v2/campaigns/{samples.LAYER}/results"


@pytest.fixture
def two_experiments(services):
    services.layers[samples.LAYER]["experiment_ids"] = [samples.EXPERIMENT, samples.SECOND_EXPERIMENT]
    services.experiments[samples.SECOND_EXPERIMENT] = samples.experiment(samples.SECOND_EXPERIMENT)
    second = samples.results()
    metric = second["metrics"][0]
    metric["results"] = {"7001": {**metric["results"][str(samples.BASELINE)], "variation_id": "7001"}}
    services.results[samples.SECOND_EXPERIMENT] = second
    return services


def test_200_merges_the_results_of_every_experiment(gateway, two_experiments):
    body = get(gateway, RESULTS).json
    assert body["campaign_id"] == samples.LAYER
    assert body["confidence_threshold"] == samples.project()["confidence_threshold"]
    (metric,) = body["metrics"]
    assert {key: variant["experiment_id"] for key, variant in metric["results"].items()} == {
        str(samples.BASELINE): samples.EXPERIMENT,
        str(samples.TREATMENT): samples.EXPERIMENT,
        "7001": samples.SECOND_EXPERIMENT,
    }


def test_each_experiment_is_asked_by_the_campaigns_metrics(gateway, two_experiments):
    two_experiments.layers[samples.LAYER]["metrics"][0]["aggregator"] = "count"
    get(gateway, RESULTS)
    bodies = [seen.body for seen in two_experiments.seen if seen.service == "results"]
    assert [[metric["aggregator"] for metric in body["metrics"]] for body in bodies] == [["count"], ["count"]]


def test_an_experiment_without_data_does_not_hide_the_others(gateway, two_experiments):
    del two_experiments.results[samples.SECOND_EXPERIMENT]
    (metric,) = get(gateway, RESULTS).json["metrics"]
    assert set(metric["results"]) == {str(samples.BASELINE), str(samples.TREATMENT)}


def test_204_when_no_experiment_has_data(gateway, services):
    services.results.clear()
    assert get(gateway, RESULTS, status=204).body == b""


def test_204_for_a_campaign_without_experiments(gateway, services):
    services.layers[samples.LAYER]["experiment_ids"] = []
    services.experiments.clear()
    assert get(gateway, RESULTS, status=204).body == b""


def test_403_for_another_accounts_campaign(gateway):
    path = f"/v2/campaigns/{samples.OTHER_LAYER}/results"
    assert_error(get(gateway, path, status=403), 403, "forbidden", f"campaign {samples.OTHER_LAYER}")


def test_403_when_the_project_belongs_to_another_account(gateway, services):
    services.projects[samples.PROJECT]["account_id"] = samples.OTHER_ACCOUNT
    assert_error(get(gateway, RESULTS, status=403), 403, "forbidden")


def test_404_when_the_campaign_is_unknown(gateway):
    assert_error(get(gateway, "/v2/campaigns/99/results", status=404), 404, "not_found", "no campaign 99")


def test_the_fan_out_is_bounded(services):
    from optimizely_api import main
    from optimizely_api.runtime.testing import GatewayTestApp

    ids = list(range(4100, 4112))
    services.layers[samples.LAYER]["experiment_ids"] = ids
    for experiment_id in ids:
        services.experiments[experiment_id] = samples.experiment(experiment_id)
        services.results[experiment_id] = samples.results()
    del services.experiments[samples.EXPERIMENT]
    services.manners["results"].delay_seconds = 0.05
    with GatewayTestApp(main({}, **services.settings(), campaign_fan_out="3")) as app:
        get(app, RESULTS)
    assert len([seen for seen in services.seen if seen.service == "results"]) == len(ids)
    assert services.most_at_once("results") == 3


def test_visitors_held_back_are_the_baseline_of_the_campaign(gateway, two_experiments):
    for number, experiment_id in enumerate((samples.EXPERIMENT, samples.SECOND_EXPERIMENT)):
        metric = two_experiments.results[experiment_id]["metrics"][0]
        variant = metric["results"][next(iter(metric["results"]))]
        held_back = {**variant, "value": 10 + number, "samples": 100, "level": "experiment"}
        metric["results"]["baseline"] = {**held_back, "variation_id": "holdback"}
    (metric,) = get(gateway, RESULTS).json["metrics"]
    baseline, campaign = metric["results"]["baseline"], metric["results"]["campaign"]
    assert (baseline["value"], baseline["samples"], baseline["rate"]) == (21, 200, 0.105)
    assert (campaign["value"], campaign["samples"], campaign["rate"]) == (350, 3000, 350 / 3000)
    assert [baseline["level"], campaign["level"]] == ["campaign", "campaign"]
    assert [baseline["is_baseline"], campaign["is_baseline"]] == [True, False]
    assert baseline["variance"] == pytest.approx(0.105 * 0.895)


@pytest.mark.parametrize("is_share", [True, False])
def test_figures_of_several_variants_are_those_of_all_their_samples(is_share):
    groups = [[1, 0, 0, 1], [0, 1], [1]] if is_share else [[3.0, 0.5, 7.0], [1.25], [2.0, 9.0]]
    samples_of_all = [sample for group in groups for sample in group]

    def figures(group):
        variance = statistics.pvariance(group) if is_share else 0.0
        if len(group) > 1 and not is_share:
            variance = statistics.variance(group)
        return {"value": sum(group), "samples": len(group), "variance": variance}

    found = pooled([figures(group) for group in groups], is_share)
    assert found["variance"] == pytest.approx(figures(samples_of_all)["variance"])
    assert found["rate"] == pytest.approx(statistics.mean(samples_of_all))
