"""The small Pyramid application that the tests serve with gunicorn and uvicorn; options come from the environment."""

import asyncio
import gc
import json
import logging
import os
import sys
import time
from contextlib import asynccontextmanager

import greenlet
from pyramid.config import Configurator
from pyramid.response import Response

from optimizely_api.runtime import AsgiBridge, RuntimeOptions
from optimizely_api.runtime.server.protocol import GatewayProtocol
from optimizely_api.serving.log import GATEWAY_ACCESS, JSONLines

COUNTS = {"started": 0, "cancelled": 0, "answered": 0, "unwound": 0}


def unwinding_tween(handler, registry):
    def tween(request):
        try:
            response = handler(request)
            COUNTS["answered"] += 1
            if request.query_string.startswith(
                "n="
            ):  # test_messages_through_proxies.py wants to know which one it was
                response.headers["Served"] = request.query_string
            return response
        finally:
            COUNTS["unwound"] += 1

    return tween


async def echo(request):
    return {
        "method": request.method,
        "path": request.path_info,
        "script_name": request.script_name,
        "host": request.host,
        "scheme": request.scheme,
        "client": request.remote_addr,
        "body_bytes": len(request.body),
        "over_limit": request.environ.get("optimizely_api.body_over_limit"),
        "pid": os.getpid(),
        "state": request.registry.get("state"),
    }


async def wait(request):
    COUNTS["started"] += 1
    try:
        await asyncio.sleep(float(request.params["seconds"]))
    except asyncio.CancelledError:
        COUNTS["cancelled"] += 1
        print("a view was cancelled", file=sys.stderr, flush=True)
        raise
    return {"waited": True}


async def connections(request):
    """Count the protocols that exist without a run of the garbage collector, including that of this request."""
    return {"protocols": sum(isinstance(item, GatewayProtocol) for item in gc.get_objects())}


async def state(request):
    gc.collect()
    greenlets = [item for item in gc.get_objects() if isinstance(item, greenlet.greenlet) and not item.dead]
    return {
        **COUNTS,
        "tasks": len(asyncio.all_tasks()),
        "greenlets": len(greenlets),
        "files": len(os.listdir("/proc/self/fd")),
        "loop": type(asyncio.get_running_loop()).__module__,
    }


def hold_the_loop(seconds):
    time.sleep(seconds)


async def block(request):
    hold_the_loop(float(request.params["seconds"]))
    return {"stalls": request.registry["watchdog"].stalls}


async def compute(request):
    """Compute for so many seconds of CPU; as many `times`, with a turn of the loop between."""
    for _ in range(int(request.params.get("times", 1))):
        until = time.process_time() + float(request.params["seconds"])
        while time.process_time() < until:
            pass
        await asyncio.sleep(0)
    return {"computed": True}


async def stream(request):
    def chunks():
        for _ in range(int(request.params["chunks"])):
            yield b"x" * 65536

    return Response(app_iter=chunks(), content_type="application/octet-stream")


async def answer(request):
    """Respond with the requested status, headers and size."""
    response = Response(b"x" * int(request.params.get("bytes", 0)))
    response.status_int = int(request.params.get("status", 200))  # set later, it takes no header away
    response.headerlist.extend(json.loads(request.params.get("headers", "[]")))
    if "length" in request.params:
        response.headers["Content-Length"] = request.params["length"]
    return response


async def broken_stream(request):
    def chunks():
        yield b"x" * 1000
        raise RuntimeError("in the middle of the answer")

    return Response(app_iter=chunks(), content_type="application/octet-stream")


@asynccontextmanager
async def opened(registry):
    if os.environ.get("FAIL_START_UP"):
        raise RuntimeError("the upstream session cannot be opened")
    registry["state"] = "open"
    yield
    registry["state"] = "closed"
    print("the lifespan has ended", file=sys.stderr, flush=True)


def main(global_config=None, **settings):
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    handler, access = logging.StreamHandler(sys.stderr), logging.getLogger(GATEWAY_ACCESS)
    handler.setFormatter(JSONLines())
    access.addHandler(handler)
    access.propagate = False
    with Configurator(settings=settings) as config:
        config.include("optimizely_api.runtime")
        config.set_runtime_options(RuntimeOptions(**json.loads(os.environ.get("RUNTIME_OPTIONS", "{}"))))
        config.add_lifespan(opened)
        config.add_tween("served_app.unwinding_tween")
        for view in (echo, wait, connections, state, block, compute):
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__, renderer="json")
        for view in (answer, stream, broken_stream):
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__)
        return config.make_wsgi_app()


def asgi():
    return AsgiBridge(main())
