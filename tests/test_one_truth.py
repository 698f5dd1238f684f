"""The same question about the same data has the same bytes and the same ETag, whichever worker or gateway answers."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests import samples
from tests.asserting import AUTHORIZED
from tests.serving import serve

RESULTS = f"/v2/experiments/{samples.EXPERIMENT}/results"
CAMPAIGN = f"/v2/campaigns/{samples.LAYER}/results"
OPERATIONS = [
    RESULTS,
    CAMPAIGN,
    f"/v2/experiments/{samples.EXPERIMENT}",
    f"/v2/campaigns/{samples.LAYER}",
    f"/v2/projects/{samples.PROJECT}",
    f"/v2/events/{samples.EVENT}",
    "/v2/projects",
    "/v2/experiments",
    f"/v2/campaigns?project_id={samples.PROJECT}",
    f"/v2/events?project_id={samples.PROJECT}",
]
# Each request has a connection of its own, which any worker of the gateway may take.
NEW_CONNECTION = {"Connection": "close"}


@pytest.fixture
def gateways(services, tmp_path):
    """Two gateways of two workers each."""
    services.conversions = (2000, time.time() - 1)
    with ExitStack() as stack:
        opened = [
            stack.enter_context(
                serve("main", services.settings(), tmp_path / f"{number}.log", "--workers", "2")
            )
            for number in range(2)
        ]
        for number in range(8):  # a new worker takes a while
            assert ask(opened, number, RESULTS).status_code == 200
        yield opened


def ask(gateways, number, path, coding="identity", **headers):
    headers = {**AUTHORIZED, **NEW_CONNECTION, "Accept-Encoding": coding, **headers}
    return gateways[number % len(gateways)].get(path, **headers)


@pytest.mark.parametrize("requests", [60, pytest.param(1_000, marks=pytest.mark.slow)])
def test_one_body_and_one_etag_of_each_operation_while_nothing_changes(gateways, requests):
    for path, coding in itertools.product(OPERATIONS, ("identity", "gzip", "br", "zstd")):
        number = requests if (path, coding) == (RESULTS, "identity") else 6
        answers, again = within_one_slot(lambda: ask_all(gateways, path, coding, number))  # noqa: B023
        assert {answer.status_code for answer in answers} == {200}
        truths = {(answer.content, answer.headers["ETag"], answer.headers.get("Link")) for answer in answers}
        assert len(truths) == 1, path
        assert not answers[0].headers["ETag"].startswith("W/")
        assert again == [304] * 2, path


def ask_all(gateways, path, coding, number):
    """The answers, and the statuses of two requests with the tag of the first."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: ask(gateways, n, path, coding), range(number)))
    etag = answers[0].headers.get("ETag")
    return answers, [ask(gateways, n, path, coding, **{"If-None-Match": etag}).status_code for n in range(2)]


def within_one_slot(work):
    """What `work` returns while no five minutes of the clock end: with them the interval of results ends anew."""
    while True:
        slot = time.time() // 300
        done = work()
        if time.time() // 300 == slot:
            return done


@pytest.mark.parametrize("seconds", [3, pytest.param(20, marks=pytest.mark.whole)])
def test_end_time_and_counts_never_go_back_while_events_arrive(gateways, services, seconds):
    ended = time.monotonic() + seconds
    services.manners["results"].delay_seconds = 0.005  # calls of several callers overlap

    def count_events():
        while time.monotonic() < ended:
            services.conversions = (services.conversions[0] + 1, time.time())
            time.sleep(0.002)

    def one_client(first):
        seen = []
        numbers = itertools.count(first)
        while time.monotonic() < ended:
            number = next(numbers)
            answer = ask(gateways, number, RESULTS).json()
            seen.append((answer["end_time"], answer["reach"]["total_count"]))
        return seen

    events = threading.Thread(target=count_events)
    events.start()
    with ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(one_client, range(8)))
    events.join()
    print(f"{sum(map(len, clients))} answers to 8 clients, {services.conversions[0] - 2000} events")
    for seen in clients:
        assert seen == sorted(seen)
        assert len(set(seen)) > 2
