"""What the workers of the gateway and of the services rely on of gunicorn."""

import functools

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.workers.base import Worker
from gunicorn.workers.workertmp import WorkerTmp

from optimizely_api.foreign_names import Reliance

REMEDY = "install gunicorn==27.0.*"  # as in setup.py

RELIANCE = Reliance(
    "gunicorn",
    REMEDY,
    used={
        Arbiter: {
            "run": "saying in one line why a start fails, in place of it",
            "WORKERS": "knowing which workers there are, by pid",
            "LISTENERS": "knowing whether gunicorn has its sockets",
            "SIG_QUEUE": "seeing a signal to stop while new workers start",
            "WORKER_BOOT_ERROR": "ending a worker that cannot start so that the master ends too",
            "setup": "returning to the old settings after a reload that fails",
            "num_workers": "keeping the number of workers after a reload that fails",
            "manage_workers": "ending the old workers after a reload",
            "spawn_worker": "starting the worker that replaces another",
            "kill_worker": "ending new workers of a reload that fails, and a worker that is replaced",
        },
        HaltServer: {"exit_status": "halting as gunicorn would", "reason": "saying why gunicorn halts"},
        Worker: {
            "tmp": "the file that a worker and its master share: why a start fails, and when the worker listens",
            "notify": "telling the master that the worker is alive",
            "booted": "telling a failed start from a later failure",
            "ppid": "ending a worker whose master has gone",
            "init_signals": "hearing signals while a worker starts",
        },
        WorkerTmp: {
            "last_update": "knowing when a new worker listens",
            "fileno": "leaving the reason of a failed start",
        },
    },
    overridden={
        Arbiter: {
            "reap_workers": "ending all when a worker cannot start, with one line",
            "reload": "trying new settings before the old workers end",
            "spawn_worker": "starting the new workers of a reload one after the other, before the old ones are ended",
        },
        Worker: {"init_signals": "hearing signals while a worker starts"},
    },
)


@functools.cache
def check() -> None:
    """Raise ReleaseDoesNotFit where a name is gone; once in a process, before anything of gunicorn's is replaced."""
    RELIANCE.check()
