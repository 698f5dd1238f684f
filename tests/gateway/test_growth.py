"""Many requests at once: what they hold is small and goes with them; too few open files make them wait, not fail."""

import gc
import weakref

import pytest

from optimizely_api.gateway import access_log
from optimizely_api.serving import file_limits as open_files
from tests.benchmark_growth import MEGABYTE, bench, warm_up
from tests.runtime.servers import until
from tests.support import samples
from tests.support.asserting import AUTHORIZED

LARGEST_WORKER = 300 * MEGABYTE
# What is looked at is memory and answers, not time: the machine may have other things to do.
PATIENT = {
    "request_deadline_seconds": "50",
    **{f"{name}_timeout_seconds": "40" for name in ("projects", "experiments", "results")},
    "upstream_connect_timeout_seconds": "20",
    "overload_wait_seconds": "0",
}


@pytest.fixture
def many_files():
    open_files.allow_many_files()


@pytest.mark.slow
async def test_2000_requests_in_flight_are_answered_by_a_worker_of_less_than_300_mb(tmp_path, many_files):
    with bench(tmp_path, PATIENT) as served:
        await warm_up(served)
        served.delay(3000)
        first = await served.offer(400, 5)
        again = await served.offer(400, 5)
    assert (first.bad, again.bad) == ({}, {})
    assert first.good == again.good == 2000
    assert min(first.most_in_flight, again.most_in_flight) >= 1990  # the first is answered after six seconds
    assert max(first.peak, again.peak) < LARGEST_WORKER
    # The second load is served from what the first one has left: nothing of it is held any more.
    assert again.peak - first.peak < (first.peak - first.idle) / 2


async def test_with_too_few_open_files_requests_wait_and_none_fails(tmp_path, many_files):
    one_account = {"account_in_flight_share": "1"}  # all requests are of one
    with bench(tmp_path, {**PATIENT, **one_account}, open_files=300) as served:
        served.delay(100)
        seen = await served.offer(150, 2)
    log = (tmp_path / "log").read_text()
    assert seen.bad == {}
    assert "Only 300 files may be open: of worker_connections = 10000, " in log
    assert "Too many open files" not in log


def test_files_are_shared_by_callers_and_services(monkeypatch):
    monkeypatch.setattr(open_files, "limit", lambda: 20_000)
    callers, services = open_files.for_clients(), open_files.for_services()
    assert services < callers < services * 2
    assert callers + services < 20_000 - open_files.RESERVED
    monkeypatch.setattr(open_files, "limit", lambda: open_files.needed(callers + 1))
    assert open_files.for_clients() in (callers + 1, callers + 2)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/v2/experiments/{samples.EXPERIMENT}/results", 200),
        ("/v2/projects", 200),
        ("/v2/experiments/none", 400),
        ("/v2/nowhere", 404),
        ("/healthz", 200),
    ],
)
def test_what_a_request_held_goes_without_the_garbage_collector(gateway, path, status, monkeypatch, caplog):
    requests = []
    known_route = access_log.known_route
    caplog.set_level("INFO", "optimizely_api.access")

    def noted(request):
        requests.append(weakref.ref(request))
        return known_route(request)

    # asyncio's own loop, on which tests run, keeps the timer of a connect for a while; this makes the connections.
    gateway.get(path, headers=AUTHORIZED, status="*")
    monkeypatch.setattr(access_log, "known_route", noted)
    gc.disable()
    try:
        assert gateway.get(path, headers=AUTHORIZED, status="*").status_int == status
        until(lambda: requests[0]() is None)
    finally:
        gc.enable()
