"""No response leaves the gateway unchecked, however it came about."""

import datetime
import logging
import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pyramid.httpexceptions import HTTPForbidden, HTTPNoContent
from pyramid.response import Response

from optimizely_api.contract import ResponseValidators, load
from optimizely_api.gateway.errors import CODES, GatewayError
from tests.contract.conftest import assert_error

App = Callable[..., Any]
LOGGER = "optimizely_api.gateway.contract.responses"


def raw(body: bytes, status: int = 200, content_type: str = "application/json") -> Callable[[Any], Response]:
    return lambda request: Response(body, status=status, content_type=content_type)


def with_status(status: int, value: Any) -> Callable[[Any], Any]:
    def view(request: Any) -> Any:
        request.response.status_int = status
        return value

    return view


def assert_broken(
    response: Any, caplog: pytest.LogCaptureFixture, operation: str, status: int, place: str, keyword: str
) -> None:
    """500 for the caller, and one line in the log that says where."""
    assert_error(response, 500, "internal_error")
    lines = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert lines == [
        f"request {response.json['uuid']}: response breaks the contract: "
        f"operation {operation}, status {status}, at {place!r}, keyword {keyword}"
    ]


def test_a_valid_value_is_sent_as_json(app_with: App) -> None:
    response = app_with(get_project=lambda request: {"name": "Größe"}).get("/v2/projects/1")
    assert response.headers["Content-Type"] == "application/json"
    assert response.body == '{"name":"Größe"}'.encode()


def test_500_for_a_value_that_breaks_the_contract_without_its_content(
    app_with: App, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_with(
        list_projects=lambda request: [{"name": "x"}, {"name": "x", "platform": "secret platform"}]
    )
    response = app.get("/v2/projects", expect_errors=True)
    assert_broken(response, caplog, "list_projects", 200, "/1/platform", "enum")
    assert "secret" not in response.text + caplog.text


def test_the_500_is_itself_a_valid_error(app_with: App) -> None:
    response = app_with(get_project=lambda request: {}).get("/v2/projects/1", expect_errors=True)
    assert ResponseValidators(load()).error.check(response.json) is None
    assert response.content_type == "application/json"


@pytest.mark.parametrize(
    ("value", "place", "keyword"),
    [
        pytest.param({"name": "x", "new": math.nan}, "/new", "finite", id="NaN"),
        pytest.param(
            {"name": "x", "confidence_threshold": math.nan},
            "/confidence_threshold",
            "type",
            id="NaN for a number",
        ),
        pytest.param({"name": "\ud800"}, "", "json", id="lone surrogate"),
        pytest.param({"name": "x", "new": 2**64}, "", "json", id="65 bits"),
        pytest.param(
            {"name": "x", "new": datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)},
            "",
            "json",
            id="datetime",
        ),
        pytest.param(
            {"name": "x", "created": datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)},
            "",
            "json",
            id="datetime for a time",
        ),
        pytest.param({"name": "x", "new": Decimal("1.5")}, "", "json", id="Decimal"),
        pytest.param({"name": "x", "new": {1}}, "", "json", id="set"),
        pytest.param({"name": "x", "new": b"x"}, "", "json", id="bytes"),
        pytest.param({"name": "x", 1: 2}, "", "json", id="key that is not text"),
        pytest.param("text", "", "type", id="text"),
        pytest.param([], "", "type", id="another type"),
    ],
)
def test_500_for_a_value_that_json_cannot_hold(
    app_with: App, caplog: pytest.LogCaptureFixture, value: Any, place: str, keyword: str
) -> None:
    response = app_with(get_project=lambda request: value).get("/v2/projects/1", expect_errors=True)
    assert_broken(response, caplog, "get_project", 200, place, keyword)


def test_a_uuid_object_for_text_is_refused_too(app_with: App) -> None:
    view = {"project_id": 1, "changes": [{"type": "custom_css", "value": "", "id": uuid.uuid4()}]}
    response = app_with(get_campaign=lambda request: view).get("/v2/campaigns/1", expect_errors=True)
    assert_error(response, 500, "internal_error")


@pytest.mark.parametrize(
    ("view", "status", "keyword"),
    [
        pytest.param(raw(b'{"name": 1}'), 200, "type", id="raw body off contract"),
        pytest.param(raw(b'{"name": '), 200, "json", id="raw body that is no JSON"),
        pytest.param(raw(b'{"name": NaN}'), 200, "json", id="raw body with NaN"),
        pytest.param(raw(b""), 200, "json", id="no body"),
        pytest.param(raw(b'{"name": "x"}', content_type="text/html"), 200, "content-type", id="another type"),
        pytest.param(raw(b'{"name": "x"}', status=201), 201, "required", id="undeclared 2xx"),
        pytest.param(
            raw(b"moved", status=302, content_type="text/plain"), 302, "content-type", id="redirect"
        ),
        pytest.param(raw(b'{"message": "no"}', status=418), 418, "required", id="half an error"),
        pytest.param(with_status(404, {"name": "x"}), 404, "required", id="error status with another body"),
        pytest.param(with_status(200, None), 200, "content-type", id="None"),
    ],
)
def test_500_for_a_response_made_by_hand_that_breaks_the_contract(
    app_with: App, caplog: pytest.LogCaptureFixture, view: Any, status: int, keyword: str
) -> None:
    response = app_with(get_project=view).get("/v2/projects/1", expect_errors=True)
    assert_error(response, 500, "internal_error")
    assert f"operation get_project, status {status}, " in caplog.text
    assert f"keyword {keyword}" in caplog.text


def test_a_response_made_by_hand_may_be_right(app_with: App) -> None:
    assert app_with(get_project=raw(b'{"name": "x"}')).get("/v2/projects/1").json == {"name": "x"}


def test_a_body_other_than_the_rendered_one_is_checked_itself(app_with: App) -> None:
    """A view that renders one value and then sends another cannot slip through."""
    from pyramid.renderers import render

    def view(request: Any) -> Response:
        render("json", {"name": "valid"}, request=request)
        return Response(b'{"name": 1}', content_type="application/json")

    assert_error(app_with(get_project=view).get("/v2/projects/1", expect_errors=True), 500, "internal_error")


@pytest.mark.parametrize("status", [202, 204])
def test_results_that_are_not_there_yet_are_sent_without_a_body(app_with: App, status: int) -> None:
    response = app_with(get_experiment_results=with_status(status, None)).get("/v2/experiments/1/results")
    assert (response.status_int, response.body) == (status, b"")
    assert "Content-Type" not in response.headers
    assert ("Content-Length" in response.headers) == (status == 202)


def test_pyramids_own_204_is_right_as_well(app_with: App) -> None:
    response = app_with(get_experiment_results=lambda request: HTTPNoContent()).get(
        "/v2/experiments/1/results"
    )
    assert (response.status_int, response.body) == (204, b"")


def test_500_for_a_204_with_a_body(app_with: App, caplog: pytest.LogCaptureFixture) -> None:
    app = app_with(get_experiment_results=with_status(204, {}))
    response = app.get("/v2/experiments/1/results", expect_errors=True)
    assert_broken(response, caplog, "get_experiment_results", 204, "", "empty")


def test_500_for_a_204_where_none_is_declared(app_with: App, caplog: pytest.LogCaptureFixture) -> None:
    app = app_with(get_project=with_status(204, None))
    assert_broken(
        app.get("/v2/projects/1", expect_errors=True), caplog, "get_project", 204, "", "content-type"
    )


@pytest.mark.parametrize("code", CODES)
def test_what_exception_views_make_is_checked_and_valid(app_with: App, code: str) -> None:
    def view(request: Any) -> Any:
        raise GatewayError(code, "It went wrong.", messages={"/query/page": "no"})

    response = app_with(get_project=view).get("/v2/projects/1", expect_errors=True)
    assert_error(response, CODES[code], code)
    assert ResponseValidators(load()).error.check(response.json) is None


def test_500_for_an_exception_view_off_contract(app_with: App, caplog: pytest.LogCaptureFixture) -> None:
    def view(request: Any) -> Any:
        raise GatewayError("not_found", message=7)  # type: ignore[arg-type]

    response = app_with(get_project=view).get("/v2/projects/1", expect_errors=True)
    assert_broken(response, caplog, "get_project", 404, "/message", "type")


def test_a_defect_is_a_500_in_the_one_shape(app_with: App) -> None:
    def view(request: Any) -> Any:
        raise ZeroDivisionError("secret")

    response = app_with(get_project=view).get("/v2/projects/1", expect_errors=True)
    assert_error(response, 500, "internal_error")
    assert "secret" not in response.text


def test_pyramids_own_exceptions_have_the_one_shape(app_with: App) -> None:
    def view(request: Any) -> Any:
        raise HTTPForbidden

    assert_error(app_with(get_project=view).get("/v2/projects/1", expect_errors=True), 403, "forbidden")


def test_head_is_checked_as_get_and_sent_without_its_body(app_with: App) -> None:
    app = app_with(get_project=lambda request: {"name": "x"}, get_event=lambda request: {"id": 0})
    response = app.head("/v2/projects/1")
    assert (response.body, response.headers["Content-Length"]) == (b"", "12")
    assert app.head("/v2/events/1", expect_errors=True).status_int == 500
    assert app.head("/v2/projects/x", expect_errors=True).status_int == 400


def test_a_violation_is_logged_as_an_error(app_with: App, caplog: pytest.LogCaptureFixture) -> None:
    app_with(get_project=lambda request: {}).get("/v2/projects/1", expect_errors=True)
    [record] = [record for record in caplog.records if record.name == LOGGER]
    assert record.levelno == logging.ERROR
    assert uuid.UUID(record.getMessage().removeprefix("request ").split(":")[0])
