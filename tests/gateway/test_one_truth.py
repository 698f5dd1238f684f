"""The same question about the same data has the same bytes and the same ETag, whichever worker or gateway answers.

Two gateways of two workers each stand before real services.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from tests.gateway.test_declared_errors import ASK_NO_SERVICE, CONTRACT, path
from tests.support.asserting import AUTHORIZED
from tests.support.real_services import RealServices, real_services
from tests.support.serving import serve

KNOWN = {"project_id", "campaign_id", "experiment_id", "event_id", "attribute_id", "page_id"}
READING = {
    name: one
    for name, one in CONTRACT.operations.items()
    if one.method == "GET"
    and name not in ASK_NO_SERVICE
    and {p["name"] for p in one.spec["parameters"] if p.get("required")} <= KNOWN
}
EVENTS_OF_A_BATCH, BATCHES_PER_SECOND = 15, 34
# Each request has a connection of its own, which any worker of the gateway may take.
NEW_CONNECTION = {"Connection": "close"}
# Callers reach all gateways under one name, which is part of addresses inside responses.
PUBLIC_HOST = {"Host": "api.shop.example"}


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Iterator[RealServices]:
    with real_services(tmp_path_factory.mktemp("services")) as services:
        services.send_visitors(100, datetime.now(UTC) - timedelta(hours=1))
        yield services


@pytest.fixture(scope="module")
def ask(real, tmp_path_factory):
    """GET from gateway 0 or 1, by number."""
    folder = tmp_path_factory.mktemp("gateways")
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(serve("main", real.settings(), folder / f"{number}.log", "--workers", "2"))
            for number in range(2)
        ]

        def get(number, address, **headers):
            sent = {**AUTHORIZED, **NEW_CONNECTION, **PUBLIC_HOST, "Accept-Encoding": "identity", **headers}
            return gateways[number % 2].get(address, **sent)

        for number in range(8):  # a new worker takes a while
            assert get(number, "/v2/projects").status_code == 200
        yield get


def results_of(real):
    return path(READING["get_experiment_results"], real.ids)


def within_one_minute(ask_all):
    """Ask within a minute of the clock: a plan is that of its minute, and results without an end of their five."""
    while True:
        minute = time.time() // 60
        answers = ask_all()
        if time.time() // 60 == minute:
            return answers


def truths_of(ask, address, number, **headers):
    """The different answers to one question, asked so many times of both gateways."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: ask(n, address, **headers), range(number)))
    assert {answer.status_code for answer in answers} == {200}
    return {(answer.content, answer.headers["ETag"], answer.headers.get("Link")) for answer in answers}


@pytest.mark.parametrize("requests", [60, pytest.param(1_000, marks=pytest.mark.whole)])
def test_one_body_and_one_etag_while_nothing_changes_whenever_one_asks(real, ask, requests):
    def ask_all():
        first = truths_of(ask, results_of(real), requests)
        time.sleep(1.1)  # the clock that answers could be dated by has another second now
        return first | truths_of(ask, results_of(real), 40)

    assert len(within_one_minute(ask_all)) == 1


@pytest.mark.parametrize("coding", ["identity", "gzip", "br", "zstd"])
@pytest.mark.parametrize("operation_id", READING)
def test_every_operation_has_one_strong_etag_that_all_gateways_confirm(real, ask, operation_id, coding):
    address = path(READING[operation_id], real.ids)
    # Callers know all gateways by one name, which stands in the addresses of some bodies.
    taken = {"Accept-Encoding": coding, "Host": "api.example"}

    def asked():
        truths = truths_of(ask, address, 4, **taken)
        etag = next(iter(truths))[1]
        confirmed = [ask(n, address, **taken, **{"If-None-Match": etag}).status_code for n in range(4)]
        return len(truths), etag, confirmed

    truths, etag, confirmed = within_one_minute(asked)
    assert (truths, confirmed) == (1, [304] * 4)
    assert not etag.startswith("W/")


@pytest.mark.parametrize("events", [1_500, pytest.param(10_000, marks=pytest.mark.whole)])
def test_end_time_and_counts_never_go_back_while_500_events_a_second_arrive(real, ask, events):
    """For each of four clients, who asks the two gateways in turn."""
    batches = events // EVENTS_OF_A_BATCH
    done, sent = threading.Event(), []

    def send_events():
        began = time.monotonic()
        with ThreadPoolExecutor(8) as senders:
            for number in range(batches):
                now = datetime.now(UTC)
                sent.append(senders.submit(real.send_visitors, EVENTS_OF_A_BATCH * 2 // 3, now))
                time.sleep(max(0.0, began + (number + 1) / BATCHES_PER_SECOND - time.monotonic()))
        print(f"{batches * EVENTS_OF_A_BATCH / (time.monotonic() - began):.0f} events a second")
        done.set()

    def one_client(first):
        seen = []
        for number in itertools.count(first):
            seen.append(figures(ask(number, results_of(real)).json()))
            if done.wait(0.02):
                return seen
        raise AssertionError("it counts for ever")

    sender = threading.Thread(target=send_events)
    sender.start()
    with ThreadPoolExecutor(4) as pool:
        clients = list(pool.map(one_client, range(4)))
    sender.join()
    assert [batch.exception() for batch in sent] == [None] * batches
    print(f"{sum(map(len, clients))} answers to 4 clients")
    for seen in clients:
        assert len(set(seen)) > 2
        for earlier, later in itertools.pairwise(seen):
            assert all(before <= after for before, after in zip(earlier, later, strict=True))


def figures(answer):
    """What must not go back: `end_time`, visitors, and conversions of each variation."""
    reach, (metric,) = answer["reach"], answer["metrics"]
    visitors = [variation["count"] for _, variation in sorted(reach["variations"].items())]
    conversions = [result["value"] for _, result in sorted(metric["results"].items())]
    return answer["end_time"], reach["total_count"], *visitors, *conversions
