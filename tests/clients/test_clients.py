"""Published clients of the API, unmodified, against everything running: Python and Node.

What a client does stands in its `drive_` file, a program of a user of it.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimizely_api.contract import load
from tests.clients import installed
from tests.support.whole_stack import Caller, WholeStack, whole_stack

HERE = Path(__file__).parent
LONGEST_RUN_SECONDS = 120


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    with whole_stack(tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.fixture
def api(stack: WholeStack) -> Iterator[Caller]:
    """A caller of an account of its own, whose token the client gets."""
    caller = stack.new_account()
    yield caller
    caller.session.close()


def run_python(api: Caller, program: str, **variables: str) -> Any:
    """What the program prints, as JSON."""
    return _run([str(installed.python()), str(HERE / program)], api, **variables)


def run_node(api: Caller, program: str, **variables: str) -> Any:
    """What the program prints, as JSON."""
    modules = str(installed.node_modules())
    variables = {"NODE_MODULES": modules, "NODE_PATH": modules, **variables}
    return _run(["node", str(HERE / "node" / program)], api, **variables)


def _run(command: list[str], api: Caller, **variables: str) -> Any:
    environment = {**os.environ, "API_URL": api.url, "API_TOKEN": api.token, **variables}
    with tempfile.TemporaryDirectory() as folder:  # one client writes a log where it runs
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST_RUN_SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-1000:]
    return json.loads(done.stdout)


def test_bravado_with_all_its_validation_on(api: Caller) -> None:
    kinds = run_python(api, "drive_bravado.py")
    assert len(kinds) == 14
    assert api.get("/projects")[0]["status"] == "archived"


def test_optimizelyapi_pages_through_the_search(api: Caller) -> None:
    project_id = api.post("/projects", {"name": "Shop"})["id"]
    owner = {"project_id": project_id}
    audiences = [api.post("/audiences", {**owner, "name": f"Visitors {number}"}) for number in range(110)]
    page = api.post("/pages", {**owner, "name": "Home", "edit_url": "https://shop.example/"})
    experiment = api.post("/experiments", {**owner, "name": "Button"})
    archived = api.post("/experiments", {**owner, "name": "Old"})
    api.delete(f"/experiments/{archived['id']}")
    found = run_python(api, "drive_optimizelyapi.py", PROJECT_ID=str(project_id))
    present = [*audiences, page, experiment]
    assert sorted(entity_id for _, entity_id in found["short"]) == sorted(one["id"] for one in present)
    assert found["whole"] == sorted(one["id"] for one in [*present, archived])


def test_x_node_client_goes_through_every_kind_it_knows(api: Caller) -> None:
    assert len(run_node(api, "drive_x_node_client.cjs")) == 7
    (project,) = api.get("/projects")
    assert {one["archived"] for one in api.get("/attributes", project_id=project["id"])} == {True}


def test_mcp_server_goes_through_every_kind_it_knows(api: Caller) -> None:
    settings = {
        "OPTIMIZELY_BASE_URL": f"{api.url}/v2",
        "OPTIMIZELY_API_TOKEN": api.token,
        "OPTIMIZELY_AUTO_DISCOVER_ALL": "true",
    }
    assert len(run_node(api, "drive_mcp_server.mjs", **settings)) == 10


def test_swagger_client_goes_through_every_kind(api: Caller) -> None:
    kinds = run_node(api, "drive_swagger_client.mjs")
    assert kinds == list(json.loads((HERE / "bodies.json").read_text()))


def test_swagger_parser_finds_the_document_valid(api: Caller) -> None:
    assert set(run_node(api, "drive_swagger_parser.mjs")) == set(load().operations)
