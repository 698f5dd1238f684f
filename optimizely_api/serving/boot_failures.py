"""A failed start: the last line on standard error is the reason, and only a defect has a traceback before it.

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
# Before the reason in the file, in which a worker that serves may leave another note (runtime/server/replacing.py).
_FAILED = b"cannot start: "

# relied_on.py refuses to start without them.
_gunicorn_run: Any = getattr(Arbiter, "run", None)
_gunicorn_reap_workers: Any = getattr(Arbiter, "reap_workers", None)


class ReportsBootFailure:
    """Mixin, before a gunicorn worker class: reports a failed start to the master, and logs a defect as well."""

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
        """End this worker, and with it the master, which prints the reason."""
        os.pwrite(self.tmp.fileno(), _FAILED + why.encode("utf-8", "replace")[:LONGEST_REASON_BYTES], 0)
        raise SystemExit(Arbiter.WORKER_BOOT_ERROR)


def install() -> None:
    """Patch gunicorn's Arbiter; may be called again."""
    Arbiter.run = run
    Arbiter.reap_workers = reap_workers


def is_installed() -> bool:
    """Whether Arbiter is patched, which means that gunicorn's master has looked up a worker class of ours."""
    return Arbiter.run is run


def run(arbiter: Any) -> None:
    """Replaces `Arbiter.run`: a failed start ends with one line, as for our other commands."""
    try:
        _gunicorn_run(arbiter)
    except SystemExit as exc:
        # Only in the master: it forks the workers inside this call, so they end here too.
        if exc.code and os.getpid() == getattr(arbiter, "pid", None):
            why = getattr(arbiter, "failed_start", None) or _unavailable_address(arbiter)
            if why:
                print(f"Error: {why}", file=sys.stderr, flush=True)  # noqa: T201
        raise


def reap_workers(arbiter: Any) -> None:
    """Replaces `Arbiter.reap_workers`: only the first failed start halts the master.

    A failed start of a worker in `arbiter.expendable`, a set of pids, does not: the other workers keep serving.
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
    """Return why this worker's start failed; "" if it did not fail."""
    try:
        left = os.pread(worker.tmp.fileno(), len(_FAILED) + LONGEST_REASON_BYTES, 0)
    except (OSError, ValueError):  # the file is closed: the worker did not fail
        return ""
    return left.removeprefix(_FAILED).decode("utf-8", "replace") if left.startswith(_FAILED) else ""


def _unavailable_address(arbiter: Any) -> str | None:
    """Return why gunicorn could not listen: its own message has only the address."""
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
