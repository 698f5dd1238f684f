"""A Pyramid application that checks at every step whether the current request is its own."""

import asyncio
import contextvars
import random

from pyramid.config import Configurator
from pyramid.threadlocal import get_current_registry, get_current_request

from optimizely_api.runtime import AsgiBridge, synchronize
from tests.runtime.asgi import Exchange, http_scope

ROOMS = ("server", "tween", "view", "task", "renderer", "callback", "exception view", "tween after")

from_server = contextvars.ContextVar("from_server", default=None)
from_tween = contextvars.ContextVar("from_tween", default=None)
from_view = contextvars.ContextVar("from_view", default=None)


class WrongTurnError(Exception):
    """Some views raise it, so that exception views run."""


class Checks:
    """Counts the checks and, by place, the failed ones."""

    def __init__(self):
        self.made = dict.fromkeys(ROOMS, 0)
        self.wrong = dict.fromkeys(ROOMS, 0)

    def check(self, room, request, *variables):
        own = request.params["n"]
        seen = [get_current_request() is request, get_current_registry() is request.registry]
        seen += [variable.get() == own for variable in variables]
        self.made[room] += 1
        self.wrong[room] += not all(seen)


class Interleaved:
    """The application, its checks, and a seeded source of suspension points."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.checks = Checks()
        self._waiting = []
        self.bridge = AsgiBridge(self._make_application())

    async def pause(self):
        """Suspend zero to three times, for a turn of the loop or until another request wakes this one."""
        for _ in range(self.random.randrange(4)):
            if self.random.random() < 0.5:
                await asyncio.sleep(0)
                continue
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            asyncio.get_running_loop().call_soon(self._let_one_go)
            await future

    def _let_one_go(self):
        index = self.random.randrange(len(self._waiting))
        self._waiting[index], self._waiting[-1] = self._waiting[-1], self._waiting[index]
        self._waiting.pop().set_result(None)

    def _tween(self, handler, registry):
        pause = synchronize(self.pause)

        def tween(request):
            self.checks.check("server", request, from_server)
            from_tween.set(request.params["n"])
            pause()
            self.checks.check("tween", request, from_server, from_tween)
            request.add_response_callback(self._callback)
            response = handler(request)
            pause()
            self.checks.check("tween after", request, from_server, from_tween, from_view)
            return response

        return tween

    def _callback(self, request, response):
        self.checks.check("callback", request, from_server, from_tween, from_view)

    async def _view(self, request):
        own = request.params["n"]
        from_view.set(own)
        await self.pause()
        self.checks.check("view", request, from_server, from_tween, from_view)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.random.randrange(3)):
                group.create_task(self._task(request))
        await self.pause()
        self.checks.check("view", request, from_server, from_tween, from_view)
        if self.random.random() < 0.25:
            raise WrongTurnError(own)
        return own

    async def _task(self, request):
        await self.pause()
        self.checks.check("task", request, from_server, from_tween, from_view)

    async def _exception_view(self, exc, request):
        await self.pause()
        self.checks.check("exception view", request, from_server, from_tween, from_view)
        return str(exc)

    def _renderer(self, info):
        pause = synchronize(self.pause)

        def render(value, system):
            pause()
            self.checks.check("renderer", system["request"], from_server, from_tween, from_view)
            return value

        return render

    def _make_application(self):
        async def view(request):
            return await self._view(request)

        async def exception_view(exc, request):
            return await self._exception_view(exc, request)

        with Configurator() as config:
            config.include("optimizely_api.runtime")
            config.add_renderer("checking", self._renderer)
            config.registry["tween"] = self._tween
            config.add_tween("tests.runtime.interleaved_app.tween_factory")
            config.add_route("interleaved", "/")
            config.add_view(view, route_name="interleaved", renderer="checking")
            config.add_exception_view(exception_view, context=WrongTurnError, renderer="checking")
            return config.make_wsgi_app()

    async def request(self, number):
        """Send one request with its own number; returns whether it got its own response."""
        from_server.set(str(number))
        exchange = await Exchange(self.bridge, http_scope(query=f"n={number}", cancels=True)).run()
        return exchange.body == str(number).encode()

    async def run(self, requests, at_once):
        """Serve `requests` requests, `at_once` of them interleaved; returns how many got another's response."""
        numbers = iter(range(requests))
        astray = 0

        async def client():
            nonlocal astray
            for number in numbers:
                astray += not await asyncio.create_task(self.request(number))

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(client())
        return astray


def tween_factory(handler, registry):
    return registry["tween"](handler, registry)
