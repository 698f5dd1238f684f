"""Refuse to start under a gunicorn worker that cannot run coroutine views, instead of responding with 500s."""

import fcntl
import os
import signal
import time
from collections.abc import Mapping

from gunicorn.errors import AppImportError

from optimizely_api.serving import boot_failures

PASTE_FILE = "__file__"  # key of PasteDeploy's global configuration
HALT_SECONDS = 5.0
MESSAGE = (
    "the gateway does not run on this gunicorn worker: start it with"
    " `gunicorn -c python:optimizely_api.runtime.server.ini_section --paste {file}`,"
    " which obeys the file's [server:...] section,"
    " or add `--worker-class optimizely_api.runtime.server.worker.GatewayWorker`"
)


def refuse_other_workers(global_config: Mapping[str, str]) -> None:
    """Raise AppImportError if `gunicorn --paste` loads the gateway in a worker that is not ours.

    gunicorn prints it without a traceback. Our worker class installs its patches when gunicorn's master looks it up.
    """
    file = global_config.get(PASTE_FILE)
    under_gunicorn = os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")
    if file and under_gunicorn and not boot_failures.is_installed():
        _let_one_report(file)
        raise AppImportError("Error: " + MESSAGE.format(file=file))


def _let_one_report(file: str) -> None:
    """Return in one worker, whose failure ends the master, and make all other workers sleep.

    A second failed start would reach a master that is halting already, and would end it with a traceback.
    """
    lock = os.open(file, os.O_RDONLY)  # never closed: the process ends now
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(HALT_SECONDS)
