"""Cancelled requests: the client disconnects at a random point, and nothing of the request is left over."""

import asyncio
import gc
import os
import random
import time
from contextlib import asynccontextmanager, suppress

import greenlet
import pytest
from aiohttp import ClientSession, web
from pyramid.config import Configurator
from pyramid.response import Response

from optimizely_api.runtime import AsgiBridge, synchronize
from tests.runtime.asgi import Exchange, http_scope
from tests.support.ports import free_port


class Upstream:
    """A real local server which is slow, and counts how its requests ended."""

    def __init__(self):
        self.started = self.answered = self.cancelled = 0
        self.port = free_port()  # the first of a process opens a file, which is no leftover of a test

    async def answer(self, request):
        self.started += 1
        try:
            await asyncio.sleep(float(request.query["seconds"]))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.answered += 1
        return web.Response(text="upstream")

    @asynccontextmanager
    async def running(self):
        application = web.Application()
        application.router.add_get("/", self.answer)
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=5.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self.url = f"http://127.0.0.1:{self.port}/"
        try:
            yield self
        finally:
            await runner.cleanup()


class Gateway:
    """A gateway to one upstream, whose tweens count requests in and out."""

    def __init__(self):
        self.entered = self.left = self.streams_opened = self.streams_closed = 0
        self.session = None
        self.upstream_url = None
        with Configurator() as config:
            config.include("optimizely_api.runtime")
            config.registry["gateway"] = self
            config.add_tween("tests.runtime.test_cancellation.counting_tween")
            config.add_route("fetch", "/fetch")
            config.add_view(fetch_view, route_name="fetch")
            self.bridge = AsgiBridge(config.make_wsgi_app())

    async def fetch(self, seconds):
        async with self.session.get(self.upstream_url, params={"seconds": seconds}) as response:
            return await response.read()

    def stream(self, seconds):
        self.streams_opened += 1
        try:
            for _ in range(3):
                yield synchronize(self.fetch)(seconds)
        finally:
            self.streams_closed += 1


def counting_tween(handler, registry):
    gateway = registry["gateway"]

    def tween(request):
        gateway.entered += 1
        try:
            synchronize(asyncio.sleep)(0)
            return handler(request)
        finally:
            try:
                synchronize(asyncio.sleep)(0)
            finally:
                gateway.left += 1

    return tween


async def fetch_view(request):
    gateway = request.registry["gateway"]
    seconds = request.params["seconds"]
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(gateway.fetch(seconds)) for _ in range(2)]
    if "stream" in request.params:
        return Response(app_iter=gateway.stream(seconds))
    return Response(calls[0].result())


def leftovers():
    """(tasks, greenlets, open files) of this process."""
    greenlet.getcurrent()  # creates the thread's main greenlet, if there is none yet
    gc.collect()
    greenlets = [item for item in gc.get_objects() if isinstance(item, greenlet.greenlet) and not item.dead]
    return len(asyncio.all_tasks()), len(greenlets), len(os.listdir("/proc/self/fd"))


async def cancel_at_random(bridge, chance):
    """Start one request and end it early, in one of the two ways that servers use."""
    query = f"seconds={chance.choice((0, 0.001, 0.01, 60))}" + chance.choice(("", "&stream=1"))
    by_task = chance.random() < 0.5
    exchange = Exchange(bridge, http_scope("/fetch", query=query, cancels=by_task))
    task = asyncio.create_task(exchange.run())
    if chance.random() < 0.5:
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(chance.random() * 0.03)
    if by_task:
        task.cancel()
    else:
        exchange.disconnect()
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(task, 20.0)


@pytest.mark.parametrize(
    "requests",
    [300, pytest.param(2_000, marks=pytest.mark.slow), pytest.param(10_000, marks=pytest.mark.whole)],
)
async def test_requests_cancelled_at_random_points_leave_nothing_behind(requests):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    gateway = Gateway()
    upstream = Upstream()
    before = leftovers()
    async with upstream.running(), ClientSession() as session:
        gateway.session, gateway.upstream_url = session, upstream.url
        numbers = iter(range(requests))

        async def client():
            for _ in numbers:
                await cancel_at_random(gateway.bridge, chance)

        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(client())
        async with asyncio.timeout(10.0):
            while upstream.answered + upstream.cancelled < upstream.started:
                await asyncio.sleep(0.01)
        assert await (await session.get(upstream.url, params={"seconds": 0})).text() == "upstream"
    # aiohttp closes the sockets of its pool in the next turns of the loop. There may be fewer than before: servers of
    # other tests in this process close idle connections.
    deadline = time.monotonic() + 10.0
    while any(now > then for now, then in zip(leftovers(), before, strict=True)):
        assert time.monotonic() < deadline, (before, leftovers())
        await asyncio.sleep(0.01)
    print(vars(upstream), {key: value for key, value in vars(gateway).items() if isinstance(value, int)})
    assert gateway.entered == gateway.left > requests / 2
    assert gateway.streams_opened == gateway.streams_closed > 0
    assert upstream.cancelled > requests / 10


async def test_a_client_that_leaves_while_the_view_works_cancels_it():
    events = []
    working = asyncio.Event()

    def application(environ, start_response):
        @synchronize
        async def view():
            working.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                events.append("cancelled")
                raise

        view()

    exchange = Exchange(AsgiBridge(application, registry={}), http_scope())
    task = asyncio.create_task(exchange.run())
    await working.wait()
    exchange.disconnect()
    await asyncio.wait_for(task, 5.0)
    assert (events, exchange.sent) == (["cancelled"], [])
    assert task.cancelling() == 0


async def test_a_cancellation_by_the_server_is_not_mistaken_for_a_disconnect():
    working = asyncio.Event()

    def application(environ, start_response):
        working.set()
        synchronize(asyncio.sleep)(60)

    task = asyncio.create_task(Exchange(AsgiBridge(application, registry={}), http_scope()).run())
    await working.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_finished_request_leaves_no_task_that_waits_for_its_client():
    def application(environ, start_response):
        start_response("200 OK", [])
        return [synchronize(asyncio.sleep)(0, b"slept")]

    exchange = Exchange(AsgiBridge(application, registry={}), http_scope())
    assert (await exchange.run()).body == b"slept"
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_client_that_leaves_after_its_response_cancels_nothing():
    closed = []

    class AppIter:
        def __iter__(self):
            return iter([b"all"])

        def close(self):
            exchange.disconnect()
            for _ in range(5):
                synchronize(asyncio.sleep)(0)
            closed.append(True)

    def application(environ, start_response):
        start_response("200 OK", [])
        return AppIter()

    exchange = Exchange(AsgiBridge(application, registry={}), http_scope())
    await exchange.run()
    assert (exchange.body, closed) == (b"all", [True])
