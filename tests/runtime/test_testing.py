"""The WebTest adapter."""

import asyncio
import threading

import pytest
from aiohttp import ClientSession, web
from pyramid.config import Configurator
from pyramid.response import Response

from optimizely_api.runtime.testing import GatewayTestApp
from tests.runtime.test_lifespan import hook
from tests.support.ports import free_port


async def echo(request):
    await asyncio.sleep(0)
    return {
        "query": dict(request.GET),
        "body": request.text,
        "path": request.path_info,
        "content_type": request.content_type,
        "authorization": request.headers.get("Authorization"),
        "extra": request.environ.get("test.extra"),
        "cookies": dict(request.cookies),
    }


async def teapot(request):
    return Response(status=418, app_iter=iter([b"short ", b"and stout"]), content_type="text/plain")


def make_app(*hooks):
    with Configurator() as config:
        config.include("optimizely_api.runtime")
        for factory in hooks:
            config.add_lifespan(factory)
        config.add_route("echo", "/echo*rest")
        config.add_view(echo, route_name="echo", renderer="json")
        config.add_route("teapot", "/teapot")
        config.add_view(teapot, route_name="teapot")
        return config.make_wsgi_app()


@pytest.fixture(scope="module")
def app():
    with GatewayTestApp(make_app(), extra_environ={"test.extra": "kept"}) as app:
        yield app


def test_get_runs_a_coroutine_view(app):
    assert app.get("/echo?a=1&b=%C3%A9").json["query"] == {"a": "1", "b": "é"}


def test_post_json_put_and_delete_carry_their_body(app):
    assert app.post_json("/echo", {"a": 1}).json["body"] == '{"a": 1}'
    assert app.put("/echo", "text", content_type="text/plain").json["content_type"] == "text/plain"
    assert app.delete("/echo").json["body"] == ""


def test_headers_authorization_extra_environ_and_paths_arrive(app):
    answer = app.get("/echo/caf%C3%A9%20noir", headers={"Authorization": "Bearer t"}).json
    assert (answer["authorization"], answer["extra"], answer["path"]) == (
        "Bearer t",
        "kept",
        "/echo/café noir",
    )


def test_status_and_streamed_body_come_back(app):
    response = app.get("/teapot", status=418)
    assert (response.text, response.content_type) == ("short and stout", "text/plain")


def test_head_has_no_body(app):
    response = app.head("/echo")
    assert (response.body, int(response.headers["Content-Length"]) > 0) == (b"", True)


async def test_it_works_inside_a_running_event_loop(app):
    assert app.get("/echo").status_code == 200


def test_upstreams_may_run_on_its_loop_and_hooks_use_its_registry():
    async def start_upstream():
        async def answer(request):
            return web.Response(text=threading.current_thread().name)

        upstream = web.Application()
        upstream.router.add_get("/", answer)
        runner = web.AppRunner(upstream)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", free_port())
        await site.start()
        return runner, runner.addresses[0][1]

    async def fetch(port):
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
            return await response.text()

    with GatewayTestApp(make_app()) as app:
        runner, port = app.run(start_upstream())
        assert app.run(fetch(port)) == "GatewayTestApp"
        app.run(runner.cleanup())
        assert app.registry["watchdog"].stalls == 0


def test_the_lifespan_runs_around_the_requests_and_close_may_be_called_twice():
    events = []
    app = GatewayTestApp(make_app(hook("session", events)))
    assert events == ["session opened"]
    app.close()
    app.close()
    assert events == ["session opened", "session closed"]


def test_a_failing_shut_down_is_raised_and_leaves_no_thread():
    threads = threading.active_count()
    app = GatewayTestApp(make_app(hook("session", [], leave=ValueError("still in use"))))
    with pytest.raises(RuntimeError, match="shutdown failed: ValueError: still in use"):
        app.close()
    assert threading.active_count() == threads


def test_a_failing_start_up_is_raised_and_leaves_no_thread():
    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="startup failed: ValueError: no upstream"):
        GatewayTestApp(make_app(hook("session", [], enter=ValueError("no upstream"))))
    assert threading.active_count() == threads
