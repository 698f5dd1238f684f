"""Routes come from the contract; neither can be without the other."""

import concurrent.futures
from collections.abc import Callable
from typing import Any

import pytest
import webtest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError

from optimizely_api.contract import CONTRACT, load, subset
from optimizely_api.gateway import BLOCKING
from optimizely_api.gateway.settings import Settings
from tests.contract.conftest import assert_error, make_router

App = Callable[..., Any]


@pytest.mark.parametrize("name", load().operations)
def test_every_operation_has_a_route_of_its_name(app_with: App, name: str) -> None:
    from pyramid.interfaces import IRoutesMapper

    operation = load().operations[name]
    route = app_with().registry.getUtility(IRoutesMapper).get_route(name)
    assert route.pattern == operation.path


def test_an_operation_without_a_view_stops_start_up() -> None:
    with pytest.raises(ConfigurationError, match="without a view: get_event, list_events"):
        make_router({}, without=("list_events", "get_event"))


def test_a_view_without_an_operation_stops_start_up() -> None:
    with pytest.raises(ConfigurationError, match="get_project"):
        configured(lambda config: config.add_view(coroutine, route_name="get_project"), ["list_projects"])


def test_a_route_under_the_base_path_that_is_no_operation_stops_start_up() -> None:
    with pytest.raises(ConfigurationError, match="route secrets at /v2/secrets is no operation"):
        configured(lambda config: config.add_route("secrets", "/v2/secrets"), [])


def test_a_view_that_is_no_coroutine_stops_start_up() -> None:
    from pyramid.config.views import DefaultViewMapper

    def plain(request: Any) -> Any:
        return []

    def add(config: Any) -> None:
        config.add_view(plain, route_name="list_projects", renderer="json", mapper=DefaultViewMapper)

    with pytest.raises(ConfigurationError, match="view of list_projects is not a coroutine"):
        configured(add, ["list_projects"])


async def coroutine(request: Any) -> Any:
    return []


def configured(change: Callable[[Any], None], operations: list[str]) -> Any:
    config = Configurator()
    config.registry["settings"] = Settings()
    config.registry[CONTRACT] = subset(load(), operations)
    for room in ("runtime", "gateway.access_log", "gateway.errors", "gateway.contract"):
        config.include(f"optimizely_api.{room}")
    change(config)
    return config.make_wsgi_app()


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v2/projects", "GET, HEAD, OPTIONS, POST"),
        ("/v2/experiments/1/results", "GET, HEAD, OPTIONS"),
        ("/v2/events/1", "GET, HEAD, OPTIONS"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "TRACE"])
def test_405_names_the_methods_there_are(app_with: App, method: str, path: str, allowed: str) -> None:
    response = app_with().request(path, method=method, expect_errors=True)
    assert_error(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "application/x-www-form-urlencoded; charset=nonsense"]
)
def test_405_whatever_the_body_is(app_with: App, content_type: str) -> None:
    response = app_with().put(
        "/v2/projects", b"\xff=%ff", headers={"Content-Type": content_type}, expect_errors=True
    )
    assert_error(response, 405, "method_not_allowed")


def test_options_names_the_methods_there_are(app_with: App) -> None:
    response = app_with().options("/v2/projects")
    assert (response.status_int, response.body) == (204, b"")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize("path", ["/v2/nothing", "/v2/projects/1/x", "/nothing", "/v2/swagger.xml"])
def test_404_elsewhere(app_with: App, path: str) -> None:
    assert_error(app_with().get(path, expect_errors=True), 404, "not_found")


# ---- the blocking application


def test_the_same_includes_make_a_blocking_application_with_plain_views() -> None:
    app = webtest.TestApp(make_router({"list_projects": lambda request: [{"name": "x"}]}, blocking=True))
    assert app.get("/v2/projects").json == [{"name": "x"}]
    assert_error(app.get("/v2/projects?page=0", expect_errors=True), 400, "bad_request")
    assert_error(app.put("/v2/projects", expect_errors=True), 405, "method_not_allowed")
    assert app.get("/v2/swagger.json").json == load().document
    assert app.get("/docs").status_int == 200


def test_threads_may_validate_at_the_same_time() -> None:
    """pyramid_swagger alone fails here: bravado-core resolves references on a stack that threads share."""
    router = make_router({"list_experiments": lambda request: []}, blocking=True)
    assert BLOCKING in router.registry

    def ask(number: int) -> int:
        query = "page=0&per_page=x" if number % 3 == 0 else f"page={number}"
        return int(webtest.TestApp(router).get(f"/v2/experiments?{query}", expect_errors=True).status_int)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(ask, range(600)))
    assert statuses == [400 if number % 3 == 0 else 200 for number in range(600)]
