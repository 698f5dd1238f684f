"""The official SDKs in front of the whole stack: services as processes, and the gateway under gunicorn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import requests

from tests.sdk.driven import Driven, driven
from tests.sdk.installed import node_driver, python_driver
from tests.support.asserting import AUTHORIZED
from tests.support.real_services import RealServices
from tests.support.serving import serve

COMMANDS: dict[str, Callable[[], list[str]]] = {
    "python 5": partial(python_driver, "optimizely-sdk==5.7.0"),
    "python 4": partial(python_driver, "optimizely-sdk==4.1.1"),
    "javascript 6": partial(node_driver, "javascript.mjs", "@optimizely/optimizely-sdk@6.6.1"),
    "express": partial(node_driver, "express.mjs", "@optimizely/express@0.2.1"),
}
# The middleware for Express cannot tell by which rule a feature is on.
AGREEING = ("python 5", "python 4", "javascript 6")
SOON_SECONDS = 60  # the first request waits for the start of a worker


class Api:
    """A caller of the API over HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.headers.update(AUTHORIZED)

    def call(self, method: str, path: str, status: int, **options: Any) -> Any:
        """One request; returns its JSON."""
        response = self.session.request(method, f"{self.url}{path}", timeout=SOON_SECONDS, **options)
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    def made(self, path: str, **body: Any) -> Any:
        """POST, and insist on 201."""
        return self.call("POST", f"/v2{path}", 201, json=body)

    def patched(self, path: str, **body: Any) -> Any:
        """PATCH, and insist on 200."""
        return self.call("PATCH", f"/v2{path}", 200, json=body)

    def got(self, path: str) -> Any:
        """GET, and insist on 200."""
        return self.call("GET", f"/v2{path}", 200)

    def project(self) -> Any:
        """A new project for SDKs, with its environments by key."""
        project = self.made("/projects", name="Shop", platform="custom")
        return {**project, "environments": self.environments(project["id"])}

    def environments(self, project_id: int) -> dict[str, Any]:
        """The environments of a project by key."""
        return {one["key"]: one for one in self.got(f"/environments?project_id={project_id}")}

    def revision(self, environment: Any) -> int:
        """The revision of the datafile that is served."""
        return int(self.got(f"/environments/{environment['id']}")["datafile"]["revision"])

    def datafile(self, environment: Any) -> Any:
        """The datafile that SDKs get."""
        return self.call("GET", f"/datafiles/{environment['datafile']['sdk_key']}.json", 200)


@pytest.fixture(scope="package")
def api(real_stack: RealServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API as callers reach it."""
    log = tmp_path_factory.mktemp("gateway") / "log"
    with serve("main", real_stack.settings(), log) as gateway:
        yield Api(gateway.url)


@pytest.fixture(params=COMMANDS)
def sdk(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Driven]:
    """Each SDK in turn."""
    with driven(request.param, COMMANDS[request.param](), tmp_path) as running:
        yield running


@pytest.fixture
def sdks(tmp_path: Any) -> Iterator[list[Driven]]:
    """Several SDKs at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(driven(name, COMMANDS[name](), tmp_path)) for name in AGREEING]
