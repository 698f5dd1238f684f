"""HUP without a gap: gunicorn's arbiter tries the new settings first, and ends old workers when new ones listen.

gunicorn reads its settings anew in the master, where a mistake ends it, and ends the old workers as soon as the new
ones are forked, seconds before these have loaded the application. Here a forked child tries the settings and the
application first: what it cannot load changes nothing, and is logged in one line. Then gunicorn goes on as it does, but
for the end of the old workers, which waits for the new ones.

`Arbiter.reload` calls `app.reload`, `setup`, `spawn_worker` and then `manage_workers`. The time of change of
`Worker.tmp` says that the worker is alive, for the first time when it listens. `relied_on.py` lists the names of
gunicorn that this needs.
"""

import io
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from optimizely_api.serving.boot_failures import LONGEST_REASON_BYTES, left_reason
from optimizely_api.start_failures import last_line, reason

POLL_SECONDS = 0.05
LONGEST_TRIAL_SECONDS = 120.0
MODULE_PREFIX = "python:"  # of gunicorn's `config`: a module, which Python would import only once

_gunicorn_reload: Any = getattr(Arbiter, "reload", None)  # relied_on.py refuses to start without it


class NewWorkersFailed(Exception):
    """Why the old workers must go on."""


def install() -> None:
    """Have every arbiter of this process reload so; may be called again."""
    Arbiter.reload = reload


def reload(arbiter: Any) -> None:
    """In place of `Arbiter.reload`."""
    reason = _trial(arbiter)
    if reason is not None:
        arbiter.log.error("Not reloaded, the workers go on as they are: %s", reason)
        return
    before, config = set(arbiter.WORKERS), arbiter.app.cfg
    arbiter.manage_workers = lambda: _end_old_workers(arbiter, before)
    try:
        _forget_config_module(config)
        _gunicorn_reload(arbiter)
    except NewWorkersFailed as exc:
        arbiter.app.cfg = config
        arbiter.setup(arbiter.app)
        arbiter.log.error("Not reloaded, the workers go on as they were: %s", exc)
    finally:
        del arbiter.manage_workers


def _end_old_workers(arbiter: Any, before: set[int]) -> None:
    new = {pid: worker for pid, worker in arbiter.WORKERS.items() if pid not in before}
    born = {pid: worker.tmp.last_update() for pid, worker in new.items()}
    try:
        while any(pid in arbiter.WORKERS and not _listens(new[pid], born[pid]) for pid in new):
            if _is_told_to_stop(arbiter):
                break
            time.sleep(POLL_SECONDS)
            arbiter.reap_workers()
    except HaltServer as exc:
        for pid in new.keys() & arbiter.WORKERS.keys():
            arbiter.kill_worker(pid, signal.SIGKILL)
        raise NewWorkersFailed(str(exc.reason)) from exc
    Arbiter.manage_workers(arbiter)


def _listens(worker: Any, born: float) -> bool:
    # One that cannot start has changed its file too, with the reason.
    return worker.tmp.last_update() != born and not left_reason(worker)


def _is_told_to_stop(arbiter: Any) -> bool:
    """Whether a signal to stop waits for the arbiter's main loop, which gets all of them."""
    waiting = []
    while not arbiter.SIG_QUEUE.empty():
        waiting.append(arbiter.SIG_QUEUE.get_nowait())
    for number in waiting:
        arbiter.SIG_QUEUE.put_nowait(number)
    return any(number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT) for number in waiting)


def _forget_config_module(config: Any) -> None:
    """Have gunicorn import its configuration anew where that is a module (`-c python:...`)."""
    if str(config.config or "").startswith(MODULE_PREFIX):
        sys.modules.pop(config.config.removeprefix(MODULE_PREFIX), None)


def _trial(arbiter: Any) -> str | None:
    """Load settings and application in a child; returns in one line why that fails, None when it does not."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _try_and_exit(arbiter, writing)
    os.close(writing)
    try:
        if not select.select([reading], [], [], LONGEST_TRIAL_SECONDS)[0]:
            os.kill(child, signal.SIGKILL)
            return f"the application has not loaded within {LONGEST_TRIAL_SECONDS:g} seconds"
        said = os.read(reading, LONGEST_REASON_BYTES).decode("utf-8", "replace")
    finally:
        os.close(reading)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)
    if said == "ok":
        return None
    return said or "the trial of the new settings ended without a word"


def _try_and_exit(arbiter: Any, writing: int) -> None:
    said = "ok"
    errors = sys.stderr = io.StringIO()
    try:
        _load_anew(arbiter)
    except SystemExit as exc:
        said = last_line(str(exc.code) if isinstance(exc.code, str) else errors.getvalue())
    except BaseException as exc:  # whatever it is, it must not reach the arbiter's code in this child
        said = reason(exc)
    os.write(writing, said.encode("utf-8", "replace")[:LONGEST_REASON_BYTES])
    os._exit(0)


def _load_anew(arbiter: Any) -> None:
    before = arbiter.app.cfg
    _forget_config_module(before)
    arbiter.app.reload()
    cfg = arbiter.app.cfg
    for kind in ("worker_class", "logger_class"):
        getattr(cfg, kind)
    for address in cfg.address:
        if address not in before.address and isinstance(address, tuple):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            socket.create_server(address, family=family).close()
    arbiter.app.callable = None
    arbiter.app.wsgi()
