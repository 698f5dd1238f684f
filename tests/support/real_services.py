"""The three services as processes, each on a database of its own, and what a test writes into them."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from optimizely_api.contract.times import format_time
from tests.support import samples
from tests.support.ports import free_port

NAMES = ("projects", "experiments", "results")
KEY = samples.SERVICES_KEY
AS_GATEWAY = {"Authorization": f"Bearer {KEY}"}
LONGEST_START_SECONDS = 60
NOWHERE: Mapping[str, str] = {}
ADDRESS = {"edit_url": "https://shop.example/"}  # where experiments run
CALLED = {"PROJECTS_PRIVATE_WEBHOOKS": "on"}  # receivers are on this machine


class RealServices:
    """Running services with an account, a project, an event and a running experiment of two variations."""

    def __init__(self, urls: dict[str, str], folder: Path) -> None:
        self.urls, self.folder = urls, folder
        self._session = requests.Session()
        self._session.headers.update(AS_GATEWAY)
        self.account_id = self.made("projects", "/accounts", name="Account")["id"]
        sha256 = samples.token()["token_sha256"]
        self.made("projects", f"/accounts/{self.account_id}/tokens", name="token", token_sha256=sha256)
        self.other_account_id = self.made("projects", "/accounts", name="Another account")["id"]
        sha256 = samples.token(samples.OTHER_TOKEN)["token_sha256"]
        self.made("projects", f"/accounts/{self.other_account_id}/tokens", name="token", token_sha256=sha256)
        project = self.made("projects", "/projects", account_id=self.account_id, name="Shop")
        owner = {"account_id": self.account_id, "project_id": project["id"]}
        event = self.made("experiments", "/events", **owner, key="order", name="Order", event_type="custom")
        self.experiment = self.made(
            "experiments",
            "/experiments?action=start&at=" + _text(datetime.now(UTC) - timedelta(days=2)),
            **owner,
            key="button",
            name="Button",
            url_targeting=ADDRESS,
            variations=[{"key": key, "name": key, "weight": 5000} for key in ("green", "blue")],
            metrics=[{"aggregator": "unique", "event_id": event["id"], "scope": "visitor"}],
        )
        environment = self.made("projects", "/environments", **owner, key="qa", name="QA")
        url, secret = "https://hooks.shop.example/", uuid.uuid4().hex
        webhook = self.made("projects", "/webhooks", **owner, name="Listener", url=url, secret=secret)
        self.ids = {
            "project_id": project["id"],
            "campaign_id": self.experiment["campaign_id"],
            "experiment_id": self.experiment["id"],
            "event_id": event["id"],
            "attribute_id": self.made("experiments", "/attributes", **owner, key="plan")["id"],
            "page_id": self.made(
                "experiments", "/pages", **owner, name="Home", edit_url="https://shop.example/"
            )["id"],
            "environment_id": environment["id"],
            "webhook_id": webhook["id"],
        }

    def settings(self) -> dict[str, str]:
        """The gateway's settings that lead here."""
        return {"services_key": KEY, **{f"{name}_url": url for name, url in self.urls.items()}}

    def another_project(self, **members: Any) -> Any:
        """A new project of the same account."""
        return self.made(
            "projects", "/projects", **{"account_id": self.account_id, "name": "Other", **members}
        )

    def another_experiment(self, action: str = "", **members: Any) -> Any:
        """A new experiment of two variations in the project, after `action`."""
        owner = {"account_id": self.account_id, "project_id": self.ids["project_id"]}
        variations = [{"key": key, "name": key, "weight": 5000} for key in ("green", "blue")]
        where = {} if {"page_ids", "campaign_id"} & members.keys() else {"url_targeting": ADDRESS}
        body = {**owner, "name": "Another", "variations": variations, **where, **members}
        return self.made("experiments", f"/experiments?action={action}", **body)

    def act(self, experiment_id: int, action: str) -> None:
        """Start, pause, ... or `archive` an experiment."""
        url = f"{self.urls['experiments']}/experiments/{experiment_id}"
        if action == "archive":
            answer = self._session.delete(url, timeout=30)
        else:
            answer = self._session.patch(url, params={"action": action}, json={}, timeout=30)
        assert answer.ok, answer.text

    def rows(self, service: str, query: str, *values: Any) -> list[Any]:
        """What the service's database answers to an SQL query."""
        with contextlib.closing(sqlite3.connect(self.folder / f"{service}.sqlite3")) as connection:
            return connection.execute(query, values).fetchall()

    def send_visitors(self, count: int, at: datetime) -> list[str]:
        """One batch of visitors who decide, and every second of whom converts, at this moment: 1.5 events each.

        Returns the visitors' ids.
        """
        moment = int(at.timestamp() * 1000)
        visitors = [self._visitor(number, moment) for number in range(count)]
        body = {
            "account_id": str(self.account_id),
            "project_id": str(self.ids["project_id"]),
            "client_name": "test",
            "client_version": "1",
            "anonymize_ip": True,
            "enrich_decisions": True,
            "visitors": visitors,
        }
        answer = requests.post(self.urls["results"] + "/v1/events", json=body, headers=AS_GATEWAY, timeout=30)
        assert answer.status_code == 204, answer.text
        return [visitor["visitor_id"] for visitor in visitors]

    def _visitor(self, number: int, moment: int) -> dict[str, Any]:
        variations = self.experiment["variations"]
        decision = {
            "campaign_id": str(self.ids["campaign_id"]),
            "experiment_id": str(self.ids["experiment_id"]),
            "variation_id": str(variations[number % len(variations)]["variation_id"]),
        }
        activated = _event(self.ids["campaign_id"], "campaign_activated", moment)
        snapshots = [{"decisions": [decision], "events": [activated]}]
        if number % 2:
            snapshots.append({"events": [_event(self.ids["event_id"], "order", moment)]})
        return {"visitor_id": str(uuid.uuid4()), "attributes": [], "snapshots": snapshots}

    def made(self, service: str, path: str, **body: Any) -> Any:
        answer = self._session.post(self.urls[service] + path, json=body, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def archived(self, service: str, path: str) -> None:
        answer = self._session.delete(self.urls[service] + path, timeout=30)
        assert answer.status_code == 204, answer.text


def _event(entity_id: int, key: str, moment: int) -> dict[str, Any]:
    return {"entity_id": str(entity_id), "key": key, "uuid": str(uuid.uuid4()), "timestamp": moment}


def _text(moment: datetime) -> str:
    return format_time(moment)


@contextlib.contextmanager
def real_services(folder: Path, *, results_workers: int = 2) -> Iterator[RealServices]:
    """Run the services until the block ends, with their databases and logs in `folder`."""
    with running_services(folder, results_workers=results_workers) as urls:
        yield RealServices(urls, folder)


@contextlib.contextmanager
def running_services(
    folder: Path,
    *,
    results_workers: int = 2,
    databases: Mapping[str, str] = NOWHERE,
    variables: Mapping[str, str] = NOWHERE,
) -> Iterator[dict[str, str]]:
    """The URLs of the services, which run until the block ends, with their logs in `folder`.

    `databases` are the URLs of their databases; without one, a service has an SQLite file in `folder`. `variables` are
    further ones of the environment.
    """
    ports = {name: free_port() for name in NAMES}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    addresses = {f"OPTIMIZELY_API_{name.upper()}_URL": urls[name] for name in ("projects", "experiments")}
    variables = {**CALLED, **addresses, **variables}
    with contextlib.ExitStack() as stack:
        for name, port in ports.items():
            workers = results_workers if name == "results" else 1
            stack.enter_context(service(name, port, folder, workers, databases.get(name, ""), variables))
        for name in NAMES:
            wait_until_listening(urls[name], folder / f"{name}.log")
        yield urls


@contextlib.contextmanager
def service(
    name: str,
    port: int,
    folder: Path,
    workers: int = 1,
    database: str = "",
    variables: Mapping[str, str] = NOWHERE,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process of one service, which has ended when the block is left."""
    command = [sys.executable, "-m", "optimizely_api.cli", "service", name]
    command += ["--port", str(port), "--workers", str(workers)]
    environment = {**os.environ, "OPTIMIZELY_API_DATA_DIR": str(folder), "SERVICES_KEY": KEY, **variables}
    environment |= {f"{name.upper()}_DATABASE_URL": database} if database else {}
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def wait_until_listening(url: str, log: Path) -> None:
    """Return once the service at `url` answers; AssertionError with its log when it does not start."""
    last = time.monotonic() + LONGEST_START_SECONDS
    while time.monotonic() < last:
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(url + "/healthz", timeout=5).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"{url} does not answer:\n{log.read_text()}")
