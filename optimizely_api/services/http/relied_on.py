"""What the services rely on of aiohttp's server, beside what both workers rely on of gunicorn."""

from __future__ import annotations

import functools

from aiohttp import web, web_protocol
from aiohttp.web_protocol import RequestHandler
from aiohttp.worker import GunicornWebWorker

from optimizely_api.foreign_names import Reliance
from optimizely_api.services.storage import relied_on as storage
from optimizely_api.serving import relied_on as serving

RELIANCE = Reliance(
    "aiohttp",
    "install aiohttp==3.14.*",  # as in setup.py
    used={
        web_protocol: {"_ErrInfo": "knowing a head that is not HTTP, and refusing one that is late"},
        RequestHandler: {
            "_current_request": "knowing what a client that has gone had asked",
            "_loop": "the time",
            "_messages": "seeing each head that is parsed",
            "_task_handler": "ending the work for a client that has gone",
            "_waiter": "waking up the connection to refuse a head that is late",
        },
        web.Application: {
            "_client_max_size": "saying how long a body may be",
            "_make_request": "making requests that keep to the limits of bodies",
        },
        web.Request: {
            "_client_max_size": "the limit of a body",
            "_message": "knowing whether the client ends the connection",
            "_payload": "reading a body within its limits",
            "_payload_writer": "sending 100 (Continue) when the body is wanted",
            "_protocol": "the connection, and through it the limits of the worker",
            "_read_bytes": "keeping the body that was read",
        },
        GunicornWebWorker: {
            "_notify_waiter_done": "stopping at the signal",
            "_wait_next_notify": "waiting for the next second, or for the signal to stop",
        },
    },
    overridden={
        RequestHandler: {
            "_handle_request": "freeing the memory of a body at the end of its request",
            "handle_error": "the shape of the services' errors",
        },
        GunicornWebWorker: {
            "_run": "accepting no more connections than the limit",
            "handle_exit": "stopping at the signal",
        },
    },
)


@functools.cache
def check() -> None:
    """Raise ReleaseDoesNotFit where a name is gone; once in a process, before anything of gunicorn's is replaced."""
    serving.check()
    storage.check()
    RELIANCE.check()
