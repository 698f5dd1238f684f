"""An application with a view that reads an experiment and one that writes it, for gunicorn.

It caches values for ten minutes, so only a write can bring a new one.
"""

import os
import time
from contextlib import asynccontextmanager

from pyramid.config import Configurator

from optimizely_api.serving.shared_memory import shared_memory
from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.caching_client import CachingOptions, open_caching_client
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import CallContext, Limits, Upstream

UPSTREAMS = {
    "experiments": Upstream(url=os.environ.get("EXPERIMENTS_URL", "http://127.0.0.1:1"), timeout_seconds=5)
}
LIMITS = Limits(connections=10, connect_timeout_seconds=5, response_bytes=10_000)


@asynccontextmanager
async def client(registry):
    shapes = {"Experiment": lambda _value: None}
    async with open_caching_client(
        UPSTREAMS, LIMITS, shapes, CachingOptions(definition_seconds=600), shared_memory()
    ) as opened:
        registry["client"] = opened
        yield


async def fetch(request, call):
    context = CallContext("8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", time.monotonic() + 5)
    return {"worker": os.getpid(), **await request.registry["client"].fetch(call, context)}


async def read(request):
    return await fetch(request, calls.get_experiment(1))


async def write(request):
    body = {"id": 1, "name": request.params["name"]}
    return await fetch(
        request, Call("experiments", "/experiments/1", "Experiment", method="PATCH", body=body)
    )


async def echo(request):
    return {}


def main():
    config = Configurator()
    config.include("optimizely_api.runtime")
    config.add_lifespan(client)
    for view in (read, write, echo):
        config.add_route(view.__name__, f"/{view.__name__}")
        config.add_view(view, route_name=view.__name__, renderer="json")
    return config.make_wsgi_app()
