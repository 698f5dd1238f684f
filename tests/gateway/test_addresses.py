"""Addresses: what leads where, what is not here yet, and what is nowhere."""

import json
from pathlib import Path

import pytest

from optimizely_api import main
from optimizely_api.contract import load
from optimizely_api.contract.not_yet import PublicOperation, not_here_yet, public_operations
from optimizely_api.gateway.contract import routes
from optimizely_api.gateway.paging import link_header
from optimizely_api.gateway.upstreams import GatewayRequest
from optimizely_api.runtime.environ import build_environ
from optimizely_api.runtime.testing import GatewayTestApp
from optimizely_api.upstream.calls import Page
from tests.runtime.asgi import call, http_scope
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get

FACTS = json.loads((Path(__file__).parents[1] / "contract" / "public_v2_contract.json").read_text())[
    "operations"
]
SERVED = load().operations
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def test_the_public_operations_are_the_known_ones():
    known = {
        (name, operation["method"], operation["path"], operation["tag"]) for name, operation in FACTS.items()
    }
    assert {(item.operation_id, item.method, item.path, item.tag) for item in public_operations()} == known


def test_those_not_here_yet_are_the_known_ones_less_those_served():
    missing = [operation.operation_id for operation in not_here_yet(SERVED)]
    assert sorted(missing) == sorted(FACTS.keys() - SERVED.keys())


@pytest.fixture
def incomplete_gateway(services, monkeypatch):
    """A gateway that lacks two operations of the public API."""
    lacking = [
        PublicOperation("get_tea", "GET", "/teas/{tea_id}", "Teas"),
        PublicOperation("create_tea", "POST", "/teas", "Teas"),
    ]
    monkeypatch.setattr(routes, "not_here_yet", lambda served: lacking)
    with GatewayTestApp(main({}, **services.settings())) as app:
        yield app


@pytest.mark.parametrize(
    ("method", "path", "name"), [("GET", "/v2/teas/1", "get_tea"), ("POST", "/v2/teas", "create_tea")]
)
def test_501_names_the_operation_that_is_not_here_yet_without_a_token(
    incomplete_gateway, services, method, path, name
):
    response = incomplete_gateway.request(path, method=method, body=b"x" * 2_000_000, status=501)
    body = assert_error(response, 501, "not_implemented", f"{name} ({method} /v2/teas")
    assert "messages" not in body
    assert services.seen == []
    refused = incomplete_gateway.put(path, status=405)
    assert refused.headers["Allow"] == "OPTIONS"


def test_405_for_a_method_that_the_public_api_has_not_lists_those_that_work(gateway):
    response = gateway.put("/v2/projects", status=405)
    assert_error(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v2/nowhere", 404), ("PUT", "/v2/projects", 405)]
)
def test_404_and_405_come_before_413_and_401(gateway, method, path, status):
    gateway.request(path, method=method, body=b"x" * 2_000_000, status=status)


def test_413_comes_before_401(gateway):
    response = gateway.request("/v2/projects", method="GET", body=b"x" * 2_000_000, status=413)
    assert_error(response, 413, "request_too_large")


@pytest.mark.parametrize("path", ["/", "/v2", "/v2/"])
def test_a_browser_is_led_to_the_docs_page(gateway, path):
    response = gateway.get(path, headers=BROWSER, status=303)
    assert response.headers["Location"] == "http://localhost/docs"
    assert "Accept" in response.headers["Vary"].split(", ")


@pytest.mark.parametrize("path", ["/", "/v2", "/v2/"])
@pytest.mark.parametrize("accept", [None, "*/*", "application/json"])
def test_a_program_is_told_what_is_where(gateway, path, accept):
    response = gateway.get(path, headers={"Accept": accept} if accept else {}, status=200)
    assert response.json == {"api": "/v2", "contract": "/v2/swagger.json", "docs": "/docs"}
    assert "Accept" in response.headers["Vary"].split(", ")
    assert gateway.get(response.json["contract"]).json["basePath"] == "/v2"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v2/projects/", "/v2/projects"),
        ("/v2//projects", "/v2/projects"),
        ("//v2/projects", "/v2/projects"),
        ("/v2/projects/1//", "/v2/projects/1"),
        ("/v2/attributes/", "/v2/attributes"),
        ("/healthz/", "/healthz"),
    ],
)
def test_404_names_the_address_without_the_slash_too_many(gateway, path, meant):
    body = assert_error(get(gateway, path, status=404), 404, "not_found", "slash too many")
    assert f" {meant} " in body["message"]


@pytest.mark.parametrize("path", ["/v2/nowhere/", "/nowhere"])
def test_404_says_nothing_of_slashes_where_fewer_lead_nowhere_either(gateway, path):
    body = assert_error(get(gateway, path, status=404), 404, "not_found", "/v2/swagger.json")
    assert "slash" not in body["message"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/projects%2F1", 404),
        ("/v2%2fprojects", 404),
        ("/v2/projects%252F1", 404),
        (f"/v2/experiments/{samples.EXPERIMENT}%2Fresults", 400),
        (f"/v2/experiments/{samples.EXPERIMENT}%2fresults", 400),
        (f"/v2/projects/1%2F..%2F{samples.PROJECT}", 400),
        ("/v2/projects/%2e%2e/projects", 404),
        ("/v2/projects/..", 400),
        ("/v2/projects/../projects", 404),
        ("/v2/projects/%2e%2e", 400),
        ("/v2/projects;x=1", 404),
        (f"/v2/projects/{samples.PROJECT};x=1", 400),
        ("/v2/projects%0A", 404),
        (f"/v2/projects/{samples.PROJECT}%0A", 404),
        ("/v2/projects%00", 404),
        ("/docs/..%2Fdocs", 404),
        ("/healthz%0a", 404),
        ("/V2/projects", 404),
        ("/v2/%70rojects", 200),
    ],
)
def test_an_encoded_character_is_part_of_its_segment(gateway, path, status):
    headers = [(b"authorization", AUTHORIZED["Authorization"].encode())]
    # WebTest would decode the path before it is sent.
    scope = {**http_scope(raw_path=path.encode(), query=""), "headers": headers}
    exchange = gateway.run(call(gateway.application, scope))
    assert exchange.status == status


UNDER_PREFIX = {"SCRIPT_NAME": "/api"}


def test_links_redirects_and_hints_begin_with_the_prefix_that_a_proxy_has_cut_off(gateway, services):
    services.projects = {number: samples.project(number) for number in range(1, 4)}
    environ = {**UNDER_PREFIX, "HTTP_HOST": "api.example.com", "wsgi.url_scheme": "https"}

    def ask(path, status, **headers):
        return gateway.get(path, headers=headers, extra_environ=environ, status=status)

    link = ask("/v2/projects?per_page=2", 200, **AUTHORIZED).headers["Link"]
    assert link.startswith("<https://api.example.com/api/v2/projects?page=2&per_page=2>; rel=next")
    assert ask("/docs/", 308).headers["Location"] == "https://api.example.com/api/docs"
    assert ask("/v2", 303, **BROWSER).headers["Location"] == "https://api.example.com/api/docs"
    assert ask("/", 200).json["docs"] == "/api/docs"
    assert ask("/v2/swagger.json", 200).json["basePath"] == "/api/v2"
    assert " /api/v2/projects " in ask("/v2/projects/", 404).json["message"]


def test_links_have_an_ipv6_address_in_brackets_also_where_no_host_was_sent(services, gateway):

    for server, host in ((("::1", 8080), "[::1]:8080"), (("fe80::1%eth0", 80), "[fe80::1]")):
        scope = {**http_scope(raw_path=b"/v2/projects", query="", server=server), "headers": []}
        link = link_header(GatewayRequest(build_environ(scope)), Page(1, 1), 2)
        assert link.startswith(f"<http://{host}/v2/projects?page=2&per_page=1>; rel=next")


def test_links_keep_a_semicolon_and_raw_utf8_in_the_query(gateway, services):
    services.projects = {number: samples.project(number) for number in range(1, 4)}
    link = get(gateway, "/v2/projects?per_page=2&unknown=a;b&other=%C3%A9").headers["Link"]
    assert "?unknown=a%3Bb&other=%C3%A9&page=2&per_page=2>" in link


def test_a_semicolon_belongs_to_the_value_that_results_are_asked_for(gateway, services):
    path = f"/v2/experiments/{samples.EXPERIMENT}/results?attribute_id=5&attribute_value=gold;eu"
    get(gateway, path)
    (asked,) = [seen.body for seen in services.seen if seen.service == "results"]
    assert asked["segment"]["attribute_value"] == "gold;eu"


def test_a_date_alone_is_midnight_in_utc(gateway, services):
    path = f"/v2/experiments/{samples.EXPERIMENT}/results?start_time=2026-01-01&end_time=2026-02-01"
    get(gateway, path)
    (asked,) = [seen.body for seen in services.seen if seen.service == "results"]
    assert (asked["start_time"], asked["end_time"]) == ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")


@pytest.mark.parametrize(
    ("said", "message", "messages"),
    [
        (
            "segment_conditions is nested too deeply",
            "segment_conditions is nested too deeply.",
            {"/query/segment_conditions": "is nested too deeply"},
        ),
        (
            "segment.attribute_value needs segment.attribute_id",
            "attribute_value needs attribute_id.",
            {"/query/attribute_value": "needs attribute_id"},
        ),
        ("the body is odd", "the body is odd.", {"/request": "the body is odd"}),
    ],
)
def test_400_has_messages_also_when_a_service_refuses(gateway, services, said, message, messages):
    services.manners["results"].status = 400
    services.manners["results"].body = json.dumps({"code": "bad_request", "message": said}).encode()
    response = get(gateway, f"/v2/experiments/{samples.EXPERIMENT}/results", status=400)
    body = assert_error(response, 400, "bad_request")
    assert (body["message"], body["messages"]) == (message, messages)
