"""HUP without a gap: gunicorn's arbiter tries the new settings first, and ends old workers when new ones listen.

gunicorn reads its settings again in the master, where a mistake ends it. It ends the old workers as soon as the new
ones are forked, seconds before these have loaded the application. Here a forked child first tries to load settings and
application; if that fails, one line is logged and nothing changes. Then gunicorn reloads as usual, but each new worker
starts when the one before it listens, and the old workers end only when all of them do. A stop signal ends the reload.

`Arbiter.reload` calls `app.reload`, `setup`, `spawn_worker` and then `manage_workers`. The time of change of
`Worker.tmp` says that the worker is alive, for the first time when it listens. `relied_on.py` lists the names of
gunicorn that this needs.
"""

import io
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from optimizely_api.serving.boot_failures import LONGEST_REASON_BYTES, left_reason
from optimizely_api.start_failures import CannotStart, last_line, reason

POLL_SECONDS = 0.05
LONGEST_TRIAL_SECONDS = 120.0  # of the trial, and then of the start of each new worker
LONGEST_KILL_SECONDS = 10.0
# In gunicorn's `config` setting, this prefix stands before the name of a module.
MODULE_PREFIX = "python:"

_gunicorn_reload: Any = getattr(Arbiter, "reload", None)  # relied_on.py refuses to start without it


class NewWorkersFailed(CannotStart):
    """The new workers failed, so the old ones must keep serving; the message is the reason."""


def install() -> None:
    """Patch gunicorn's Arbiter; may be called again."""
    Arbiter.reload = reload


def reload(arbiter: Any) -> None:
    """Replaces `Arbiter.reload`, as the docstring of this module describes.

    Raises StopIteration when a stop signal is queued, as gunicorn's handler of TERM does: `Arbiter.run` then stops all.
    """
    why_not = _try_in_child(arbiter)
    if why_not is not None:
        arbiter.log.error("Not reloaded, the workers go on as they are: %s", why_not)
        return
    before, config, count = set(arbiter.WORKERS), arbiter.app.cfg, arbiter.num_workers
    pidfile = arbiter.pidfile
    started: set[int] = set()
    # Only during this reload: `Arbiter.reload` calls `spawn_worker` for each new worker, `manage_workers` to end the
    # surplus ones, and `reap_workers` while it waits for their end.
    arbiter.spawn_worker = lambda: _start_worker(arbiter, started)
    arbiter.reap_workers = lambda: _reap_or_stop(arbiter)
    try:
        _forget_config_module(config)
        _gunicorn_reload(arbiter)
    except StopIteration:
        raise
    except Exception as exc:  # also of the hook `on_reload`, and of a pidfile that cannot be written
        # boot_failures.py ignores failed starts after the first: here until the new workers have ended, not for good.
        arbiter.failed_start = reason(exc)
        _end_workers(arbiter, before)
        arbiter.failed_start = None
        arbiter.app.cfg = config
        arbiter.setup(arbiter.app)
        arbiter.num_workers = count  # TTIN and TTOU change it
        _return_to_pidfile(arbiter, pidfile)
        arbiter.log.error("Not reloaded, the workers go on as they were: %s", reason(exc))
    finally:
        del arbiter.spawn_worker, arbiter.reap_workers


def _return_to_pidfile(arbiter: Any, pidfile: Any) -> None:
    """Write the old pidfile again: `Arbiter.reload` deletes it before it writes the new one."""
    if arbiter.pidfile is not None:
        arbiter.pidfile.unlink()
    arbiter.pidfile = pidfile
    if pidfile is not None:
        # RuntimeError: its folder has gone, or another process has taken it.
        with suppress(OSError, RuntimeError):
            pidfile.create(arbiter.pid)


def _start_worker(arbiter: Any, started: set[int]) -> int:
    """Start one worker and return when it listens; two that load the application at once would slow the old ones.

    Adds its pid to `started`, the new workers; raises NewWorkersFailed when one of these has ended, or this one
    does not listen in LONGEST_TRIAL_SECONDS.
    """
    _leave_to_stop(arbiter)
    pid: int = Arbiter.spawn_worker(arbiter)
    started.add(pid)
    worker = arbiter.WORKERS[pid]
    born, deadline = worker.tmp.last_update(), time.monotonic() + LONGEST_TRIAL_SECONDS
    while not _listens(worker, born):
        if time.monotonic() > deadline:
            raise NewWorkersFailed(f"a new worker does not listen within {LONGEST_TRIAL_SECONDS:g} seconds")
        time.sleep(POLL_SECONDS)
        try:
            arbiter.reap_workers()
        except HaltServer as exc:
            raise NewWorkersFailed(str(exc.reason)) from exc
        # gunicorn halts for two statuses of a worker that ends; others and signals, such as out of memory, come here.
        if ended := started - arbiter.WORKERS.keys():
            raise NewWorkersFailed(f"worker (pid:{min(ended)}) ended before all new workers listened")
    return pid


def _end_workers(arbiter: Any, before: set[int]) -> None:
    """End the workers that are not in `before`, and reap them: the master ends the oldest of those it has too many."""
    for number, seconds in (
        (signal.SIGTERM, arbiter.cfg.graceful_timeout),
        (signal.SIGKILL, LONGEST_KILL_SECONDS),
    ):
        for pid in arbiter.WORKERS.keys() - before:
            arbiter.kill_worker(pid, number)
        deadline = time.monotonic() + seconds
        while arbiter.WORKERS.keys() - before and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            arbiter.reap_workers()


def _reap_or_stop(arbiter: Any) -> None:
    _leave_to_stop(arbiter)
    Arbiter.reap_workers(arbiter)


def _leave_to_stop(arbiter: Any) -> None:
    """Raise StopIteration if a stop signal is queued; it stays there, as `Arbiter.stop` looks for INT and QUIT."""
    if _must_stop(arbiter):
        # boot_failures.py: a failed start does not halt the master, which is about to end, once more.
        arbiter.failed_start = "a stop signal has ended the reload"
        raise StopIteration


def _listens(worker: Any, born: float) -> bool:
    # A worker that cannot start has changed its file too: it wrote the reason.
    return worker.tmp.last_update() != born and not left_reason(worker)


def _must_stop(arbiter: Any) -> bool:
    """Whether a stop signal is queued for the arbiter's main loop; the queue keeps all its signals."""
    queued = []
    while not arbiter.SIG_QUEUE.empty():
        queued.append(arbiter.SIG_QUEUE.get_nowait())
    for number in queued:
        arbiter.SIG_QUEUE.put_nowait(number)
    return any(number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT) for number in queued)


def _forget_config_module(config: Any) -> None:
    """Make gunicorn import its configuration again if that is a module (`-c python:...`)."""
    if str(config.config or "").startswith(MODULE_PREFIX):
        sys.modules.pop(config.config.removeprefix(MODULE_PREFIX), None)


def _try_in_child(arbiter: Any) -> str | None:
    """Load settings and application in a child; returns the reason in one line if that fails, or None."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _try_and_exit(arbiter, writing)
    os.close(writing)
    deadline = time.monotonic() + LONGEST_TRIAL_SECONDS
    try:
        while not select.select([reading], [], [], POLL_SECONDS)[0]:
            _leave_to_stop(arbiter)
            if time.monotonic() > deadline:
                return f"the application has not loaded within {LONGEST_TRIAL_SECONDS:g} seconds"
        outcome = os.read(reading, LONGEST_REASON_BYTES).decode("utf-8", "replace")
    finally:
        os.close(reading)
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)  # it has written all that it does, or must not go on
            os.waitpid(child, 0)
    if outcome == "ok":
        return None
    return outcome or "the trial of the new settings ended without a word"


def _try_and_exit(arbiter: Any, writing: int) -> None:
    outcome = "ok"
    errors = sys.stderr = io.StringIO()
    try:
        _load_again(arbiter)
    except SystemExit as exc:
        outcome = last_line(str(exc.code) if isinstance(exc.code, str) else errors.getvalue())
    except BaseException as exc:  # no exception may reach the arbiter's code in this child
        outcome = reason(exc)
    os.write(writing, outcome.encode("utf-8", "replace")[:LONGEST_REASON_BYTES])
    os._exit(0)


def _load_again(arbiter: Any) -> None:
    before = arbiter.app.cfg
    _forget_config_module(before)
    arbiter.app.reload()
    cfg = arbiter.app.cfg
    for kind in ("worker_class", "logger_class"):
        getattr(cfg, kind)  # imports the class
    # gunicorn closes its sockets before it binds others. The old workers listen on until they end, so that an address
    # which stays is in use, which ends the master; and a reload that fails could not return to the old addresses.
    if cfg.address != before.address:
        raise CannotStart(
            f"bind has changed to {', '.join(cfg.bind)}: HUP keeps the addresses, stop and start the server"
        )
    arbiter.app.callable = None  # with --preload the master has cached the old application
    arbiter.app.wsgi()
