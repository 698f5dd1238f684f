"""What a request may look like, and what is said about one that does not fit the contract."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest

from optimizely_api.contract.formats import MAX_ID, is_id_text, is_utc_time, read_time
from optimizely_api.runtime.testing import GatewayTestApp
from tests.contract.conftest import assert_error, make_router

App = Callable[..., Any]
RESULTS = "/v2/experiments/5/results"
TIME = "must be a time such as 2026-01-31T12:00:00Z, or a date such as 2026-01-31"
ID = "must be an id: a whole number from 1 to 9007199254740991"


@pytest.fixture(scope="module")
def seen() -> Iterator[Callable[[str], dict[str, Any]]]:
    """Send a request that must be accepted; returns the typed parameters that its view saw."""
    parameters: dict[str, Any] = {}

    def remember(request: Any) -> Any:
        parameters.update(request.swagger_data)
        return {} if request.matched_route.name.endswith("results") else []

    names = ("list_projects", "list_campaigns", "list_experiments", "get_experiment_results", "list_events")
    with GatewayTestApp(make_router(dict.fromkeys(names, remember))) as app:

        def send(address: str) -> dict[str, Any]:
            parameters.clear()
            assert app.get(address).status_int == 200
            return parameters

        yield send


@pytest.fixture
def refused(app_with: App) -> Callable[[str], dict[str, str]]:
    """Send a request that must be refused; returns the violations by place."""
    app = app_with()

    def send(address: str) -> dict[str, str]:
        messages: dict[str, str] = assert_error(app.get(address, expect_errors=True), 400, "bad_request")[
            "messages"
        ]
        return messages

    return send


# ---- accepted


def test_defaults_are_filled_in(seen: Any) -> None:
    assert seen("/v2/projects") == {"page": 1, "per_page": 25, "filter": None}


def test_parameters_have_their_types(seen: Any) -> None:
    parameters = seen("/v2/experiments?page=2&per_page=100&project_id=9007199254740991&include_classic=true")
    assert parameters == {
        "page": 2,
        "per_page": 100,
        "project_id": MAX_ID,
        "campaign_id": None,
        "include_classic": True,
        "archived": None,
    }


def test_a_filter_may_be_given_several_times(seen: Any) -> None:
    parameters = seen("/v2/projects?filter=platform:web&filter=name:My%20shop:%20%C3%BC")
    assert parameters["filter"] == ["platform:web", "name:My shop: ü"]


@pytest.mark.parametrize("value", ["True", "true", "TRUE", "1"])
def test_true_is_written_in_many_ways(seen: Any, value: str) -> None:
    assert seen(f"/v2/experiments?include_classic={value}")["include_classic"] is True


@pytest.mark.parametrize("value", ["False", "false", "0"])
def test_false_is_written_in_many_ways(seen: Any, value: str) -> None:
    assert seen(f"/v2/experiments?include_classic={value}")["include_classic"] is False


@pytest.mark.parametrize(
    "query",
    [
        "query&type=page",
        "&page=1",
        "&",
        "&&",
        "campaign_id=",
        "campaign_id=&project_id",
        "page=",
        "include_classic=",
        "%20=1",
        "=",
        "%zz=%zz",
        "a;b=c",
        "newer_parameter=1&newer_parameter=2",
    ],
)
def test_empty_and_unknown_query_parameters_are_as_absent(seen: Any, query: str) -> None:
    assert seen(f"/v2/experiments?{query}") == {
        "page": 1,
        "per_page": 25,
        "project_id": None,
        "campaign_id": None,
        "include_classic": False,
        "archived": None,
    }


def test_an_empty_filter_is_as_absent(seen: Any) -> None:
    assert seen("/v2/projects?filter=&filter=status:active")["filter"] == ["status:active"]


def test_an_empty_required_parameter_is_missing(refused: Any) -> None:
    assert refused("/v2/events?project_id=") == {"/query/project_id": "is required"}


def test_the_query_string_itself_is_kept_for_links(app_with: App) -> None:
    def echo(request: Any) -> list[Any]:
        return [{"name": request.query_string}]

    assert app_with(list_projects=echo).get("/v2/projects?a=&page=1&b").json == [{"name": "a=&page=1&b"}]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/plain",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "nonsense",
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"{not json", b"\xff\xfe"], ids=["no body", "{}", "bad json", "not utf-8"]
)
def test_a_get_request_may_carry_any_body(app_with: App, content_type: str, body: bytes) -> None:
    app = app_with(list_projects=lambda request: [])
    response = app.request("/v2/projects", method="GET", body=body, headers={"Content-Type": content_type})
    assert response.json == []


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456789Z", datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T12:00:00 02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T12:00:00-0130", datetime(2026, 1, 31, 13, 30, tzinfo=UTC)),
        ("1970-01-01T00:00:00+23:59", datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=23, minutes=59)))),
    ],
)
def test_times_are_read_in_utc(text: str, moment: datetime) -> None:
    assert read_time(text) == moment
    assert read_time(text).utcoffset() == timedelta(0)


def test_times_reach_the_view_as_datetimes_and_ids_in_text_as_text(seen: Any) -> None:
    parameters = seen(
        f"{RESULTS}?start_time=2026-01-01T00:00:00Z&end_time=2026-01-02T00:00:00+00:00&baseline_variation_id=77"
    )
    assert parameters["start_time"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert parameters["end_time"] == datetime(2026, 1, 2, tzinfo=UTC)
    assert parameters["baseline_variation_id"] == "77"
    assert parameters["experiment_id"] == 5


# ---- refused


def test_400_lists_every_violation_by_its_place(refused: Any) -> None:
    assert refused("/v2/campaigns?page=0&per_page=101&project_id=abc") == {
        "/query/page": "must be at least 1",
        "/query/per_page": "must be at most 100",
        "/query/project_id": "must be an integer",
    }


def test_400_lists_the_violations_of_path_and_query_together(refused: Any) -> None:
    messages = refused(
        "/v2/experiments/x/results?start_time=now&baseline_variation_id=B&browser=netscape&attribute_id=1.5"
    )
    assert messages == {
        "/path/experiment_id": "must be an integer",
        "/query/start_time": TIME,
        "/query/baseline_variation_id": ID,
        "/query/browser": "must be one of firefox, chrome, internet_explorer, opera, safari",
        "/query/attribute_id": "must be an integer",
    }


@pytest.mark.parametrize(
    "page",
    [
        "0",
        "-1",
        "1.0",
        "1e3",
        "x",
        "1_000",
        "+1",
        "%201",
        "%D9%A1",
        "1" * 400,
        "1" * 5000,
        "9" * 100_000,
        "0x10",
        "NaN",
        "null",
        "%00",
    ],
)
def test_400_for_a_page_that_is_none(refused: Any, page: str) -> None:
    assert list(refused(f"/v2/projects?page={page}")) == ["/query/page"]


@pytest.mark.parametrize(
    "written",
    [
        "abc",
        "1_0",
        "0",
        "-5",
        "9007199254740992",
        "1" * 400,
        "%201",
        "1%20",
        "%D9%A1",
        "1.0",
        "null",
        "%00",
        "%0a1",
    ],
)
def test_400_for_an_id_that_is_none(refused: Any, written: str) -> None:
    assert list(refused(f"/v2/projects/{written}")) == ["/path/project_id"]


@pytest.mark.parametrize(
    "address",
    [
        "/v2/projects?page=1&page=2",
        "/v2/experiments?include_classic=1&include_classic=0",
        f"{RESULTS}?browser=opera&browser=safari",
        f"{RESULTS}?start_time=2026-01-01T00:00Z&start_time=2026-01-01T00:00Z",
    ],
)
def test_400_for_a_parameter_given_twice(refused: Any, address: str) -> None:
    assert list(refused(address).values()) == ["must be given once"]


@pytest.mark.parametrize("value", ["yes", "2", "on", "null", "tru"])
def test_400_for_a_boolean_that_is_none(refused: Any, value: str) -> None:
    assert refused(f"/v2/experiments?include_classic={value}") == {
        "/query/include_classic": "must be a boolean"
    }


@pytest.mark.parametrize("value", ["active", "color:red", "status:", "status"])
def test_400_for_a_filter_that_is_none(refused: Any, value: str) -> None:
    assert list(refused(f"/v2/projects?filter=status:active&filter={value}")) == ["/query/filter/1"]


@pytest.mark.parametrize(
    "value",
    [
        "5",
        "20260131T120000Z",
        "1769860800",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2026-W05-6T12:00:00Z",
        "\u0662\u0660\u0662\u0666-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z;x",
        "tomorrow",
    ],
)
def test_400_for_a_time_that_is_none(refused: Any, value: str) -> None:
    assert refused(f"{RESULTS}?end_time={quote(value)}") == {"/query/end_time": TIME}


@pytest.mark.parametrize(
    "value", ["0", "-1", "1.5", "abc", "9007199254740992", "1" * 400, "%D9%A1", "0x1", "1_0"]
)
def test_400_for_a_baseline_that_is_no_id(refused: Any, value: str) -> None:
    assert list(refused(f"{RESULTS}?baseline_variation_id={value}")) == ["/query/baseline_variation_id"]


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("/v2/projects?page=%ff", "/query"),
        ("/v2/projects?%ff", "/query"),
        ("/v2/projects?other=%c3", "/query"),
        ("/v2/projects/%ff", "/path"),
        ("/v2/%ff", "/path"),
        ("/%ff", "/path"),
    ],
)
def test_400_for_what_is_not_utf8(refused: Any, address: str, place: str) -> None:
    assert list(refused(address)) == [place]


@pytest.mark.parametrize(
    "address", ["/v2/projects?page=%s", "/v2/projects/%s", f"{RESULTS}?browser=%s", "/v2/projects?filter=%s"]
)
def test_what_was_sent_is_not_repeated(refused: Any, caplog: pytest.LogCaptureFixture, address: str) -> None:
    secret = "hunter2hunter2"
    assert secret not in str(refused(address % secret))
    assert secret not in "".join(
        record.getMessage() for record in caplog.records if record.name != "optimizely_api.access"
    )


@pytest.mark.parametrize(
    "address", ["/v2/projects%2F1", "/v2//projects", "/v2/projects/", "/v2/projects/1/2"]
)
def test_404_for_an_address_that_is_no_operation(app_with: App, address: str) -> None:
    assert_error(app_with().get(address, expect_errors=True), 404, "not_found")


def test_the_token_is_not_among_the_parameters(app_with: App) -> None:
    names: list[str] = []
    app = app_with(list_projects=lambda request: names.extend(request.swagger_data) or [])
    app.get("/v2/projects", headers={"Authorization": "Bearer 2:secret"})
    assert sorted(names) == ["filter", "page", "per_page"]


# ---- formats


@pytest.mark.parametrize(
    "text", ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5Z", "2028-02-29T23:59:59.999999Z"]
)
def test_the_gateway_writes_times_in_utc_with_z(text: str) -> None:
    assert is_utc_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00",
        "2026-01-31T12:00:00+00:00",
        "2026-02-29T00:00:00Z",
        "2026-01-31 12:00:00Z",
        "2026-01-31T12:00Z",
        "2026-01-31T12:00:00Z\n",
        "",
    ],
)
def test_any_other_time_breaks_the_contract(text: str) -> None:
    assert not is_utc_time(text)


def test_an_id_in_text_is_digits_below_2_53() -> None:
    assert is_id_text("1")
    assert is_id_text(str(MAX_ID))
    assert not any(map(is_id_text, ["0", "", "-1", str(MAX_ID + 1), "1" * 17, "\u0661", "1\n"]))
