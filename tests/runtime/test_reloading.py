"""HUP: the old workers serve until new ones listen, and keep serving if the new settings are wrong."""

import re
import signal
import threading
import time

import pytest
import requests

from tests.runtime.servers import until
from tests.support.asserting import AUTHORIZED
from tests.support.serving import ROOT, serve

MODULE = ["-c", "python:optimizely_api.runtime.server.ini_section"]
LONGEST_WAIT_SECONDS = 1.0
STARTS, LISTENS = "Booting worker", "Gateway worker listening"


@pytest.fixture
def ini(tmp_path):
    path = tmp_path / "production.ini"
    path.write_text((ROOT / "production.ini").read_text().replace("workers = auto", "workers = 1", 1))
    return path


def workers(served):
    return {process.pid for process in served.family()[1:]}


def starts(served):
    """What the log has of starting workers, in its order."""
    return re.findall(f"{STARTS}|{LISTENS}", served.log.read_text())


def hup(served):
    served.process.send_signal(signal.SIGHUP)


class Client:
    """Sends requests on new connections all the time; `waits` are the seconds, `failures` are not 200."""

    def __init__(self, served):
        self.waits, self.failures = [], []
        self._served, self._stop = served, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self):
        while not self._stop.wait(0.05):
            began = time.monotonic()
            try:
                status = self._served.get("/healthz").status_code
            except requests.RequestException as exc:
                status = repr(exc)
            self.waits.append(time.monotonic() - began)
            if status != 200:
                self.failures.append(status)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def test_clients_are_served_all_the_time(services, ini, tmp_path):
    with serve("main", services.settings(), tmp_path / "log", *MODULE, ini=ini) as served:
        assert served.get("/healthz").status_code == 200
        before = workers(served)
        with Client(served) as asking:
            hup(served)
            until(lambda: len(workers(served)) == 1 and not workers(served) & before, 60)
            before_count = len(asking.waits)
            until(lambda: len(asking.waits) > before_count + 3, 30)
    assert asking.failures == []
    assert max(asking.waits) < LONGEST_WAIT_SECONDS, max(asking.waits)


@pytest.mark.slow
def test_each_new_worker_starts_when_the_one_before_it_listens(services, ini, tmp_path):
    ini.write_text(ini.read_text().replace("workers = 1", "workers = 2", 1))
    with serve("main", services.settings(), tmp_path / "log", *MODULE, ini=ini) as served:
        until(lambda: starts(served).count(LISTENS) == 2, 60)
        before, first = workers(served), len(starts(served))
        hup(served)
        until(lambda: len(workers(served)) == 2 and not workers(served) & before, 180)
        assert starts(served)[first:] == [STARTS, LISTENS] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("# campaign_fan_out = 10", "campaign_fan_out = ten", "campaign_fan_out = ten: not a whole number"),
        ("graceful_timeout = 30", "graceful_timeot = 30", "did you mean graceful_timeout"),
    ],
    ids=["of the application", "of the server"],
)
def test_a_mistake_in_the_settings_leaves_the_old_workers_serving(
    services, ini, tmp_path, right, wrong, named
):
    with serve("main", services.settings(), tmp_path / "log", *MODULE, ini=ini) as served:
        assert served.get("/healthz").status_code == 200
        before = workers(served)
        ini.write_text(ini.read_text().replace(right, wrong, 1))
        hup(served)
        until(lambda: "Not reloaded" in served.log.read_text(), 60)
        assert workers(served) == before
        assert served.get("/v2/projects", **AUTHORIZED).status_code == 200
        log = served.log.read_text()
    [line] = [line for line in log.splitlines() if "Not reloaded" in line]
    assert named in line
    assert "Traceback" not in log


@pytest.mark.slow
def test_the_ini_file_is_read_again(services, ini, tmp_path):
    with serve("main", services.settings(), tmp_path / "log", *MODULE, ini=ini) as served:
        assert served.get("/healthz").status_code == 200
        ini.write_text(ini.read_text().replace("workers = 1", "workers = 2", 1))
        hup(served)
        until(lambda: len(workers(served)) == 2 and "Worker shutting down" in served.log.read_text(), 60)
