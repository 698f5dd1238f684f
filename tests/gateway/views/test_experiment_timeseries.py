"""GET /v2/experiments/{experiment_id}/timeseries: the results over time."""

import pytest

from tests.support import samples
from tests.support.asserting import assert_error, get

TIMESERIES = f"/v2/experiments/{samples.EXPERIMENT}/timeseries"


def test_200_composes_experiment_campaign_project_and_series(gateway, services):
    assert get(gateway, TIMESERIES).json == {
        **samples.timeseries(),
        "experiment_id": samples.EXPERIMENT,
        "confidence_threshold": samples.project()["confidence_threshold"],
    }
    assert "POST results /results/4001/timeseries" in services.calls()


def test_the_question_is_that_of_results(gateway, services):
    query = "?start_time=2026-01-05T10:00:00Z&browser=firefox&baseline_variation_id=6002"
    for path in (TIMESERIES, TIMESERIES.replace("timeseries", "results")):
        get(gateway, path + query)
    series, results = [seen.body for seen in services.seen if seen.service == "results"]
    assert series == results
    assert series["baseline_variation_id"] == "6002"


@pytest.mark.parametrize("status", [202, 204])
def test_202_and_204_as_for_results(gateway, services, status):
    services.results_status = status
    assert get(gateway, TIMESERIES, status=status).body == b""


def test_304_while_nothing_changes(gateway):
    etag = get(gateway, TIMESERIES).headers["ETag"]
    get(gateway, TIMESERIES, 304, **{"If-None-Match": etag})


def test_400_says_where_the_query_is_wrong(gateway):
    body = assert_error(get(gateway, f"{TIMESERIES}?browser=lynx", status=400), 400, "bad_request")
    assert list(body["messages"]) == ["/query/browser"]


def test_403_for_another_accounts_experiment(gateway):
    path = f"/v2/experiments/{samples.OTHER_EXPERIMENT}/timeseries"
    assert_error(get(gateway, path, status=403), 403, "forbidden")


def test_404_when_the_experiment_is_unknown(gateway):
    path = "/v2/experiments/99/timeseries"
    assert_error(get(gateway, path, status=404), 404, "not_found", "no experiment 99")


def test_502_when_the_series_break_the_contract(gateway, services):
    services.manners["results"].body = b'{"experiment_id": 4001, "metrics": []}'
    assert_error(get(gateway, TIMESERIES, status=502), 502, "bad_upstream_answer", "results")
