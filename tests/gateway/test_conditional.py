"""Conditional requests: the ETag of every 200, and 304 to a caller who has it already (RFC 9110 section 13)."""

import http.client
import logging
import os
import time

import jsonschema
import pytest
from pyramid.request import Request
from pyramid.response import Response

from optimizely_api import main
from optimizely_api.contract import load
from optimizely_api.gateway import BLOCKING
from optimizely_api.gateway.finishing import finishing_tween_factory
from optimizely_api.gateway.settings import read
from optimizely_api.http.entity_tags import coded_tag, entity_tag, evaluate, listed_tags
from optimizely_api.runtime.testing import GatewayTestApp
from optimizely_api.upstream.client import CallContext
from tests.contract.conftest import make_router
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get
from tests.support.serving import serve

PROJECT = f"/v2/projects/{samples.PROJECT}"
RESULTS = f"/v2/experiments/{samples.EXPERIMENT}/results"
PATHS = [
    *("/v2/projects", PROJECT, "/v2/experiments", f"/v2/experiments/{samples.EXPERIMENT}", RESULTS),
    *(f"/v2/campaigns?project_id={samples.PROJECT}", f"/v2/campaigns/{samples.LAYER}"),
    f"/v2/campaigns/{samples.LAYER}/results",
    *(f"/v2/events?project_id={samples.PROJECT}", f"/v2/events/{samples.EVENT}"),
]
DOCUMENTS = ["/v2/swagger.json", "/v2/swagger.yaml", "/docs", "/docs/swagger-ui.css"]
OTHERS = {"Authorization": f"Bearer {samples.OTHER_TOKEN}"}
OF_CONTENT = {"content-type", "content-length", "content-encoding", "transfer-encoding"}
OF_REQUEST = {"x-request-id", "date"}


def has(etag):
    return {"If-None-Match": etag}


def said(answer, *leaving_out):
    """What the answer's header says, by names in small letters."""
    fields = {name.lower(): value for name, value in answer.headers.items()}
    return {
        name: value for name, value in fields.items() if name not in set().union(OF_REQUEST, *leaving_out)
    }


# What an answer is known by


@pytest.mark.parametrize("path", [*PATHS, *DOCUMENTS])
def test_every_200_has_a_strong_etag(gateway, path):
    etag = get(gateway, path).headers["ETag"]
    assert listed_tags(etag) == [(False, etag)]


@pytest.mark.parametrize("name", [name for name, one in load().operations.items() if one.method == "GET"])
def test_the_contract_declares_etag_and_304_of_every_operation_that_reads(name):
    responses = load().operations[name].spec["responses"]
    assert "ETag" in responses["200"]["headers"]
    assert "ETag" in responses["304"]["headers"]
    assert "schema" not in responses["304"]


def test_the_same_content_has_the_same_etag_from_every_worker(gateway, services):
    with GatewayTestApp(main({}, **services.settings())) as another:
        assert get(another, RESULTS).headers["ETag"] == get(gateway, RESULTS).headers["ETag"]


def test_other_content_has_another_etag(gateway, services):
    before = get(gateway, PROJECT)
    services.projects[samples.PROJECT]["name"] = "Renamed"
    after = get(gateway, PROJECT, **has(before.headers["ETag"]))
    assert after.json["name"] == "Renamed"
    assert after.headers["ETag"] != before.headers["ETag"]


def test_a_page_has_another_etag_when_a_next_page_comes_into_being(gateway, services):
    page = f"/v2/events?project_id={samples.PROJECT}&per_page=1"
    before = get(gateway, page)
    services.events[9001] = samples.event(9001)
    after = get(gateway, page, **has(before.headers["ETag"]))
    assert before.body == after.body
    assert "rel=next" in after.headers["Link"].replace('"', "")
    assert after.headers["ETag"] != before.headers["ETag"]


def test_the_tag_is_made_of_content_and_metadata_and_each_coding_has_its_own():
    parts = [(b"a",), (b"b",), (b"a", ""), (b"a", "b"), (b"ab",), (b"a", "bc"), (b"ab", "c")]
    assert len({entity_tag(*each) for each in parts}) == len(parts)
    assert coded_tag('"a"', None) == '"a"'
    assert coded_tag('"a"', "br") == '"a-br"'


# 304


@pytest.mark.parametrize("path", [*PATHS, *DOCUMENTS])
def test_304_to_a_caller_who_has_it(gateway, path):
    whole = get(gateway, path)
    response = get(gateway, path, status=304, **has(whole.headers["ETag"]))
    assert response.body == b""
    assert said(response) == said(whole, OF_CONTENT)


def test_304_to_head_too(gateway):
    etag = get(gateway, RESULTS).headers["ETag"]
    response = gateway.head(RESULTS, headers={**AUTHORIZED, **has(etag)})
    assert (response.status_int, response.headers["ETag"]) == (304, etag)


@pytest.mark.parametrize("path", PATHS)
def test_only_the_callers_own_cache_may_keep_it_and_asks_again_every_time(gateway, path):
    whole = get(gateway, path)
    answers = [whole, get(gateway, path, status=304, **has(whole.headers["ETag"]))]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["Vary"] == "Accept-Encoding"


def test_other_origins_may_read_the_304_of_the_document(gateway):
    etag = gateway.get("/v2/swagger.json").headers["ETag"]
    response = gateway.get("/v2/swagger.json", headers=has(etag), status=304)
    assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("path", [RESULTS, "/v2/swagger.json", "/docs"])
def test_the_access_log_has_the_304(gateway, caplog, path):
    etag = get(gateway, path).headers["ETag"]
    caplog.set_level(logging.INFO, logger="optimizely_api.access")
    get(gateway, path, status=304, **has(etag))
    assert [record.fields["status"] for record in caplog.records] == [304]


# What If-None-Match may look like. HERE stands for the answer's own tag.


@pytest.mark.parametrize(
    "field",
    [
        *(
            "HERE",
            "W/HERE",
            "*",
            " * ",
            '"x", HERE',
            'HERE,"x"',
            'W/"x",\tW/HERE , "y"',
            ", ,HERE,",
            '"a,b",HERE',
        ),
        '"", HERE',
    ],
)
def test_304_when_the_field_names_the_tag(gateway, field):
    field = field.replace("HERE", get(gateway, PROJECT).headers["ETag"])
    assert get(gateway, PROJECT, status=304, **has(field)).body == b""


@pytest.mark.parametrize(
    "field",
    [
        "",
        '"x"',
        'W/"x"',
        "x",
        "HER",
        "w/HERE",
        "HERE HERE",
        '"x" HERE',
        "HERE, x",
        "HERE, *",
        '"HERE"',
        '"HERE',
        ",",
    ],
)
def test_200_when_it_does_not_or_is_no_list_of_tags(gateway, field):
    tag = get(gateway, PROJECT).headers["ETag"]
    field = field.replace("HERE", tag).replace("HER", tag.strip('"'))
    assert get(gateway, PROJECT, **has(field)).json["id"] == samples.PROJECT


@pytest.mark.parametrize(
    ("field", "tags"),
    [
        ('"xyzzy"', [(False, '"xyzzy"')]),
        ('W/"xyzzy"', [(True, '"xyzzy"')]),
        ('""', [(False, '""')]),
        (
            '"xyzzy", "r2d2xxxx", "c3piozzzz"',
            [(False, '"xyzzy"'), (False, '"r2d2xxxx"'), (False, '"c3piozzzz"')],
        ),
        ('W/"xyzzy", W/"r2d2xxxx"', [(True, '"xyzzy"'), (True, '"r2d2xxxx"')]),
        ('"a b"', None),
        ("xyzzy", None),
        ("", None),
    ],
)
def test_lists_of_tags_as_rfc_9110_writes_them(field, tags):
    assert listed_tags(field) == tags


@pytest.mark.parametrize("start", ['"a",' * 100_000, '"a",' + " " * 100_000, '"' + "a" * 100_000])
def test_a_malformed_list_takes_time_in_proportion_to_its_length(start):
    began = time.process_time()
    assert listed_tags(f"{start}x") is None
    assert time.process_time() - began < 1  # trying every place again would take minutes


# Precedence (RFC 9110 section 13.2.2)


@pytest.mark.parametrize(
    ("conditions", "outcome"),
    [
        ({"HTTP_IF_MATCH": '"x"', "HTTP_IF_NONE_MATCH": '"t"'}, 412),
        ({"HTTP_IF_MATCH": 'W/"t"'}, 412),  # If-Match compares strongly
        ({"HTTP_IF_MATCH": '"t"', "HTTP_IF_NONE_MATCH": 'W/"t"'}, 304),
        ({"HTTP_IF_MATCH": "*"}, 200),
        ({"HTTP_IF_MATCH": "no tag"}, 200),
        ({"HTTP_IF_NONE_MATCH": '"x"', "HTTP_IF_MODIFIED_SINCE": "Fri, 01 Jan 2100 00:00:00 GMT"}, 200),
        ({"HTTP_IF_MODIFIED_SINCE": "Fri, 01 Jan 2100 00:00:00 GMT"}, 200),
        ({"HTTP_IF_UNMODIFIED_SINCE": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
        ({}, 200),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else str(value),
)
def test_conditions_are_evaluated_in_their_order(conditions, outcome):
    assert evaluate(conditions, '"t"') == outcome


def test_412_is_the_contracts_error(gateway):
    body = assert_error(get(gateway, PROJECT, status=412, **{"If-Match": '"x"'}), 412, "precondition_failed")
    jsonschema.validate(body, load().document["definitions"]["Error"])


# What comes before any 304


def test_401_to_a_caller_without_a_token_who_knows_the_etag(gateway):
    for etag in (get(gateway, RESULTS).headers["ETag"], "*"):
        response = gateway.get(RESULTS, headers=has(etag), status=401)
        assert_error(response, 401, "unauthorized")
        assert "ETag" not in response.headers


@pytest.mark.parametrize(
    "path", [path for path in PATHS if path != "/v2/projects" and path != "/v2/experiments"]
)
def test_403_to_another_accounts_token_that_knows_the_etag(gateway, path):
    for etag in (get(gateway, path).headers["ETag"], "*"):
        response = gateway.get(path, headers={**OTHERS, **has(etag)}, status=403)
        assert_error(response, 403, "forbidden")
        assert "ETag" not in response.headers


@pytest.mark.parametrize("path", ["/v2/projects", "/v2/experiments"])
def test_another_account_that_knows_the_etag_of_a_list_gets_its_own_list(gateway, path):
    own = get(gateway, path)
    others = gateway.get(path, headers={**OTHERS, **has(own.headers["ETag"])}, status=200)
    assert not {entity["id"] for entity in others.json} & {entity["id"] for entity in own.json}


def test_401_when_the_token_was_revoked_since(gateway, services):
    etag = get(gateway, RESULTS).headers["ETag"]
    del services.tokens[samples.TOKEN]
    assert_error(get(gateway, RESULTS, status=401, **has(etag)), 401, "unauthorized")


def test_404_when_it_is_gone(gateway, services):
    etag = get(gateway, PROJECT).headers["ETag"]
    del services.projects[samples.PROJECT]
    assert_error(get(gateway, PROJECT, status=404, **has(etag)), 404, "not_found")


def test_400_when_the_request_is_wrong(gateway):
    assert_error(get(gateway, f"{RESULTS}?browser=lynx", status=400, **has("*")), 400, "bad_request")


@pytest.mark.parametrize(("status", "upstream"), [(502, "results"), (503, "experiments")])
def test_a_failing_service_is_not_hidden_by_what_the_caller_has(gateway, services, status, upstream):
    etag = get(gateway, RESULTS).headers["ETag"]
    if status == 503:
        services.close(upstream)
    else:
        services.manners[upstream].body = b"[]"
    response = get(gateway, RESULTS, status=status, **has(etag))
    assert "ETag" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"


def test_no_error_is_kept(gateway):
    for path, status in (("/v2/nowhere", 404), ("/v2/projects/99", 404), ("/v2/projects?page=0", 400)):
        assert get(gateway, path, status=status, **has("*")).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("status", [202, 204])
def test_an_answer_without_results_is_no_304_and_has_no_etag(gateway, services, status):
    services.results_status = status
    response = get(gateway, RESULTS, status=status, **has("*"))
    assert "ETag" not in response.headers
    assert response.headers["Cache-Control"] == "private, no-cache"


def test_the_response_check_judges_what_the_caller_has_already():
    with GatewayTestApp(make_router({"get_project": lambda request: {"id": "not a number"}})) as app:
        assert_error(app.get(PROJECT, headers=has("*"), status=500), 500, "internal_error")


@pytest.mark.parametrize(
    ("method", "has_one"), [("GET", True), ("HEAD", True), ("POST", False), ("PUT", False)]
)
def test_only_what_was_read_has_an_etag(method, has_one):
    registry = {"settings": read({}, os.environ), BLOCKING: True}
    answer = finishing_tween_factory(
        lambda request: Response(b"{}", content_type="application/json"), registry
    )
    request = Request.blank("/v2/anything", method=method)
    request.call_context = CallContext("a-request", 0.0)
    response = answer(request)
    assert ("ETag" in response.headers) is has_one


# On the wire


@pytest.fixture(scope="module")
def connection(running_services, tmp_path_factory):
    """One connection to the real worker, which every request goes over: wrong framing would spoil the next answer."""
    log = tmp_path_factory.mktemp("gunicorn") / "gunicorn.log"
    with serve("main", running_services.settings(), log, "--workers", "1") as served:
        connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=30)
        yield connection
        connection.close()


def ask(connection, method="GET", **headers):
    connection.request(method, RESULTS, headers={**AUTHORIZED, **headers})
    answer = connection.getresponse()
    return answer, answer.read()


def test_a_304_leaves_the_connection_ready_for_the_next_request(connection, services):
    whole, body = ask(connection)
    socket = connection.sock
    for _ in range(2):
        for method in ("GET", "HEAD"):
            answer, nothing = ask(connection, method, **has(whole.headers["ETag"]))
            assert (answer.status, nothing) == (304, b"")
            assert said(answer) == said(whole, OF_CONTENT)
        assert ask(connection)[1] == body
    assert connection.sock is socket


def test_head_says_what_get_would_say(connection, services):
    (whole, body), (head, nothing) = ask(connection), ask(connection, "HEAD")
    assert nothing == b""
    assert said(head) == said(whole)
    assert int(head.headers["Content-Length"]) == len(body)
