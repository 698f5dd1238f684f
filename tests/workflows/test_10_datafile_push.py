"""Datafiles are pushed: a webhook says that there is a new one."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

from tests.support.whole_stack import Caller, Json, eventually
from tests.workflows.steps import new_project

TIMEOUT_SECONDS = 30


class Receiver:
    """A server of the user that keeps the deliveries that it gets; `is_down` answers them with 503."""

    def __init__(self) -> None:
        self.deliveries: list[tuple[dict[str, str], bytes]] = []
        self.is_down = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not receiver.is_down:
                    receiver.deliveries.append((dict(self.headers.items()), body))
                self.send_response(503 if receiver.is_down else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"


@contextmanager
def receiver() -> Iterator[Receiver]:
    receives = Receiver()
    thread = threading.Thread(target=receives.server.serve_forever)
    thread.start()
    try:
        yield receives
    finally:
        receives.server.shutdown()
        thread.join()
        receives.server.server_close()


def test_a_webhook_has_a_secret_that_is_shown_once_and_can_be_removed(api: Caller) -> None:
    project = new_project(api, "custom")
    webhook = api.post(
        f"/projects/{project['id']}/webhooks", {"name": "Agent", "url": "https://agent.example/"}
    )
    assert len(webhook["secret"]) >= 32
    shown = api.get(f"/webhooks/{webhook['id']}")
    assert "secret" not in shown
    assert shown["events"] == ["project.datafile_updated"]
    assert api.get(f"/projects/{project['id']}/webhooks") == [shown]
    api.delete(f"/webhooks/{webhook['id']}")
    api.delete(f"/webhooks/{webhook['id']}", status=404)
    assert api.get(f"/projects/{project['id']}/webhooks") == []


def test_each_change_of_a_datafile_is_delivered_once_and_signed(api: Caller) -> None:
    project = new_project(api, "custom")
    if not _datafiles_are_served(api, project):
        return
    with receiver() as receives:
        body = {"name": "Agent", "url": receives.url}
        webhook = api.post(f"/projects/{project['id']}/webhooks", body)
        api.post("/attributes", {"project_id": project["id"], "key": "plan"})
        eventually(lambda: len(receives.deliveries) == 2, "a delivery for each environment")
        for headers, content in receives.deliveries:
            _assert_signed(headers, content, webhook["secret"])
            _assert_served_already(api, json.loads(content)["data"])
        api.delete(f"/webhooks/{webhook['id']}")
        api.post("/attributes", {"project_id": project["id"], "key": "country"})
        _changed_datafile(api, project)
        assert len(receives.deliveries) == 2


def test_an_sdk_that_polls_gets_304_between_changes(api: Caller) -> None:
    project = new_project(api, "custom")
    if not _datafiles_are_served(api, project):
        return
    url = _production(api, project)["datafile"]["url"]
    first = requests.get(url, timeout=TIMEOUT_SECONDS)
    since = {"If-Modified-Since": first.headers["Last-Modified"]}
    assert requests.get(url, headers=since, timeout=TIMEOUT_SECONDS).status_code == 304
    api.post("/attributes", {"project_id": project["id"], "key": "plan"})
    eventually(
        lambda: requests.get(url, headers=since, timeout=TIMEOUT_SECONDS).status_code == 200, "a new datafile"
    )


def _production(api: Caller, project: Json) -> Json:
    environments = api.get("/environments", project_id=project["id"])
    production: Json = next(one for one in environments if one["is_primary"])
    return production


def _datafiles_are_served(api: Caller, project: Json) -> bool:
    production = _production(api, project)
    served = requests.get(production["datafile"]["url"], timeout=TIMEOUT_SECONDS)
    return served.status_code == 200 and api.serves(f"/environments/{production['id']}/datafile")


def _changed_datafile(api: Caller, project: Json) -> None:
    """Return once the datafile has the second attribute."""
    url = _production(api, project)["datafile"]["url"]
    eventually(
        lambda: len(requests.get(url, timeout=TIMEOUT_SECONDS).json()["attributes"]) == 2, "a new datafile"
    )


def _assert_signed(headers: Json, content: bytes, secret: str) -> None:
    digest = hmac.new(secret.encode(), content, hashlib.sha1).hexdigest()
    assert headers["X-Hub-Signature"] == f"sha1={digest}"


def _assert_served_already(api: Caller, data: Json) -> None:
    served = requests.get(data["cdn_url"], timeout=TIMEOUT_SECONDS)
    assert int(served.json()["revision"]) >= int(data["revision"])
