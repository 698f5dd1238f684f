"""A caller's own deadline (`X-Request-Timeout-Ms`) bounds its request, and every call that the request makes."""

import time

import pytest

from optimizely_api import main
from optimizely_api.gateway.settings import Settings
from optimizely_api.gateway.upstreams import limits
from optimizely_api.runtime import CAME_AT
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get

RESULTS = f"/v2/experiments/{samples.EXPERIMENT}/results"
TOLD = "X-Envoy-Expected-Rq-Timeout-Ms"
BATCH = b'{"account_id":"1","visitors":[]}'


def told(services):
    """The milliseconds that each service has been told, call by call."""
    return [int(seen.headers[TOLD]) for seen in services.seen]


def test_504_when_the_time_that_the_caller_waits_is_spent(gateway, services):
    services.manners["projects"].hang = True
    started = time.monotonic()
    response = get(gateway, RESULTS, 504, **{"X-Request-Timeout-Ms": "300"})
    assert_error(response, 504, "upstream_timeout", "service did not answer within")
    assert time.monotonic() - started < 3.0  # the limit of the service


def test_every_call_is_told_what_is_left_of_it(gateway, services):
    get(gateway, RESULTS, **{"X-Request-Timeout-Ms": "900"})
    assert len(told(services)) >= 4
    assert max(told(services)) <= 898


def test_a_wait_for_results_stays_within_it(gateway, services):
    get(gateway, RESULTS, **{"X-Request-Timeout-Ms": "1000", "Prefer": "wait=60"})
    (waited,) = (seen.headers["Prefer"] for seen in services.seen if seen.service == "results")
    assert float(waited.removeprefix("wait=")) <= 0.8


def test_a_service_is_judged_by_no_more_time_than_requests_have():
    assert limits(Settings(request_deadline_seconds=2.0)).request_seconds == 2.0


def test_it_cannot_be_longer_than_the_settings_allow(gateway, services):
    get(gateway, RESULTS, **{"X-Request-Timeout-Ms": "999999999"})
    assert max(told(services)) <= 7998


@pytest.mark.parametrize("field", ["", "soon", "0", "-1", "1.5", "1s", "9" * 20])
def test_one_that_cannot_be_read_is_ignored(gateway, services, field):
    get(gateway, RESULTS, **{"X-Request-Timeout-Ms": field})
    assert max(told(services)) > 5000


def test_a_batch_of_events_keeps_it_too(gateway, services):
    gateway.post("/v1/events", BATCH, headers={"X-Request-Timeout-Ms": "700"}, status="*")
    assert max(told(services)) <= 698


def test_the_504_of_a_service_is_the_gateways(gateway, services):
    services.manners["results"].status = 504
    response = gateway.get(RESULTS, headers=AUTHORIZED, status=504)
    assert_error(response, 504, "upstream_timeout", "The results service did not answer in time")


def after_a_wait(gateway, seconds, timeout_ms, **options):
    """The response to a request that waited to begin for so long."""
    headers = {**AUTHORIZED, "X-Request-Timeout-Ms": str(timeout_ms)}
    environ = {CAME_AT: time.monotonic() - seconds}
    return gateway.get(RESULTS, headers=headers, extra_environ=environ, **options)


def test_the_time_in_which_a_request_waits_to_begin_counts(gateway, services):
    after_a_wait(gateway, 7.5, 10_000)
    assert max(told(services)) <= 2498


def test_504_and_no_work_for_a_request_that_waits_to_begin_for_longer_than_its_caller(gateway, services):
    response = after_a_wait(gateway, 2, 1500, status=504)
    assert_error(response, 504, "upstream_timeout", "before it could begin")
    assert services.seen == []


def test_it_waits_for_results_no_longer_than_the_rest_of_the_requests_time(services):
    """The request has a time limit of its own, from which the wait to begin is taken too."""
    settings = {"request_deadline_seconds": "100", "results_timeout_seconds": "90"}
    with GatewayTestApp(main({}, **services.settings(), **settings)) as app:
        headers = {**AUTHORIZED, "Prefer": "wait=60"}
        app.get(RESULTS, headers=headers, extra_environ={CAME_AT: time.monotonic() - 95})
    (waited,) = (seen.headers["Prefer"] for seen in services.seen if seen.service == "results")
    assert float(waited.removeprefix("wait=")) <= 4
