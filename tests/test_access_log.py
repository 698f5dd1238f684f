"""The request id, and one JSON line per request."""

import json
import logging
import socket
import uuid

import pytest

from optimizely_api.access_log import new_request_id
from tests import samples
from tests.asserting import get
from tests.serving import serve

RESULTS = f"/v2/experiments/{samples.EXPERIMENT}/results"
GIVEN = "0b0e7f0c-5a6e-4f5e-9d0c-6f1f5f1f2a11"


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="optimizely_api.access")
    return lambda: [
        json.loads(record.getMessage()) for record in caplog.records if record.name == "optimizely_api.access"
    ]


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


def test_every_request_has_an_id_of_its_own(gateway):
    first, second = (get(gateway, "/v2/projects").headers["X-Request-Id"] for _ in range(2))
    assert uuid.UUID(first) != uuid.UUID(second)


def test_the_callers_id_is_kept_and_sent_to_the_upstreams(gateway, services):
    response = get(gateway, RESULTS, **{"X-Request-Id": GIVEN})
    assert response.headers["X-Request-Id"] == GIVEN
    assert {seen.headers["X-Request-Id"] for seen in services.seen} == {GIVEN}


def test_an_id_that_is_no_uuid_is_replaced(gateway):
    response = get(gateway, "/v2/projects", **{"X-Request-Id": "not-a-uuid"})
    assert str(uuid.UUID(response.headers["X-Request-Id"])) != "not-a-uuid"


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
        with socket.create_connection(("127.0.0.1", int(served.url.rsplit(":", 1)[1]))) as caller:
            caller.sendall(
                f"GET {RESULTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {samples.TOKEN}\r\n\r\n".encode()
            )
            services.wait_for_calls(4)
        hung = next(seen for seen in services.seen if seen.service == "results")
        assert hung.ended.wait(5)
        assert hung.cancelled
    assert '"status":499' in served.log.read_text()


def test_the_token_is_in_no_log(gateway, caplog):
    caplog.set_level(logging.DEBUG)
    get(gateway, RESULTS)
    assert samples.TOKEN not in caplog.text


def test_a_new_request_id_is_a_random_uuid() -> None:
    made = [new_request_id() for _ in range(2000)]
    assert len(set(made)) == len(made)
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)
