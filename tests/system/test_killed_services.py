"""SIGKILL of each service amid 200 creating requests, or 1,000: each 201 is of something whole, and nothing else shows.

The services come back as an operator's supervisor starts them again, on the same databases.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.conftest import WHOLE
from tests.support.ports import free_port
from tests.support.real_services import KEY, NAMES, service, wait_until_listening
from tests.support.serving import serve
from tests.support.whole_stack import Caller, Json, WholeStack

pytestmark = pytest.mark.slow

REQUESTS = 1_000 if WHOLE else 200
CALLERS = 4
LONGEST_WAIT_SECONDS = 120
WAIT_SECONDS = 0.5  # of a caller that was refused, so that most requests meet services that are there
KILLS = {"projects": 2, "experiments": 2, "results": 1} if WHOLE else dict.fromkeys(NAMES, 1)


class Supervisor:
    """The services, each of which can be killed with all its processes and started again at its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in NAMES}
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        self._stacks = {name: contextlib.ExitStack() for name in NAMES}
        self._processes: dict[str, Any] = {}

    def start(self, name: str) -> None:
        """Start the service, and return once it answers."""
        stack = self._stacks[name]
        self._processes[name] = stack.enter_context(service(name, self.ports[name], self.folder))
        wait_until_listening(self.urls[name], self.folder / f"{name}.log")

    def kill(self, name: str) -> None:
        """SIGKILL, for the master and its workers at once."""
        master = psutil.Process(self._processes[name].pid)
        family = [master, *master.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family[1:])
        self._stacks[name].close()

    def stop(self) -> None:
        """End all services."""
        for stack in self._stacks.values():
            stack.close()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path)
    try:
        for name in NAMES:
            supervisor.start(name)
        yield supervisor
    finally:
        supervisor.stop()


@pytest.fixture
def api(supervisor: Supervisor, tmp_path: Path) -> Iterator[Caller]:
    settings = {"services_key": KEY, **{f"{name}_url": url for name, url in supervisor.urls.items()}}
    with serve("main", settings, tmp_path / "gateway.log") as gateway:
        yield WholeStack(gateway.url, supervisor.urls, tmp_path).new_account()


class Creators:
    """Callers that create entities of all kinds in turn, and keep what they were answered."""

    def __init__(self, api: Caller, project_id: int) -> None:
        self.api, self.project_id = api, project_id
        self.numbers = count(1)
        self.answered: dict[str, Json] = {}
        self.statuses: list[int] = []
        self._lock = threading.Lock()

    def run(self, _: int = 0) -> None:
        """Create until there were `REQUESTS` of all callers together."""
        caller = Caller(self.api.url, self.api.token)
        while (number := self._next()) <= REQUESTS:
            path, body = self._request(number)
            status, answer = 0, None
            with contextlib.suppress(requests.RequestException):
                response = caller.send("POST", path, json=body)
                status, answer = response.status_code, response.json()
            with self._lock:
                self.statuses.append(status)
                if status == 201:
                    self.answered[f"{path.split('?')[0]}/{answer['id']}"] = answer
            if status != 201:
                time.sleep(WAIT_SECONDS)

    def _next(self) -> int:
        with self._lock:
            return next(self.numbers)

    def _request(self, number: int) -> tuple[str, Json]:
        owner = {"project_id": self.project_id}
        variations = [{"key": key, "weight": 5000} for key in ("a", "b")]
        key = f"made_{number}"
        return (
            ("/projects", {"name": key, "platform": "custom"}),
            ("/audiences", {**owner, "name": key}),
            ("/experiments?action=start", {**owner, "key": key, "variations": variations}),
            (
                "/features",
                {**owner, "key": key, "variables": [{"key": "v", "type": "string", "default_value": ""}]},
            ),
            ("/attributes", {**owner, "key": key}),
        )[number % 5]


def test_what_was_answered_is_whole_and_nothing_half_made_is_visible(
    supervisor: Supervisor, api: Caller
) -> None:
    project = api.post("/projects", {"name": "Shop", "platform": "custom"})
    creators = Creators(api, project["id"])
    with ThreadPoolExecutor(CALLERS) as pool:
        running = [pool.submit(creators.run) for _ in range(CALLERS)]
        for name, times in KILLS.items():
            for _ in range(times):
                _wait_for(creators, len(creators.statuses) + REQUESTS // 8)
                supervisor.kill(name)
                supervisor.start(name)
        for one in running:
            one.result()

    refused = [status for status in creators.statuses if status != 201]
    assert refused, "no request met a killed service"
    assert set(refused) <= {502, 503, 504}
    print(f"{len(creators.answered)} of {REQUESTS} were created, {len(refused)} met a killed service")
    for path, entity in creators.answered.items():
        assert api.get(path) == entity
    _assert_everything_visible_is_whole(api, project)


def _wait_for(creators: Creators, number: int) -> None:
    last = time.monotonic() + LONGEST_WAIT_SECONDS
    while len(creators.statuses) < min(number, REQUESTS):
        assert time.monotonic() < last, f"{len(creators.statuses)} responses only"
        time.sleep(0.01)


def _assert_everything_visible_is_whole(api: Caller, project: Json) -> None:
    """Lists show what belongs together: each entity with its parts, and one record of its making."""
    owner = {"project_id": project["id"]}
    projects = api.all("/projects")
    for one in projects:
        environments = api.get("/environments", project_id=one["id"], per_page=100)
        assert {"production", "development"} <= {environment["key"] for environment in environments}
    records = [one["entity"] for one in api.all("/changes", **owner) if one["change_type"] == "create"]
    made = [(one["type"], one["id"]) for one in records]
    assert len(set(made)) == len(made)
    for kind in ("experiment", "feature", "attribute", "audience"):
        entities = api.all(f"/{kind}s", **owner)
        assert {one["id"] for one in entities} == {number for name, number in made if name == kind}
        for one in entities:
            if kind == "experiment":
                assert (one["status"], len(one["variations"])) == ("running", 2)
                assert api.get(f"/campaigns/{one['campaign_id']}")["status"] == "running"
            if kind == "feature":
                assert one["environments"].keys() == {"production", "development"}
                assert len(one["variables"]) == 1
