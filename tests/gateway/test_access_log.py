"""The request id, and one JSON line per request."""

import json
import logging
import socket
import time
import uuid

import pytest

from optimizely_api.http.request_ids import new_request_id
from optimizely_api.runtime import CAME_AT
from optimizely_api.serving.log import JSONLines
from tests.support import samples
from tests.support.asserting import AUTHORIZED, get
from tests.support.serving import serve

RESULTS = f"/v2/experiments/{samples.EXPERIMENT}/results"
GIVEN = "0b0e7f0c-5a6e-4f5e-9d0c-6f1f5f1f2a11"


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="optimizely_api.access")
    return lambda: [
        json.loads(JSONLines().format(record))
        for record in caplog.records
        if record.name == "optimizely_api.access"
    ]


def test_it_says_what_the_policies_of_calls_did(gateway, services, lines):
    services.close("results")
    get(gateway, RESULTS, status=503)
    assert lines()[-1]["upstream_events"] == {"results": ["repeated"]}


def test_one_line_says_what_was_asked_how_it_ended_and_where_the_time_went(gateway, lines):
    response = get(gateway, RESULTS)
    (line,) = lines()
    assert (line["method"], line["route"], line["path"], line["status"]) == (
        "GET",
        "get_experiment_results",
        RESULTS,
        200,
    )
    assert line["request_id"] == response.headers["X-Request-Id"]
    assert {name: len(took) for name, took in line["upstreams_ms"].items()} == {
        "projects": 2,
        "experiments": 2,
        "results": 1,
    }
    assert line["duration_ms"] >= max(max(took) for took in line["upstreams_ms"].values())


def test_the_duration_has_the_time_in_which_the_request_waited_to_begin(gateway, lines):
    environ = {CAME_AT: time.monotonic() - 3}
    gateway.get("/v2/projects", headers=AUTHORIZED, extra_environ=environ)
    assert lines()[-1]["duration_ms"] >= 3000


def test_every_request_has_an_id_of_its_own(gateway):
    first, second = (get(gateway, "/v2/projects").headers["X-Request-Id"] for _ in range(2))
    assert uuid.UUID(first) != uuid.UUID(second)


def test_the_callers_id_is_kept_and_sent_to_the_upstreams(gateway, services):
    response = get(gateway, RESULTS, **{"X-Request-Id": GIVEN})
    assert response.headers["X-Request-Id"] == GIVEN
    sent = {seen.headers["X-Request-Id"] for seen in services.seen}
    assert {request_id.rpartition(".")[0] for request_id in sent} == {GIVEN}
    assert len(sent) == len(services.seen)


@pytest.mark.parametrize(
    "given", ["trace-1", "Root=1-67891233-abcdef012345678912345678", "a/b+c==", "x" * 128, GIVEN.upper()]
)
def test_safe_text_of_at_most_128_characters_is_kept_as_the_request_id(gateway, services, lines, given):
    response = get(gateway, "/v2/projects", **{"X-Request-Id": given})
    assert response.headers["X-Request-Id"] == given
    assert lines()[-1]["request_id"] == given
    assert all(seen.headers["X-Request-Id"].startswith(given) for seen in services.seen)


@pytest.mark.parametrize(
    "given", ["", "x" * 129, "a b", 'a"b', "a\\b", "<b>", "a;b", "a,b", "\xe9", "{a}", "a\tb"]
)
def test_any_other_id_is_replaced_by_a_uuid(gateway, given):
    made = get(gateway, "/v2/projects", **{"X-Request-Id": given}).headers["X-Request-Id"]
    assert str(uuid.UUID(made)) == made != given


def test_an_error_has_a_uuid_whatever_the_request_id_is_and_the_log_has_both(gateway, lines):
    response = get(gateway, "/v2/projects/99", status=404, **{"X-Request-Id": "trace-1"})
    body = response.json
    assert response.headers["X-Request-Id"] == "trace-1"
    assert str(uuid.UUID(body["uuid"])) == body["uuid"]
    assert (lines()[-1]["request_id"], lines()[-1]["uuid"]) == ("trace-1", body["uuid"])


def test_an_error_has_the_request_id_as_its_uuid_when_that_is_one(gateway, lines):
    body = get(gateway, "/v2/projects/99", status=404, **{"X-Request-Id": GIVEN}).json
    assert body["uuid"] == GIVEN
    assert "uuid" not in lines()[-1]


@pytest.mark.parametrize(
    ("method", "path", "token", "status", "route"),
    [
        ("GET", "/v2/projects?page=0", samples.TOKEN, 400, "list_projects"),
        ("GET", "/v2/projects/x", samples.TOKEN, 400, "get_project"),
        ("GET", "/v2/projects/1", "unknown", 401, "get_project"),
        ("GET", f"/v2/projects/{samples.OTHER_PROJECT}", samples.TOKEN, 403, "get_project"),
        ("GET", "/v2/projects/99", samples.TOKEN, 404, "get_project"),
        ("PUT", "/v2/projects", "unknown", 405, "other methods of /v2/projects"),
        ("OPTIONS", "/v2/projects", "unknown", 204, "other methods of /v2/projects"),
        ("GET", "/v2/nowhere", samples.TOKEN, 404, None),
        ("GET", "/%ff", samples.TOKEN, 400, None),
    ],
)
def test_the_log_names_the_operation_of_a_refused_request_too(
    gateway, lines, method, path, token, status, route
):
    headers = {"Authorization": f"Bearer {token}"}
    gateway.request(path, method=method, headers=headers, status=status)
    assert [(line["status"], line["route"]) for line in lines()] == [(status, route)]


def test_the_log_names_the_operation_of_a_503_of_identity_and_of_a_413(services, lines):
    from optimizely_api import main
    from optimizely_api.runtime.testing import GatewayTestApp

    with GatewayTestApp(main({}, **services.settings(), max_request_body_bytes="10")) as app:
        services.close("projects")
        get(app, "/v2/projects", status=503)
        services.open("projects")
        app.request("/v2/projects", method="GET", body=b"x" * 11, headers={}, status=413)
    assert [(line["status"], line["route"]) for line in lines()] == [
        (503, "list_projects"),
        (413, "list_projects"),
    ]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/v2/nowhere", {}, 404), ("/nowhere", {}, 404), ("/v2/projects?page=0", {}, 400)],
)
def test_errors_are_logged_too(gateway, lines, path, headers, status):
    get(gateway, path, status=status, **headers)
    assert [line["status"] for line in lines()] == [status]


def test_499_for_a_caller_that_went_away(services, tmp_path):
    """Over a real socket that is closed before the answer."""
    services.manners["results"].hang = True
    with serve("main", services.settings(), tmp_path / "gunicorn.log", "--workers", "1") as served:
        assert served.get("/healthz").status_code == 200  # the worker has started
        with socket.create_connection(("127.0.0.1", served.port)) as caller:
            caller.sendall(
                f"GET {RESULTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {samples.TOKEN}\r\n\r\n".encode()
            )
            services.wait_for_calls(4)
        hung = next(seen for seen in services.seen if seen.service == "results")
        assert hung.ended.wait(5)
        assert hung.cancelled
    logged = [json.loads(line) for line in served.log.read_text().splitlines() if line.startswith("{")]
    assert [line["status"] for line in logged if line.get("path") == RESULTS] == [499]


def test_gunicorns_own_lines_have_the_same_shape(services, tmp_path):
    with serve("main", services.settings(), tmp_path / "gunicorn.log", "--workers", "1") as served:
        assert served.get("/healthz").status_code == 200
        lines = [json.loads(line) for line in served.log.read_text().splitlines() if "Booting worker" in line]
    assert [(line["level"], line["logger"]) for line in lines] == [("info", "gunicorn.error")]


def test_the_token_is_in_no_log(gateway, caplog):
    caplog.set_level(logging.DEBUG)
    get(gateway, RESULTS)
    written = "\n".join(JSONLines().format(record) for record in caplog.records)
    assert RESULTS in written
    assert samples.TOKEN not in written


def test_a_new_request_id_is_a_random_uuid() -> None:
    made = [new_request_id() for _ in range(2000)]
    assert len(set(made)) == len(made)
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)
