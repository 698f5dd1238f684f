"""The gateway under a gunicorn worker that cannot run its coroutine views: refused at start, not by 500s."""

import fcntl
import os
import signal
import time
from collections.abc import Mapping

from gunicorn.errors import AppImportError

from optimizely_api.serving import boot_failures

PASTE_FILE = "__file__"  # in the global configuration of what PasteDeploy loads
HALT_SECONDS = 5.0
MESSAGE = (
    "the gateway does not run on this gunicorn worker: start it with"
    " `gunicorn -c python:optimizely_api.runtime.server.ini_section --paste {file}`,"
    " which obeys the file's [server:...] section,"
    " or add `--worker-class optimizely_api.runtime.server.worker.GatewayWorker`"
)


def refuse_other_workers(global_config: Mapping[str, str]) -> None:
    """Raise AppImportError, which gunicorn prints without a traceback, when `gunicorn --paste` loads the gateway
    and its master has not looked up our worker class.
    """
    file = global_config.get(PASTE_FILE)
    under_gunicorn = os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")
    if file and under_gunicorn and not boot_failures.is_installed():
        _let_one_speak(file)
        raise AppImportError("Error: " + MESSAGE.format(file=file))


def _let_one_speak(file: str) -> None:
    """Hold back all workers but the first, which ends the master.

    A second failed start would meet a master that is halting, and that ends with a traceback.
    """
    lock = os.open(file, os.O_RDONLY)  # never closed: the process ends now
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(HALT_SECONDS)
