"""Waiting for results that are being computed: Prefer, Preference-Applied and Retry-After."""

import pytest

from optimizely_api import main
from optimizely_api.http.preferences import preferred_wait, wait_preference
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support import samples
from tests.support.asserting import get

RESULTS = f"/v2/experiments/{samples.EXPERIMENT}/results"
ADDRESSES = [
    RESULTS,
    f"/v2/experiments/{samples.EXPERIMENT}/timeseries",
    f"/v2/export/experiments/{samples.EXPERIMENT}/results/csv",
    f"/v2/campaigns/{samples.LAYER}/results",
    f"/v2/export/campaigns/{samples.LAYER}/results/csv",
]


def waits(services):
    """What the results service has been told to wait."""
    return [seen.headers.get("Prefer") for seen in services.seen if seen.service == "results"]


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_202_says_when_to_ask_again(gateway, services, path):
    services.results_status, services.retry_after_seconds = 202, 7
    response = get(gateway, path, status=202)
    assert (response.headers["Retry-After"], response.body) == ("7", b"")
    assert "Preference-Applied" not in response.headers
    assert waits(services) == ["wait=5"]


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize("status", [200, 202])
def test_a_caller_may_say_how_long_to_wait(gateway, services, path, status):
    services.results_status = status
    response = get(gateway, path, status, Prefer="respond-async, wait=2")
    assert response.headers["Preference-Applied"] == "wait=2"
    assert waits(services) == ["wait=2"]


def test_no_caller_waits_longer_than_the_limits_of_time_allow(services):
    settings = {"results_timeout_seconds": "3", "results_wait_seconds": "100"}
    with GatewayTestApp(main({}, **services.settings(), **settings)) as app:
        assert get(app, RESULTS, Prefer="wait=60").headers["Preference-Applied"] == "wait=2.4"
        get(app, RESULTS)
    assert waits(services) == ["wait=2.4", "wait=2.4"]


def test_the_experiments_of_a_campaign_share_the_wait(services):
    ids = list(range(4100, 4105))
    services.layers[samples.LAYER]["experiment_ids"] = ids
    services.experiments.clear()
    for experiment_id in ids:
        services.experiments[experiment_id] = samples.experiment(experiment_id)
    with GatewayTestApp(main({}, **services.settings(), campaign_fan_out="2")) as app:
        get(app, f"/v2/campaigns/{samples.LAYER}/results", status=204, Prefer="wait=6")
    assert waits(services) == ["wait=2"] * 5


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ("wait=10", 10),
        ("respond-async, wait=10", 10),
        ('Wait = "10"; foo=bar', 10),
        ("wait=1, wait=2", 1),
        ("wait=0", 0),
        ("wait=0.25", 0.25),
        *(
            (odd, None)
            for odd in (None, "", "wait", "wait=", "wait=-1", "wait=1e3", "await=1", "wait=x", "wait=1 2")
        ),
    ],
)
def test_the_first_wait_that_can_be_read_counts(field, seconds):
    assert preferred_wait(field) == seconds


def test_an_applied_wait_reads_as_it_was_sent():
    assert preferred_wait(wait_preference(6.4)) == 6.4
