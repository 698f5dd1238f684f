"""Which views the runtime accepts: coroutines, and plain views only with an explicit mapper."""

import asyncio
import threading

import pytest
from pyramid.config import Configurator
from pyramid.config.views import DefaultViewMapper
from pyramid.exceptions import ConfigurationExecutionError

from optimizely_api.runtime.testing import GatewayTestApp


@pytest.fixture
def config():
    with Configurator() as config:
        config.include("optimizely_api.runtime")
        config.add_route("thing", "/thing")
        yield config


async def coroutine_view(request):
    return {"thread": threading.current_thread().name}


def plain_view(request):
    return {"thread": threading.current_thread().name}


class ClassView:
    def __init__(self, request):
        self.request = request

    async def get(self):
        return {"thread": threading.current_thread().name, "path": self.request.path}

    def plain(self):
        return {}


class CallableView:
    async def __call__(self, context, request):
        return {"thread": threading.current_thread().name, "path": request.path}


class PlainCallableView:
    def __call__(self, context, request):
        return {}


class Thing:
    def __init__(self, name):
        self.name = name


async def find_thing(request):
    await asyncio.sleep(0)
    return Thing("found")


async def show_context(context, request):
    return {"name": context.name}


@pytest.mark.parametrize("view", [plain_view, ClassView, PlainCallableView(), lambda request: {}])
def test_a_plain_view_stops_the_start_up_and_is_named(config, view):
    options = {"attr": "plain"} if view is ClassView else {}
    config.add_view(view, route_name="thing", renderer="json", **options)
    with pytest.raises(
        ConfigurationExecutionError, match=r"is not a coroutine function.*async def"
    ) as caught:
        config.make_wsgi_app()
    assert repr(view) in str(caught.value)
    config.action_state.actions.clear()


def test_a_plain_exception_view_stops_the_start_up(config):
    config.add_exception_view(plain_view, context=ValueError, renderer="json")
    with pytest.raises(ConfigurationExecutionError, match="plain_view"):
        config.make_wsgi_app()
    config.action_state.actions.clear()


@pytest.mark.parametrize(
    ("view", "options"),
    [(coroutine_view, {}), (plain_view, {"mapper": DefaultViewMapper})],
    ids=["a coroutine", "a plain view that says it never blocks"],
)
def test_these_views_run_on_the_event_loop(config, view, options):
    config.add_view(view, route_name="thing", renderer="json", **options)
    with GatewayTestApp(config.make_wsgi_app()) as app:
        assert app.get("/thing").json == {"thread": "GatewayTestApp"}


def test_pyramids_static_files_are_served_from_a_thread(config, tmp_path):
    (tmp_path / "page.txt").write_text("static")
    config.add_static_view("static", str(tmp_path))
    with GatewayTestApp(config.make_wsgi_app()) as app:
        assert app.get("/static/page.txt").text == "static"


def test_pyramids_own_responses_to_http_exceptions_need_no_coroutine(config):
    with GatewayTestApp(config.make_wsgi_app()) as app:
        app.get("/unknown", status=404)


@pytest.mark.parametrize(
    ("view", "options"),
    [(ClassView, {"attr": "get"}), (CallableView(), {})],
    ids=["a method of a class", "an instance with an async __call__"],
)
def test_coroutine_methods_run_on_the_event_loop(config, view, options):
    config.add_view(view, route_name="thing", renderer="json", **options)
    with GatewayTestApp(config.make_wsgi_app()) as app:
        assert app.get("/thing").json == {"thread": "GatewayTestApp", "path": "/thing"}


def test_a_route_factory_that_is_a_coroutine_is_awaited(config):
    config.add_route("found", "/found", factory=find_thing)
    config.add_view(show_context, route_name="found", renderer="json")
    with GatewayTestApp(config.make_wsgi_app()) as app:
        assert app.get("/found").json == {"name": "found"}


def test_a_root_factory_that_is_a_coroutine_is_awaited(config):
    config.set_root_factory(find_thing)
    config.add_view(show_context, route_name="thing", renderer="json")
    with GatewayTestApp(config.make_wsgi_app()) as app:
        assert app.get("/thing").json == {"name": "found"}
