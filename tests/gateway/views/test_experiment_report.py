"""GET /v2/experiments/{experiment_id}/report: an experiment's outcome in a word."""

import pytest

from tests.support import samples
from tests.support.asserting import assert_error, get

REPORT = f"/v2/experiments/{samples.EXPERIMENT}/report"


@pytest.mark.parametrize(
    ("conclusion", "outcome"),
    [
        ({"winner": str(samples.TREATMENT)}, "win"),
        ({"winner": str(samples.TREATMENT), "loser": "7"}, "win"),
        ({"loser": str(samples.TREATMENT)}, "loss"),
        ({}, "inconclusive"),
    ],
)
def test_the_first_metric_decides(gateway, services, conclusion, outcome):
    metrics = services.results[samples.EXPERIMENT]["metrics"]
    metrics[0]["conclusion"] = conclusion
    metrics.append({**metrics[0], "conclusion": {"loser": "8"}})
    results = get(gateway, REPORT.replace("report", "results")).json
    times = {name: results[name] for name in ("start_time", "end_time")}
    assert get(gateway, REPORT).json == {
        "experiment_id": samples.EXPERIMENT,
        "inferred_outcome": outcome,
        **times,
    }


def test_an_experiment_without_metrics_is_inconclusive(gateway, services):
    services.results[samples.EXPERIMENT]["metrics"] = []
    assert get(gateway, REPORT).json["inferred_outcome"] == "inconclusive"


@pytest.mark.parametrize("status", [202, 204])
def test_202_and_204_as_for_results(gateway, services, status):
    services.results_status = status
    assert get(gateway, REPORT, status=status).body == b""


def test_404_when_the_experiment_is_unknown(gateway):
    path = "/v2/experiments/99/report"
    assert_error(get(gateway, path, status=404), 404, "not_found", "no experiment 99")
