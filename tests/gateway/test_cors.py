"""Cross-origin requests: a page of any site can call every address and read every response.

`tests/runtime/test_refusals.py` has the responses that the server makes without the application.
"""

import pytest

from optimizely_api import main
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support import samples
from tests.support.asserting import AUTHORIZED, get

ORIGIN = {"Origin": "https://page.example"}
PREFLIGHT = {
    **ORIGIN,
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "authorization",
}


def listed(response, header):
    return {item.strip().lower() for item in response.headers[header].split(",")}


def assert_readable(response):
    assert response.headers.getall("Access-Control-Allow-Origin") == ["*"]
    exposed = listed(response, "Access-Control-Expose-Headers")
    assert exposed >= {"link", "etag", "retry-after", "x-request-id"}
    assert exposed >= {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize(
    "path",
    [
        "/v2/projects",
        f"/v2/experiments/{samples.EXPERIMENT}/results",
        "/v2/attributes",
        "/v2/swagger.json",
        "/v2/swagger.yaml",
        "/v1/events",
        "/v2",
        "/",
        "/docs",
        "/healthz",
        "/nowhere",
    ],
)
def test_204_for_every_preflight_without_a_token(gateway, services, path):
    response = gateway.options(path, headers=PREFLIGHT, status=204)
    assert_readable(response)
    assert listed(response, "Access-Control-Allow-Methods") >= {"get", "post", "put", "patch", "delete"}
    allowed = listed(response, "Access-Control-Allow-Headers")
    assert allowed >= {"authorization", "content-type", "if-match", "if-none-match", "idempotency-key"}
    assert "content-encoding" in allowed  # of compressed batches of events
    assert int(response.headers["Access-Control-Max-Age"]) > 0
    assert response.body == b""
    assert services.seen == []


def test_options_without_a_preflights_headers_needs_no_token_either(gateway):
    response = gateway.options("/v2/projects", status=204)
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    assert "Access-Control-Allow-Methods" not in response.headers
    assert_readable(response)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v2/projects", AUTHORIZED, 200),
        ("HEAD", "/v2/projects", AUTHORIZED, 200),
        ("GET", "/v2/projects?page=0", AUTHORIZED, 400),
        ("GET", "/%ff", {}, 400),
        ("GET", "/v2/projects", {}, 401),
        ("GET", f"/v2/projects/{samples.OTHER_PROJECT}", AUTHORIZED, 403),
        ("GET", "/v2/projects/99", AUTHORIZED, 404),
        ("GET", "/nowhere", {}, 404),
        ("OPTIONS", "/nowhere", {}, 404),
        ("PUT", "/v2/projects", {}, 405),
        ("GET", "/v2/swagger.json", {}, 200),
        ("GET", "/healthz", {}, 200),
        ("GET", "/docs", {}, 200),
        ("GET", "/docs/", {}, 308),
        ("GET", "/v2", {"Accept": "text/html"}, 303),
    ],
)
def test_a_page_can_read_every_response(gateway, method, path, headers, status):
    assert_readable(gateway.request(path, method=method, headers={**ORIGIN, **headers}, status=status))


def test_a_page_can_read_304_412_and_413(services):
    with GatewayTestApp(main({}, **services.settings(), max_request_body_bytes="10")) as app:
        etag = get(app, "/v2/projects").headers["ETag"]
        assert_readable(get(app, "/v2/projects", status=304, **{"If-None-Match": etag}))
        assert_readable(get(app, "/v2/projects", status=412, **{"If-Match": '"other"'}))
        body = b"x" * 11
        assert_readable(app.request("/v2/projects", method="GET", body=body, headers=AUTHORIZED, status=413))


def test_a_page_can_read_500_and_503(gateway, services, monkeypatch):
    def defect(_request):
        raise RuntimeError

    monkeypatch.setattr("optimizely_api.gateway.views.projects.requested_page", defect)
    assert_readable(get(gateway, "/v2/projects", status=500))
    services.close("experiments")
    assert_readable(get(gateway, f"/v2/experiments/{samples.EXPERIMENT}", status=503))


def test_no_response_depends_on_the_origin(gateway):
    with_origin, without = (get(gateway, "/v2/projects", **headers) for headers in (ORIGIN, {}))
    assert without.headers["Access-Control-Allow-Origin"] == "*"
    assert "Origin" not in with_origin.headers["Vary"]
