"""What the gateway's worker relies on of gunicorn, beside what both workers do (`serving/relied_on.py`)."""

import functools

from gunicorn.arbiter import Arbiter
from gunicorn.asgi.lifespan import LifespanManager
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.gasgi import ASGIWorker

from optimizely_api.foreign_names import Reliance
from optimizely_api.serving import relied_on as serving

RELIANCE = Reliance(
    "gunicorn",
    serving.REMEDY,
    used={
        ASGIWorker: {
            "_get_ssl_context": "serving TLS with gunicorn's settings",
            "_make_error_app": "answering with what is wrong while an application under `reload` cannot be loaded",
            "_quick_shutdown": "stopping at once on INT and QUIT",
            "asgi": "the application that the lifespan runs for",
            "nr": "counting requests for max_requests",
            "state": "the lifespan's state",
        },
        LifespanManager: {
            "startup": "running the lifespan's start",
            "shutdown": "running the lifespan's end",
        },
        Config: {"forwarded_allow_networks": "believing trusted proxies"},
        Logger: {
            "_access_log_enabled": "not writing an access log that no logger takes",
            "access": "writing gunicorn's access log",
            "access_log_enabled": "knowing whether gunicorn's access log is wanted",
        },
    },
    overridden={
        ASGIWorker: {
            "_serve": "accepting connections of ours: it is what the worker runs",
            "_shutdown": "ending connections and the lifespan",
            "load_wsgi": "wrapping the application for asyncio",
            "handle_exit_signal": "stopping on TERM",
            "handle_quit_signal": "stopping on INT and QUIT",
        },
        Arbiter: {"manage_workers": "replacing workers after max_requests"},
    },
)


@functools.cache
def check() -> None:
    """Raise ReleaseDoesNotFit where a name is gone; once in a process, before anything of gunicorn's is replaced."""
    serving.check()
    RELIANCE.check()
