"""The composites respond byte for byte alike: as coroutines, with processes, with threads, and with greenlets.

Each application is the real one under the real gunicorn, before the same three services; only then is a comparison of
their speed fair.
"""

import contextlib
import importlib.util
import os
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from optimizely_api.http.codings import CODINGS
from tests.support import samples
from tests.support.asserting import AUTHORIZED
from tests.support.serving import KEEPS_NOTHING, ROOT, serve

REQUEST_ID = "0b0e7f0c-5a6e-4f5e-9d0c-6f1f5f1f2a11"
HEADERS = {**AUTHORIZED, "X-Request-Id": REQUEST_ID}
EXPERIMENT = f"/v2/experiments/{samples.EXPERIMENT}/results"
CAMPAIGN = f"/v2/campaigns/{samples.LAYER}/results"
SAME_HEADERS = (
    *("Content-Type", "X-Request-Id", "Retry-After", "Link"),
    *("ETag", "Vary", "Cache-Control", "Content-Encoding", "Content-Length"),
)
SETTINGS = {**KEEPS_NOTHING, "results_timeout_seconds": "3"}


@pytest.fixture(scope="module")
def applications(running_services, tmp_path_factory):
    """{section of production.ini: the application served}."""
    folder = tmp_path_factory.mktemp("gunicorn")
    settings = {**running_services.settings(), **SETTINGS}
    with (
        serve("main", settings, folder / "main.log", "--workers", "1") as main,
        serve("legacy", settings, folder / "legacy.log", "--workers", "1") as legacy,
        serve("legacy-threads", settings, folder / "threads.log", "--workers", "1") as threads,
    ):
        yield {"main": main, "legacy": legacy, "legacy-threads": threads}


@pytest.fixture(scope="module")
def extra_applications(applications, running_services, tmp_path_factory):
    """The same for the designs that only the comparison serves: production.ini with one setting or two changed."""
    folder = tmp_path_factory.mktemp("extra")
    settings = {**running_services.settings(), **SETTINGS}
    changes = {"legacy-kept": ("multiprocessing-kept", "sync")}
    if importlib.util.find_spec("gevent"):
        changes["legacy-gevent"] = ("gevent", "gevent")
    with contextlib.ExitStack() as stack:
        for name, (fan_out, worker) in changes.items():
            ini = folder / f"{name}.ini"
            text = (ROOT / "production.ini").read_text()
            text = text.replace("legacy.fan_out = multiprocessing\n", f"legacy.fan_out = {fan_out}\n")
            ini.write_text(text.replace("worker_class = sync", f"worker_class = {worker}"))
            served = serve("legacy", settings, folder / f"{name}.log", "--workers", "1", ini=ini)
            applications[name] = stack.enter_context(served)
        yield applications


class Composites:
    """What every application must do; the subclasses name theirs."""

    section: str

    @pytest.fixture(autouse=True)
    def _application(self, extra_applications, services):
        if self.section not in extra_applications:
            pytest.skip("gevent is not installed")
        self.gateway, self.served = extra_applications["main"], extra_applications[self.section]
        self.services = services

    def assert_same(self, path, status, **headers):
        headers = {**HEADERS, **headers}
        ours, theirs = (application.get(path, **headers) for application in (self.served, self.gateway))
        assert ours.status_code == theirs.status_code == status
        assert ours.content == theirs.content
        for header in SAME_HEADERS:
            assert ours.headers.get(header) == theirs.headers.get(header)
        return ours

    def test_experiment_results(self):
        assert self.assert_same(EXPERIMENT, 200).json()["experiment_id"] == samples.EXPERIMENT

    @pytest.mark.parametrize("coding", CODINGS)
    def test_experiment_results_in_every_coding(self, coding):
        answer = self.assert_same(EXPERIMENT, 200, **{"Accept-Encoding": coding})
        assert answer.headers["Content-Encoding"] == coding

    def test_what_the_caller_has_already(self):
        etag = self.assert_same(EXPERIMENT, 200).headers["ETag"]
        assert self.assert_same(EXPERIMENT, 304, **{"If-None-Match": etag}).content == b""

    def test_campaign_results(self):
        ids = [samples.EXPERIMENT, samples.SECOND_EXPERIMENT]
        self.services.layers[samples.LAYER]["experiment_ids"] = ids
        self.services.experiments[samples.SECOND_EXPERIMENT] = samples.experiment(samples.SECOND_EXPERIMENT)
        self.services.results[samples.SECOND_EXPERIMENT] = samples.results()
        assert self.assert_same(CAMPAIGN, 200).json()["campaign_id"] == samples.LAYER

    def test_a_campaign_without_experiments(self):
        self.services.layers[samples.LAYER]["experiment_ids"] = []
        self.services.experiments.clear()
        self.assert_same(CAMPAIGN, 204)

    def test_no_data(self):
        self.services.results.clear()
        self.assert_same(EXPERIMENT, 204)

    def test_results_being_computed(self):
        self.services.results_status = 202
        self.assert_same(EXPERIMENT, 202)

    @pytest.mark.parametrize("query", ["browser=lynx", "baseline_variation_id=1", "start_time=x&browser=y"])
    def test_bad_requests(self, query):
        assert self.assert_same(f"{EXPERIMENT}?{query}", 400).json()["messages"]

    def test_unknown_entities(self):
        self.assert_same("/v2/experiments/99/results", 404)

    def test_another_accounts_entities(self):
        self.assert_same(f"/v2/experiments/{samples.OTHER_EXPERIMENT}/results", 403)

    def test_a_body_over_the_limit(self):
        for application in (self.served, self.gateway):
            answer = requests.get(
                application.url + EXPERIMENT, headers=HEADERS, data=b"x" * 2_000_000, timeout=30
            )
            assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")

    def test_no_token(self):
        ours, theirs = (
            application.get(EXPERIMENT, **{"X-Request-Id": REQUEST_ID})
            for application in (self.served, self.gateway)
        )
        assert ours.status_code == theirs.status_code == 401
        assert ours.content == theirs.content

    @pytest.mark.parametrize("upstream", ["experiments", "results"])
    def test_an_odd_answer(self, upstream):
        self.services.manners[upstream].body = b'{"surprise": true}'
        assert upstream in self.assert_same(EXPERIMENT, 502).json()["message"]

    def test_a_broken_answer(self):
        self.services.manners["results"].cut_off = True
        self.assert_same(EXPERIMENT, 502)

    def test_a_refused_connection(self):
        self.services.close("results")
        assert self.assert_same(EXPERIMENT, 503).headers["Retry-After"]

    @pytest.mark.parametrize("manner", ["hang", "trickle"])
    def test_a_late_answer(self, manner):
        setattr(self.services.manners["results"], manner, True)
        with ThreadPoolExecutor() as pool:
            ours, theirs = pool.map(
                lambda served: served.get(EXPERIMENT, **HEADERS), (self.served, self.gateway)
            )
        assert ours.status_code == theirs.status_code == 504
        assert ours.json()["code"] == theirs.json()["code"] == "upstream_timeout"
        assert "results service" in ours.json()["message"]


class TestMultiprocessing(Composites):
    section = "legacy"

    def test_the_processes_of_a_request_have_ended_with_it(self):
        before = len(self.served.family())
        self.assert_same(EXPERIMENT, 200)
        assert self._family_is_back_to(before)

    @pytest.mark.parametrize(
        ("upstream", "status"), [("experiments", 502), ("projects", 200), ("results", 502)]
    )
    def test_also_when_an_upstream_fails(self, upstream, status):
        self.assert_same(EXPERIMENT, 200)  # the token was accepted
        before = len(self.served.family())
        self.services.manners[upstream].status = 500
        self.assert_same(EXPERIMENT, status)
        assert self._family_is_back_to(before)

    def _family_is_back_to(self, number):
        """The pool is joined before the answer; the operating system may take a moment to forget its processes."""
        last = time.monotonic() + 5
        while time.monotonic() < last:
            alive = [process for process in self.served.family() if process.status() != psutil.STATUS_ZOMBIE]
            if len(alive) == number:
                return True
        return False


class TestKeptPool(Composites):
    section = "legacy-kept"

    def test_the_same_processes_serve_every_request(self):
        self.assert_same(EXPERIMENT, 200)
        before = {process.pid for process in self.served.family()}
        self.assert_same(EXPERIMENT, 200)
        assert {process.pid for process in self.served.family()} == before
        assert len(before) == 2 + (os.cpu_count() or 1), "gunicorn, its worker, and a process per CPU"


class TestGreenlets(Composites):
    section = "legacy-gevent"

    def test_many_at_once_wait_together(self):
        self.services.manners["results"].delay_seconds = 0.5
        begun = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: self.served.get(EXPERIMENT, **HEADERS).status_code, range(16)))
        assert answers == [200] * 16
        assert time.monotonic() - begun < 16 * 0.5, "the worker holds all of them at once"


class TestThreads(Composites):
    section = "legacy-threads"

    def test_many_at_once_are_all_answered(self):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: self.served.get(EXPERIMENT, **HEADERS).status_code, range(200)))
        assert answers == [200] * 200
