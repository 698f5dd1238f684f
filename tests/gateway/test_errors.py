"""Errors: one shape, stable codes, the right status, and nothing of the inside."""

import pytest

from optimizely_api import main
from optimizely_api.gateway import errors
from optimizely_api.runtime import refusals
from optimizely_api.runtime.testing import GatewayTestApp
from optimizely_api.upstream.errors import UpstreamError
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get


def test_every_upstream_error_has_a_code_of_the_table():
    kinds = UpstreamError.__subclasses__()
    assert len(kinds) == 10
    assert all(kind.code in errors.CODES for kind in kinds)


def test_every_error_of_the_server_itself_has_its_code_in_the_table():
    for status, (code, _) in refusals.REFUSALS.items():
        assert errors.CODES[code] == status


@pytest.mark.parametrize("path", ["/v2/nowhere", "/v2/projects/1/2/3", "/nowhere"])
def test_404_for_an_unknown_address(gateway, path):
    assert_error(get(gateway, path, status=404), 404, "not_found", "/v2/swagger.json")


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_405_lists_the_methods_of_the_address(gateway, method):
    response = getattr(gateway, method)("/v2/projects", headers=AUTHORIZED, status=405)
    assert_error(response, 405, "method_not_allowed")
    assert "GET" in response.headers["Allow"]


def test_413_for_a_body_over_the_limit(services):
    with GatewayTestApp(main({}, **services.settings(), max_request_body_bytes="100")) as app:
        response = app.request(
            "/v2/projects", method="GET", body=b"x" * 101, headers=AUTHORIZED, expect_errors=True
        )
        assert_error(response, 413, "request_too_large", "100 bytes")


def test_a_body_of_just_the_limit_is_taken(services):
    with GatewayTestApp(main({}, **services.settings(), max_request_body_bytes="100")) as app:
        app.request("/v2/projects", method="GET", body=b"x" * 100, headers=AUTHORIZED, status=200)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/projects/%ff",
        "/v2/projects?filter=%ff",
        "/v2/projects/%",
        "/v2/%E0%A4%A",
        "/%ff",
        "/v2/projects?%ff=1",
    ],
)
def test_bytes_that_are_no_text_are_the_callers_fault(gateway, path):
    response = get(gateway, path, status="*")
    assert 200 <= response.status_int < 500
    if response.status_int >= 400:
        assert_error(response, response.status_int, response.json["code"])


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/nowhere?%ff", {}, 404),
        ("/healthz?%ff", {}, 200),
        ("/v2/projects?%ff", {}, 401),
        ("/v2/projects?%ff", {"Authorization": "Bearer unknown"}, 401),
        ("/v2/nowhere?%ff", AUTHORIZED, 404),
        ("/v2/projects?%ff", AUTHORIZED, 400),
    ],
)
def test_a_query_that_is_no_text_hides_no_other_error(gateway, path, headers, status):
    response = gateway.get(path, headers=headers, status=status)
    if status >= 400:
        assert_error(response, status, response.json["code"])


def test_413_comes_before_a_query_that_is_no_text(services):
    with GatewayTestApp(main({}, **services.settings(), max_request_body_bytes="100")) as app:
        response = app.request(
            "/v2/projects?%ff", method="GET", body=b"x" * 101, headers=AUTHORIZED, expect_errors=True
        )
        assert_error(response, 413, "request_too_large")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/docs/start.js"])
def test_405_outside_the_contract_too(gateway, path):
    response = gateway.post(path, status=405)
    assert_error(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_the_log_says_what_an_upstream_did(gateway, services, caplog):
    services.close("experiments")
    body = get(gateway, f"/v2/experiments/{samples.EXPERIMENT}", status=503).json
    assert body["uuid"] in caplog.text
    assert "ClientConnectorError" in caplog.text


def test_500_shows_nothing_of_the_inside(gateway, services, monkeypatch, caplog):
    def defect(_name, _entity):
        raise RuntimeError("secret-detail")

    monkeypatch.setattr("optimizely_api.gateway.resource.public", defect)
    response = get(gateway, f"/v2/events/{samples.EVENT}", status=500)
    body = assert_error(response, 500, "internal_error")
    assert "secret-detail" not in response.text
    assert "secret-detail" in caplog.text
    assert body["uuid"] in caplog.text
