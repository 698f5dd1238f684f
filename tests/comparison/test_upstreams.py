"""The stub of the services: answers the gateway believes, at the pace that it is told."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from optimizely_api import main
from optimizely_api.comparison.load.command import LoadPlan
from optimizely_api.comparison.stub.entities import CAMPAIGNS_FROM, EXPERIMENTS_FROM
from optimizely_api.runtime.testing import GatewayTestApp
from optimizely_api.services_key import VARIABLE, authorization
from tests.comparison.undisturbed import undisturbed
from tests.support.ports import free_port
from tests.support.samples import SERVICES_KEY
from tests.support.serving import KEEPS_NOTHING

SOON_SECONDS = 20
KEY = authorization(SERVICES_KEY)
CALLS = {
    "projects": "GET /projects/1",
    "experiments": "GET /experiments/1",
    "results": "POST /results/1",
}


class Running:
    """A stub in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.process = process
        self.ports: dict[str, int] = json.loads(process.stdout.readline())

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def call(self, name: str) -> requests.Response:
        method, path = CALLS[name].split()
        return requests.request(method, self.url(name) + path, json={}, headers=KEY, timeout=SOON_SECONDS)

    def control(self, target: str) -> requests.Response:
        return requests.get(self.url("control") + target, timeout=SOON_SECONDS)

    def stats(self) -> dict[str, Any]:
        answered: dict[str, Any] = self.control("/_stats").json()
        return answered

    def seconds(self, name: str) -> float:
        begun = time.monotonic()
        self.call(name)
        return time.monotonic() - begun


@contextlib.contextmanager
def running(*options: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "optimizely_api.comparison.stub.server", "--control-port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Running(process)
        finally:
            process.terminate()
            process.wait(SOON_SECONDS)


@pytest.fixture(scope="module")
def running_stub() -> Iterator[Running]:
    with running("--delay-ms", "0", "--fan-out", "3") as stub:
        yield stub


@pytest.fixture
def stub(running_stub: Running) -> Running:
    running_stub.control("/_reset")
    return running_stub


@pytest.fixture(scope="module")
def gateway_before_stub(running_stub: Running) -> Iterator[GatewayTestApp]:
    urls = {f"{name}_url": running_stub.url(name) for name in CALLS}
    with GatewayTestApp(main({}, **urls, **KEEPS_NOTHING)) as app:
        yield app


def test_401_without_the_services_key(stub: Running) -> None:
    url = f"{stub.url('projects')}/projects/1"
    for headers in ({}, authorization("another-services-key")):
        assert requests.get(url, headers=headers, timeout=SOON_SECONDS).status_code == 401


def authorized(gateway: GatewayTestApp, path: str, status: int = 200) -> Any:
    return gateway.get(path, headers={"Authorization": "Bearer 2:any"}, status=status)


def test_the_gateway_composes_experiment_results_from_it(
    gateway_before_stub: GatewayTestApp, stub: Running
) -> None:
    body = authorized(gateway_before_stub, f"/v2/experiments/{EXPERIMENTS_FROM}/results").json
    assert body["experiment_id"] == EXPERIMENTS_FROM
    assert body["confidence_threshold"] == 0.9
    assert len(body["metrics"]) == 5
    assert len(body["metrics"][0]["results"]) == 3


def test_a_campaign_has_as_many_experiments_as_the_fan_out(
    gateway_before_stub: GatewayTestApp, stub: Running
) -> None:
    body = authorized(gateway_before_stub, f"/v2/campaigns/{CAMPAIGNS_FROM + 7}/results").json
    assert body["campaign_id"] == CAMPAIGNS_FROM + 7
    assert stub.stats()["results"]["requests"] == 3


def test_its_entities_can_be_asked_for_one_by_one(gateway_before_stub: GatewayTestApp, stub: Running) -> None:
    for path in ("projects/5", "experiments/5", f"campaigns/{CAMPAIGNS_FROM + 5}"):
        assert authorized(gateway_before_stub, f"/v2/{path}").json["id"] > 0


def test_a_failing_service_is_the_gateways_503(gateway_before_stub: GatewayTestApp, stub: Running) -> None:
    stub.control("/_set?results.fail_share=1")
    authorized(gateway_before_stub, f"/v2/experiments/{EXPERIMENTS_FROM}/results", status=503)
    assert stub.stats()["results"]["failed"] == 1


@pytest.mark.parametrize("name", CALLS)
def test_answers_come_after_the_delay(name: str, stub: Running) -> None:
    assert min(stub.seconds(name) for _ in range(5)) < 0.19  # the machine's load can delay one
    stub.control(f"/_set?{name}.delay_ms=200")
    assert stub.seconds(name) > 0.19


def test_a_setting_without_a_service_is_for_all(stub: Running) -> None:
    stub.control("/_set?delay_ms=20&results.delay_ms=30")
    assert [service["behaviour"]["delay_ms"] for service in stub.stats().values()] == [20, 20, 30]
    stub.control("/_reset")
    assert [service["behaviour"]["delay_ms"] for service in stub.stats().values()] == [0, 0, 0]


def test_a_share_of_the_calls_is_slower_by_the_factor(stub: Running) -> None:
    stub.control("/_set?projects.delay_ms=10&projects.tail_share=0.5&projects.tail_factor=10")
    seconds = [stub.seconds("projects") for _ in range(20)]
    slow = stub.stats()["projects"]["slow"]
    assert 2 <= slow <= 18
    assert sum(each > 0.09 for each in seconds) >= slow
    assert sum(each < 0.09 for each in seconds) >= 1


def test_what_is_slow_and_what_fails_repeats_with_the_seed() -> None:
    def statuses(seed: str) -> list[int]:
        with running(
            "--delay-ms", "0", "--fail-share", "0.5", "--fail-status", "500", "--seed", seed
        ) as stub:
            return [stub.call("experiments").status_code for _ in range(30)]

    first = statuses("1")
    assert set(first) == {200, 500}
    assert first == statuses("1")
    assert first != statuses("2")


def test_it_can_fail_without_an_answer(stub: Running) -> None:
    stub.control("/_set?experiments.fail_share=1&experiments.fail_status=0")
    with pytest.raises(requests.ConnectionError):
        stub.call("experiments")
    assert stub.call("projects").status_code == 200


def test_it_records_calls_while_it_is_asked_to(stub: Running) -> None:
    stub.call("results")
    stub.control("/_record")
    stub.control("/_set?delay_ms=30")
    headers = {**KEY, "X-Request-Id": "traced-1.1"}
    requests.get(stub.url("projects") + "/projects/1", headers=headers, timeout=SOON_SECONDS)
    (call,) = stub.control("/_recorded").json()
    assert (call["request_id"], call["service"], call["path"]) == ("traced-1.1", "projects", "/projects/1")
    assert call["end"] - call["begin"] >= 0.028
    stub.call("results")
    assert stub.control("/_recorded").json() == []


def test_its_health_is_always_good(stub: Running) -> None:
    stub.control("/_set?fail_share=1&delay_ms=5000")
    for name in CALLS:
        assert requests.get(f"{stub.url(name)}/healthz", timeout=2).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("delay_ms=fast", "delay_ms=fast"),
        ("delay_ms=-1", "delay_ms is not below 0"),
        ("delay_ms=inf", "finite"),
        ("tail_share=1.5", "between 0 and 1"),
        ("fail_status=200", "from 400 to 599"),
        ("latency=5", "there is no latency"),
        ("payments.delay_ms=5", "there is no service payments"),
    ],
    ids=str,
)
def test_400_names_a_wrong_setting_and_nothing_is_changed(query: str, words: str, stub: Running) -> None:
    answer = stub.control(f"/_set?results.delay_ms=77&{query}")
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert stub.stats()["results"]["behaviour"]["delay_ms"] == 0


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /nothing", 404),
        ("POST /projects/1", 405),
        ("GET /experiments?campaign_id=x&page=1&per_page=1", 400),
    ],
    ids=str,
)
def test_other_calls_are_refused(request_line: str, status: int, stub: Running) -> None:
    method, target = request_line.split()
    service = "experiments" if target.startswith("/experiments") else "projects"
    answer = requests.request(method, stub.url(service) + target, headers=KEY, timeout=SOON_SECONDS)
    assert answer.status_code == status


def test_a_request_in_pieces_is_answered_once(stub: Running) -> None:
    with socket.create_connection(("127.0.0.1", stub.ports["results"]), timeout=SOON_SECONDS) as client:
        key = f"Authorization: {KEY['Authorization']}\r\n".encode()
        for piece in (b"POST /results/1 HT", b"TP/1.1\r\nContent-Length: 4\r\n" + key, b"\r\n{", b"}  "):
            client.sendall(piece)
            time.sleep(0.02)  # so that each is a read of its own
        assert client.recv(15) == b"HTTP/1.1 200 OK"
    assert stub.stats()["results"]["requests"] == 1


def test_a_caller_who_leaves_is_counted(stub: Running) -> None:
    stub.control("/_set?projects.delay_ms=5000")
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{stub.url('projects')}/projects/1", headers=KEY, timeout=0.1)
    deadline = time.monotonic() + SOON_SECONDS
    while not stub.stats()["projects"]["abandoned"]:
        assert time.monotonic() < deadline
    assert stub.stats()["projects"]["answered"] == 0


@pytest.mark.slow
async def test_it_answers_on_a_thousand_connections_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)  # the load generator sends no key
    with running("--delay-ms", "4000") as stub:
        plan = LoadPlan(stub.url("experiments"), [(300, 6.0)], ["/experiments/1", "/layers/2"])
        result = await undisturbed(plan, tmp_path)
        most = stub.stats()["experiments"]["most_connections"]
    total = result.total()
    assert total.by_class() == {"2xx": 1_800}
    assert most >= 1100  # 300/s x 4 s are waiting at a time
    assert (total.latency.percentile(50) or 0) == pytest.approx(4000, abs=400)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_it_ends_at_once_with_answers_on_the_way(number: int) -> None:
    with running("--delay-ms", "60000") as stub:
        client = socket.create_connection(("127.0.0.1", stub.ports["projects"]))
        client.sendall(f"GET /projects/1 HTTP/1.1\r\nAuthorization: {KEY['Authorization']}\r\n\r\n".encode())
        while not stub.stats()["projects"]["requests"]:
            pass
        begun = time.monotonic()
        stub.process.send_signal(number)
        assert stub.process.wait(SOON_SECONDS) == 0
        assert time.monotonic() - begun < 5
        client.close()


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "optimizely_api.comparison.stub.server", "--ports", f"{port},0,0"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=SOON_SECONDS, check=False)
    assert said.returncode == 1
    assert "address already in use" in said.stderr
