"""HUP whose new workers fail, or that a stop signal ends: the old workers keep serving, or all end at once.

The hooks of gunicorn's configuration file run in its workers alone, so that the trial before a reload finds nothing.
"""

import signal
import sys
import textwrap
from contextlib import contextmanager

import psutil
import pytest

from tests.runtime.servers import running, send, until
from tests.support.ports import free_port

STARTS, FAILED, STOPS = "Booting worker", "Not reloaded", "Worker shutting down"
# The first worker has the age 1.
REFUSES = """
    def post_fork(arbiter, worker):
        worker.end_start("the certificate does not fit")
"""
SECOND_REFUSES = """
    workers = 2
    def post_fork(arbiter, worker):
        if worker.age == 3:
            worker.end_start("the certificate does not fit")
"""
IS_KILLED = """
    import os, signal
    def post_fork(arbiter, worker):
        os.kill(os.getpid(), signal.SIGKILL)
"""
FIRST_IS_KILLED = """
    import os, signal
    workers = 2
    def post_fork(arbiter, worker):
        if worker.age == 3:
            [pid] = [pid for pid, other in arbiter.WORKERS.items() if other.age == 2]
            os.kill(pid, signal.SIGKILL)
            signal.pause()
"""
HANGS = """
    import signal
    workers = 2
    def post_fork(arbiter, worker):
        signal.pause()
"""
HANGS_FOR_TOO_LONG = f"""
    from optimizely_api.serving import reloading
    reloading.LONGEST_TRIAL_SECONDS = 0.5
    {HANGS}
"""


class Configured:
    """A gunicorn with a configuration file; it starts with one worker."""

    def __init__(self, server, write):
        self.server, self.write = server, write

    def hup(self, text):
        """Change the settings and send HUP."""
        self.write(text)
        self.server.signal(signal.SIGHUP)

    def hup_that_fails(self, text):
        """Return the reason that the log has for the failure."""
        count = self.server.log.count(FAILED)
        self.hup(text)
        until(lambda: self.server.log.count(FAILED) > count, 30)
        return [line for line in self.server.log.splitlines() if FAILED in line][-1].partition(": ")[2]

    def workers(self):
        return {child.pid for child in psutil.Process(self.server.process.pid).children()}

    def end_round(self):
        """Wait until the master has ended the workers that it has too many."""
        count = self.server.log.count("Handling signal: usr1")
        self.server.signal(signal.SIGUSR1)
        until(lambda: self.server.log.count("Handling signal: usr1") > count)


@contextmanager
def configured(tmp_path, *options, settings=""):
    port, path = free_port(), tmp_path / "conf.py"

    def write(text):
        path.write_text(f"bind = '127.0.0.1:{port}'\n" + textwrap.dedent(text))

    write(settings)
    command = [sys.executable, "-m", "gunicorn", "-k", "optimizely_api.runtime.server.worker.GatewayWorker"]
    command += ["--no-control-socket", "-c", str(path), *options, "served_app:main()"]
    with running(command, port, tmp_path / "log") as server:
        yield Configured(server, write)


@pytest.fixture
def served(tmp_path):
    with configured(tmp_path) as served:
        yield served


def test_each_reload_that_fails_is_reported_and_the_old_settings_stay(served):
    before = served.workers()
    for _ in range(2):
        assert served.hup_that_fails(REFUSES) == "the certificate does not fit"
        assert served.workers() == before
    [pid] = before
    psutil.Process(pid).kill()
    until(lambda: served.workers() - before)
    with served.server.connect() as client:
        assert send(client)[1] not in before


def test_the_old_worker_is_not_told_to_stop_when_one_of_the_new_ones_fails(served):
    before = served.workers()
    with served.server.connect() as client:
        send(client)
        assert served.hup_that_fails(SECOND_REFUSES) == "the certificate does not fit"
        served.end_round()
        head, _ = send(client)
    assert b"Connection: close" not in head
    assert served.workers() == before


def test_a_worker_more_by_ttin_stays_when_a_reload_fails(served):
    with served.server.connect() as client:
        send(client)
        served.server.signal(signal.SIGTTIN)
        until(lambda: len(served.workers()) == 2)
        served.hup_that_fails(REFUSES)
        served.end_round()
        head, _ = send(client)
    assert b"Connection: close" not in head


@pytest.mark.parametrize("settings", [IS_KILLED, FIRST_IS_KILLED], ids=["while it starts", "when it listens"])
def test_a_new_worker_that_is_killed_fails_the_reload(served, settings):
    before = served.workers()
    assert "ended before all new workers listened" in served.hup_that_fails(settings)
    assert served.workers() == before


def test_a_new_worker_that_hangs_fails_the_reload(served):
    before = served.workers()
    assert served.hup_that_fails(HANGS_FOR_TOO_LONG) == "a new worker does not listen within 0.5 seconds"
    assert served.workers() == before


def test_term_ends_a_reload_whose_new_worker_hangs_and_no_other_is_started(served):
    served.hup(HANGS)
    until(lambda: served.server.log.count(STARTS) == 2)
    served.server.signal(signal.SIGTERM)
    assert served.server.wait() == 0
    assert served.server.log.count(STARTS) == 2


def test_term_ends_a_reload_whose_trial_hangs(served, tmp_path):
    served.hup(f"""
        import pathlib, signal
        pathlib.Path({str(tmp_path / "tried")!r}).touch()
        signal.pause()
    """)
    until((tmp_path / "tried").exists)
    served.server.signal(signal.SIGTERM)
    assert served.server.wait() == 0


def test_term_ends_the_new_workers_while_old_ones_finish_their_requests(tmp_path):
    with configured(tmp_path, "--graceful-timeout", "60") as served, served.server.connect() as client:
        before = served.workers()
        client.sendall(b"GET /wait?seconds=50 HTTP/1.1\r\nHost: t\r\n\r\n")
        served.hup("")
        until(lambda: STOPS in served.server.log, 30)
        assert served.workers() > before
        served.server.signal(signal.SIGTERM)
        until(lambda: served.workers() == before)


RAISES = """
    def on_reload(arbiter):
        raise ValueError("the hook fails")
"""


def test_a_hook_that_fails_fails_the_reload(served):
    before = served.workers()
    assert served.hup_that_fails(RAISES) == "ValueError: the hook fails"
    assert served.workers() == before


def test_a_pidfile_that_cannot_be_written_fails_the_reload_and_the_old_one_stays(tmp_path):
    old, taken, nowhere = tmp_path / "pid", tmp_path / "taken", tmp_path / "nowhere" / "pid"
    taken.write_text("1")  # of a process that runs
    with configured(tmp_path, settings=f"pidfile = '{old}'") as served:
        before = served.workers()
        assert "Already running on PID 1 " in served.hup_that_fails(f"pidfile = '{taken}'")
        assert str(nowhere.parent) in served.hup_that_fails(f"pidfile = '{nowhere}'")
        assert int(old.read_text()) == served.server.process.pid
        assert served.workers() == before


def test_another_address_is_refused(served):
    before = served.workers()
    reason = served.hup_that_fails("bind = '127.0.0.1:1'")
    assert reason == "bind has changed to 127.0.0.1:1: HUP keeps the addresses, stop and start the server"
    assert served.workers() == before


def test_term_ends_a_reload_whose_new_worker_fails_meanwhile(served):
    served.hup("""
        import os, signal
        def post_fork(arbiter, worker):
            os.kill(os.getppid(), signal.SIGTERM)
            os._exit(arbiter.WORKER_BOOT_ERROR)
    """)
    assert served.server.wait() == 0
    assert "Shutting down: Master" in served.server.log
