"""POST /v1/events at the gateway: a bounded way through to the results service."""

import gzip
import sys

import brotli
import pytest
from aiohttp.http import SERVER_SOFTWARE

from optimizely_api import main
from optimizely_api.gateway.views.event_batches import ACCEPTED_CODINGS
from optimizely_api.runtime.testing import GatewayTestApp
from optimizely_api.services.http import codings
from optimizely_api.upstream.calls import LONGEST_USER_AGENT
from tests.support.asserting import assert_error
from tests.support.samples import SERVICES_KEY
from tests.support.serving import serve

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LARGEST = 3_670_016
BATCH = b'{"account_id": "1", "visitors": [] }'


def test_204_without_a_token_and_the_batch_arrives_byte_for_byte(gateway, services):
    response = gateway.post("/v1/events", BATCH, content_type="text/plain", status=204)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.body == b""
    (seen,) = services.seen
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/events", BATCH)


def test_nothing_of_the_callers_headers_is_passed_on_but_request_id_and_user_agent(gateway, services):
    headers = {
        "Authorization": "Bearer 2:a-callers-token",
        "Cookie": "a=b",
        "Origin": "https://page.example",
        "User-Agent": "an SDK",
        "X-Forwarded-For": "192.0.2.1",
        "X-Request-Id": "mine",
    }
    gateway.post("/v1/events?token=x", BATCH, headers=headers, status=204)
    sent = {name.lower(): value for name, value in services.seen[0].headers.items()}
    assert sent.pop("x-request-id").startswith("mine.")
    assert sent.pop("authorization") == f"Bearer {SERVICES_KEY}"
    assert sent.pop("user-agent") == "an SDK"
    assert int(sent.pop("x-envoy-expected-rq-timeout-ms")) > 0
    assert set(sent) == {"host", "accept", "accept-encoding", "content-type", "content-length"}
    assert services.seen[0].query == {}


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
def test_a_compressed_batch_is_passed_on_as_it_is(gateway, services, coding):
    gateway.post("/v1/events", gzip.compress(BATCH), headers={"Content-Encoding": coding}, status=204)
    assert services.seen[0].headers["Content-Encoding"] == "gzip"
    assert services.seen[0].body == BATCH  # decoded by the service


def test_codings_of_the_results_service_are_accepted(gateway, services):
    assert ACCEPTED_CODINGS == codings.CODINGS
    for coding, compressed in {"br": brotli.compress(BATCH), "zstd": zstd.compress(BATCH)}.items():
        gateway.post("/v1/events", compressed, headers={"Content-Encoding": coding}, status=204)
    assert [seen.headers["Content-Encoding"] for seen in services.seen] == ["br", "zstd"]
    assert [seen.body for seen in services.seen] == [BATCH] * 2


@pytest.mark.parametrize(
    ("agent", "passed_on"),
    [
        ("Mozilla/5.0 \xff\t(X)", "Mozilla/5.0 ??(X)"),
        ("a" * 2000, "a" * LONGEST_USER_AGENT),
        (" ", SERVER_SOFTWARE),
    ],
    ids=["no ASCII", "2,000 characters", "empty"],
)
def test_any_user_agent_arrives_as_a_header_can_have_it(gateway, services, agent, passed_on):
    gateway.post("/v1/events", BATCH, headers={"User-Agent": agent}, status=204)
    assert services.seen[0].headers.get("User-Agent") == passed_on


@pytest.mark.parametrize("coding", ["compress", "gzip, gzip", "gzip\tx"])
def test_415_for_another_coding(gateway, services, coding):
    response = gateway.post("/v1/events", BATCH, headers={"Content-Encoding": coding}, status=415)
    assert_error(response, 415, "unsupported_media_type")
    assert response.headers["Accept-Encoding"] == "gzip, deflate, br, zstd"
    assert services.seen == []


@pytest.mark.parametrize(
    ("status", "code", "retry_after"),
    [
        (400, "bad_request", None),
        (413, "request_too_large", None),
        (429, "too_many_requests", "7"),
        (503, "upstream_unavailable", "7"),
    ],
)
def test_what_the_service_refuses_is_passed_on(gateway, services, status, code, retry_after):
    services.events_answer = (status, {"Retry-After": "7"} if retry_after else {})
    response = gateway.post("/v1/events", BATCH, status=status)
    assert_error(response, status, code, "The service says why.")
    assert response.headers.get("Retry-After") == retry_after
    assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("status", [200, 302, 401, 404, 500])
def test_502_for_any_other_answer(gateway, services, status):
    services.events_answer = (status, {})
    response = gateway.post("/v1/events", BATCH, status=502)
    assert_error(response, 502, "bad_upstream_answer", "results")


def test_503_when_the_results_service_is_away(gateway, services):
    services.close("results")
    response = gateway.post("/v1/events", BATCH, status=503)
    assert_error(response, 503, "upstream_unavailable", "results")
    assert response.headers["Retry-After"] == "1"


def test_504_when_it_is_late(services):
    settings = {**services.settings(), "results_timeout_seconds": "0.2"}
    with GatewayTestApp(main({}, **settings)) as gateway:
        services.manners["results"].hang = True
        assert_error(gateway.post("/v1/events", BATCH, status=504), 504, "upstream_timeout", "results")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_405_for_another_method(gateway, method):
    response = gateway.request("/v1/events", method=method, status=405)
    assert response.headers["Allow"] == "OPTIONS, POST"


def test_no_other_address_is_found_beside_it(gateway):
    for path in ("/v1", "/v1/events/", "/v1/events/1", "/v1/tokens"):
        assert_error(gateway.post(path, BATCH, status=404), 404, "not_found")


def test_batches_have_a_larger_limit_than_other_bodies(gateway, services):
    gateway.post("/v1/events", b" " * LARGEST, status=204)
    assert len(services.seen[0].body) == LARGEST
    response = gateway.post("/v1/events", b" " * (LARGEST + 1), status=413)
    assert_error(response, 413, "request_too_large", str(LARGEST))
    assert len(services.seen) == 1


def test_the_limits_hold_under_gunicorn_chunked_or_not(services, tmp_path):
    with serve("main", services.settings(), tmp_path / "log", "--workers", "1") as served:
        for size, status in ((LARGEST, 204), (LARGEST + 1, 413)):
            for body in (b" " * size, iter([b" " * 65_536] * (size // 65_536) + [b" " * (size % 65_536)])):
                assert served.post("/v1/events", body).status_code == status, size
        assert [len(seen.body) for seen in services.seen] == [LARGEST] * 2
