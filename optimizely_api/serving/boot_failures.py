"""A start that fails: the last line on standard error says why, and only a defect has a traceback before it.

A worker that cannot start leaves its reason in the file that gunicorn's master shares with it, and the master, which
halts, repeats it in its last line. `Arbiter.reap_workers` raises HaltServer for a worker that ends with one of two
statuses. `relied_on.py` lists the names of gunicorn that this needs.
"""

import os
import socket
import sys
from typing import Any, NoReturn

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from optimizely_api.start_failures import explains_itself, reason

LONGEST_REASON_BYTES = 2000

# relied_on.py refuses to start without them.
_gunicorn_run: Any = getattr(Arbiter, "run", None)
_gunicorn_reap_workers: Any = getattr(Arbiter, "reap_workers", None)


class TellsWhyItCannotStart:
    """Mix in before a gunicorn worker class: what stops its start goes to the master, a defect to the log too."""

    log: Any
    tmp: Any
    booted: bool

    def init_process(self) -> None:
        try:
            super().init_process()  # type: ignore[misc]
        except Exception as exc:
            if self.booted:
                raise
            if not explains_itself(exc):
                self.log.exception("The worker cannot start")
            self.end_start(reason(exc))

    def end_start(self, why: str) -> NoReturn:
        """End this worker, and with it the master, which says why."""
        os.pwrite(self.tmp.fileno(), why.encode("utf-8", "replace")[:LONGEST_REASON_BYTES], 0)
        raise SystemExit(Arbiter.WORKER_BOOT_ERROR)


def install() -> None:
    """Have every arbiter of this process end so; may be called again."""
    Arbiter.run = run
    Arbiter.reap_workers = reap_workers


def is_installed() -> bool:
    """Whether they do: then the master has looked up a worker class of ours."""
    return Arbiter.run is run


def run(arbiter: Any) -> None:
    """In place of `Arbiter.run`: its last words are one line, as for every other command."""
    try:
        _gunicorn_run(arbiter)
    except SystemExit as exc:
        if exc.code and os.getpid() == getattr(arbiter, "pid", None):  # workers, forked inside, end here too
            why = getattr(arbiter, "failed_start", None) or _address_that_cannot_be_had(arbiter)
            if why:
                print(f"Error: {why}", file=sys.stderr, flush=True)  # noqa: T201
        raise


def reap_workers(arbiter: Any) -> None:
    """In place of `Arbiter.reap_workers`: the first failed start halts the master, the next change nothing.

    Nor does the failed start of a worker in `arbiter.expendable`, pids without which the others serve on.
    """
    before = dict(arbiter.WORKERS)
    while True:
        try:
            _gunicorn_reap_workers(arbiter)
            return
        except HaltServer as exc:
            if getattr(arbiter, "failed_start", None):
                continue
            ended = [worker for pid, worker in before.items() if pid not in arbiter.WORKERS]
            failed = next(filter(left_reason, ended), None)
            if failed is not None and failed.pid in getattr(arbiter, "expendable", ()):
                continue
            why = left_reason(failed) if failed is not None else exc.reason
            arbiter.failed_start = why
            raise HaltServer(why, exc.exit_status) from None


def left_reason(worker: Any) -> str:
    """Why this worker's start failed; "" when it did not."""
    try:
        return os.pread(worker.tmp.fileno(), LONGEST_REASON_BYTES, 0).decode("utf-8", "replace")
    except (OSError, ValueError):  # closed: it did not fail
        return ""


def _address_that_cannot_be_had(arbiter: Any) -> str | None:
    """Why gunicorn, which names the address only, could not listen."""
    if arbiter.LISTENERS:
        return None
    for address in arbiter.cfg.address:
        if isinstance(address, tuple):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            try:
                socket.create_server(address, family=family).close()
            except OSError as exc:
                return f"cannot listen on {address[0]}:{address[1]}: {str(exc.strerror).partition(' (')[0]}"
    return None
