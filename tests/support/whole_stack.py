"""The whole product as processes, the gateway with two workers and the three services, and callers of it over HTTP."""

import contextlib
import hashlib
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.support.ports import free_port
from tests.support.real_services import AS_GATEWAY, KEY, NOWHERE, running_services
from tests.support.serving import serve

Json = dict[str, Any]
TIMEOUT_SECONDS = 60  # the first request waits for the start of a worker
SOON_SECONDS = 20


class Caller:
    """A program that calls the API with the token of its account, and insists on the status that it expects."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        """The body of the response to GET; without one, None."""
        return self.call("GET", path, status, params=query)

    def post(self, path: str, body: Json, status: int = 201, **query: Any) -> Any:
        """The body of the response to POST: by default a new entity."""
        return self.call("POST", path, status, json=body, params=query)

    def patch(self, path: str, body: Json, status: int = 200, **query: Any) -> Any:
        """The body of the response to PATCH: by default the whole entity."""
        return self.call("PATCH", path, status, json=body, params=query)

    def delete(self, path: str, status: int = 204) -> Any:
        """The body of the response to DELETE: by default none."""
        return self.call("DELETE", path, status)

    def call(self, method: str, path: str, status: int, **options: Any) -> Any:
        """The body of the response, parsed where it is JSON; AssertionError when its status is another."""
        response = self.send(method, path, **options)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        return parsed(response)

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """The response, whatever its status."""
        return self.session.request(method, f"{self.url}/v2{path}", timeout=TIMEOUT_SECONDS, **options)

    def all(self, path: str, **query: Any) -> list[Json]:
        """Every item of a list: the pages to which `Link` leads."""
        items, url = [], f"{self.url}/v2{path}"
        response = self.session.get(url, params={"per_page": 100, **query}, timeout=TIMEOUT_SECONDS)
        while True:
            assert response.status_code == 200, response.text
            items += response.json()
            following = response.links.get("next")
            if following is None:
                return items
            response = self.session.get(following["url"], timeout=TIMEOUT_SECONDS)

    def serves(self, path: str) -> bool:
        """Whether the operation at this address is there: those of the public API that are not are a 501."""
        return self.send("GET", path).status_code != 501

    def send_events(self, body: Json) -> None:
        """Send a batch of events as an SDK does: to the gateway, without a token."""
        response = requests.post(f"{self.url}/v1/events", json=body, timeout=TIMEOUT_SECONDS)
        assert response.status_code == 204, response.text


@dataclass(frozen=True)
class WholeStack:
    """A running product: where the gateway and the services listen, and the folder of their logs."""

    url: str
    services: Mapping[str, str]
    folder: Path

    def new_account(self) -> Caller:
        """A caller with a token of a new account."""
        token = f"2:{secrets.token_urlsafe(37)}"
        account = self._made("/accounts", name="Account")
        sha256 = hashlib.sha256(token.encode()).hexdigest()
        self._made(f"/accounts/{account['id']}/tokens", name="token", token_sha256=sha256)
        return Caller(self.url, token)

    def _made(self, path: str, **body: Any) -> Json:
        url = self.services["projects"] + path
        response = requests.post(url, json=body, headers=AS_GATEWAY, timeout=TIMEOUT_SECONDS)
        assert response.status_code == 201, response.text
        made: Json = response.json()
        return made


@contextlib.contextmanager
def whole_stack(
    folder: Path, databases: Mapping[str, str] = NOWHERE, **settings: str
) -> Iterator[WholeStack]:
    """Run everything until the block ends; `databases` as for the services, `settings` are the gateway's."""
    port = free_port()
    variables = {"PROJECTS_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    with running_services(folder, results_workers=1, databases=databases, variables=variables) as services:
        places = {"services_key": KEY, **{f"{name}_url": url for name, url in services.items()}}
        with serve("main", {**places, **settings}, folder / "gateway.log", port=port) as gateway:
            yield WholeStack(gateway.url, services, folder)


def parsed(response: requests.Response) -> Any:
    """The JSON of the body, its text where it is something else, None where there is no body."""
    if not response.content:
        return None
    is_json = response.headers["Content-Type"].startswith("application/json")
    return response.json() if is_json else response.text


def batch_of_events(experiment: Json, account_id: int, visitors: list[Json]) -> Json:
    """A batch as SDKs send it."""
    return {
        "account_id": str(account_id),
        "project_id": str(experiment["project_id"]),
        "client_name": "python-sdk",
        "client_version": "5.2.0",
        "anonymize_ip": True,
        "enrich_decisions": True,
        "visitors": visitors,
    }


def visitor(experiment: Json, variation: Json, *conversions: Json, visitor_id: str = "") -> Json:
    """A visitor who was assigned the variation and then caused the events, all of them now."""
    decision = {
        "campaign_id": str(experiment["campaign_id"]),
        "experiment_id": str(experiment["id"]),
        "variation_id": str(variation["variation_id"]),
    }
    activated = _event(experiment["campaign_id"], "campaign_activated")
    snapshots: list[Json] = [{"decisions": [decision], "events": [activated]}]
    snapshots += [{"events": [_event(event["id"], event["key"])]} for event in conversions]
    return {"visitor_id": visitor_id or str(uuid.uuid4()), "attributes": [], "snapshots": snapshots}


def _event(entity_id: int, key: str) -> Json:
    moment = int(time.time() * 1000)
    return {"entity_id": str(entity_id), "key": key, "uuid": str(uuid.uuid4()), "timestamp": moment}


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """What the condition returns once that is true; AssertionError when it never is."""
    last = time.monotonic() + SOON_SECONDS
    while time.monotonic() < last:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {SOON_SECONDS} seconds")
