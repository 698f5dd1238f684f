"""The compiled request readers give what pyramid_swagger gives, and refuse nothing that it takes."""

from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyramid.interfaces import IRoutesMapper
from pyramid.router import Router
from pyramid.urldispatch import RoutesMapper
from pyramid_swagger.tween import PyramidSwaggerRequest, swaggerize_request

from optimizely_api.contract import load
from optimizely_api.gateway.contract.compiled import RequestReader, RoutesMatchedOnce, request_reader
from optimizely_api.gateway.contract.requests import ContractRequest, validation_context
from optimizely_api.gateway.errors import BadRequest
from tests.conftest import WHOLE
from tests.contract.conftest import make_router

OPERATIONS = sorted(load().operations)
REFUSED = object()
# Most of them are near the edge of what some parameter takes.
TEXTS = st.one_of(
    st.sampled_from(
        [
            *(
                "0",
                "1",
                "-1",
                "25",
                "100",
                "101",
                " 7",
                "7 ",
                "+7",
                "1_000",
                "007",
                "-0",
                "\u0667",
                "1e3",
                "1.0",
            ),
            *("9007199254740991", "9007199254740992", "9223372036854775808", "9" * 19, "9" * 500, "0" * 17),
            *("true", "True", "TRUE", "tRuE", "false", "FALSE", "yes", "null", "NaN", ""),
            *("2026-01-01T00:00:00Z", "2026-01-01t10:00 01:00", "2026-01-01 10:00", "2026-02-30T00:00:00Z"),
            *("2026-01-01", "5", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00", "2026-01-01T24:00:00Z"),
            *("firefox", "Firefox", "chrome", "desktop", "direct", "platform:web", "status:", "other:web"),
            *('["and"]', "[", "a b", "\u00fc", "\U0001f600", "a\nb", "12\n"),
        ]
    ),
    st.integers().map(str),
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.text(max_size=8),
)


@pytest.fixture(scope="module")
def router() -> Router:
    return make_router({})


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, list[tuple[str, str]]]:
    """An operation, the path of a request for it, and a query with known and unknown names, some of them twice."""
    operation = load().operations[draw(st.sampled_from(OPERATIONS))]
    path = operation.path
    names = ["unknown", "page", ""]
    for parameter in operation.spec["parameters"]:
        if parameter["in"] == "path":
            text = draw(TEXTS).replace("/", "").replace("\x00", "") or "1"
            path = path.replace(f"{{{parameter['name']}}}", quote(text, safe=""))
        else:
            names.extend([parameter["name"]] * 3)
    query = draw(st.lists(st.tuples(st.sampled_from(names), TEXTS), max_size=4))
    return operation.operation_id, path, query


def request_for(router: Router, path: str, query: list[tuple[str, str]]) -> ContractRequest:
    request = ContractRequest.blank(f"{path}?{urlencode(query, errors='surrogatepass')}")
    request.registry = router.registry
    request.request_id = "00000000-0000-4000-8000-000000000000"
    return request


def operation_of(router: Router, operation_id: str) -> Any:
    operation = load().operations[operation_id]
    spec = router.registry.settings["pyramid_swagger.schema20"]
    return spec.get_op_for_request(operation.method, operation.path)


def by_pyramid_swagger(router: Router, request: ContractRequest, operation: Any) -> Any:
    """What pyramid_swagger makes of a request inside the gateway's context, or REFUSED."""
    request.operation = operation
    found = router.registry.getUtility(IRoutesMapper)(request)
    try:
        with validation_context(request):
            return swaggerize_request(PyramidSwaggerRequest(request, found), operation)
    except BadRequest:
        return REFUSED


def by_reader(router: Router, request: ContractRequest, reader: RequestReader) -> Any:
    """What the compiled reader makes of it; None leaves it to pyramid_swagger."""
    found = router.registry.getUtility(IRoutesMapper)(request)
    return reader.read(found["match"], request)


def exactly(values: Any) -> Any:
    """With the types, for True == 1, and the order."""
    return [(name, type(value), value) for name, value in values.items()]


@settings(max_examples=500 if WHOLE else 150, deadline=None)
@given(asked=requests())
def test_a_reader_is_unsure_or_agrees_with_pyramid_swagger(
    router: Router, asked: tuple[str, str, list[tuple[str, str]]]
) -> None:
    operation_id, path, query = asked
    operation = operation_of(router, operation_id)
    reader = request_reader(operation)
    if reader is None:  # an operation with a list as a default
        return
    if router.registry.getUtility(IRoutesMapper)(request_for(router, path, query))["route"] is None:
        return  # such a path never gets to validation
    read = by_reader(router, request_for(router, path, query), reader)
    expected = by_pyramid_swagger(router, request_for(router, path, query), operation)
    if read is not None:
        assert expected is not REFUSED
        assert exactly(read) == exactly(expected)


@pytest.mark.parametrize(
    ("operation_id", "path", "query"),
    [
        ("get_project", "/v2/projects/5", []),
        ("list_projects", "/v2/projects", [("page", "2"), ("per_page", "100")]),
        ("list_experiments", "/v2/experiments", [("include_classic", "true"), ("project_id", "7")]),
        (
            "list_events",
            "/v2/events",
            [("project_id", "7"), ("unknown", "x"), ("unknown", "y"), ("page", "")],
        ),
        (
            "get_experiment_results",
            "/v2/experiments/5/results",
            [
                ("start_time", "2026-01-01T00:00:00Z"),
                ("end_time", "2026-02-01 00:00"),
                ("baseline_variation_id", "12"),
                ("browser", "firefox"),
                ("attribute_value", "\u00fc"),
            ],
        ),
    ],
)
def test_a_reader_takes_what_callers_usually_write(
    router: Router, operation_id: str, path: str, query: list[tuple[str, str]]
) -> None:
    operation = operation_of(router, operation_id)
    reader = request_reader(operation)
    assert reader is not None
    read = by_reader(router, request_for(router, path, query), reader)
    assert read is not None
    assert exactly(read) == exactly(by_pyramid_swagger(router, request_for(router, path, query), operation))


def test_a_list_is_left_to_pyramid_swagger(router: Router) -> None:
    reader = request_reader(operation_of(router, "list_projects"))
    assert reader is not None
    assert by_reader(router, request_for(router, "/v2/projects", [("filter", "name:a")]), reader) is None


def test_two_requests_share_no_values(router: Router) -> None:
    reader = request_reader(operation_of(router, "get_project"))
    assert reader is not None
    first, second = (by_reader(router, request_for(router, "/v2/projects/5", []), reader) for _ in range(2))
    assert first == second
    assert first is not second


def test_a_route_is_found_again_when_the_method_changes(router: Router) -> None:
    routes = router.registry.getUtility(IRoutesMapper)
    assert isinstance(routes, RoutesMatchedOnce)
    request = request_for(router, "/v2/projects", [])
    assert routes(request)["route"].name == "list_projects"
    assert routes(request) is routes(request)
    request.method = "DELETE"
    assert routes(request)["route"].name == "other methods of /v2/projects"


SEGMENTS = st.sampled_from(
    ["v2", "projects", "experiments", "events", "results", "5", "", "docs", "ü", "a b", "healthz"]
)


@settings(max_examples=500 if WHOLE else 150, deadline=None)
@given(segments=st.lists(SEGMENTS, max_size=6), method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"]))
def test_the_same_route_is_found_as_by_pyramid(router: Router, segments: list[str], method: str) -> None:
    routes = router.registry.getUtility(IRoutesMapper)
    request = request_for(router, "/" + quote("/".join(segments)), [])
    request.method = method
    assert routes(request) == RoutesMapper.__call__(routes, request)


@pytest.mark.parametrize(
    "pattern", ["/v2/*rest", "/v2/{name:.*}/x", "/v2/a{name}/b", "/v2/{one}-{two}/c", "/v2/:old/d"]
)
def test_a_pattern_that_is_hard_to_read_is_always_tried(pattern: str) -> None:
    routes = RoutesMatchedOnce()
    routes.connect("other", "/v2/{one}/{two}")
    routes.connect("hard", pattern)
    for path in ("/v2/a1/b", "/v2/1-2/c", "/v2/a/b/c/x", "/v2/b/d", "/v2"):
        request = ContractRequest.blank(path)
        found = routes(request)
        assert found == RoutesMapper.__call__(routes, request)
