"""schemathesis attacks the running gateway from its own contract, all checks on."""

import json
import os
import subprocess
import sys

import pytest

from optimizely_api.contract import load
from tests.conftest import WHOLE
from tests.support.serving import ROOT

pytestmark = pytest.mark.slow

SEED = "20261123"
# Of an operation and phase. The phase of the contract's edges has its own number: 11,000 requests in any case.
EXAMPLES = "100" if WHOLE else "1"
# Kinds of entities that a project has, with a body for those of which the demo has none.
KINDS = {
    "campaign": {},
    "event": {},
    "attribute": {"key": "plan"},
    "page": {"name": "Home", "edit_url": "https://shop.example/"},
    "audience": {"name": "Everybody"},
    "extension": {
        "name": "Banner",
        "edit_url": "https://shop.example/",
        "implementation": {"html": "<p></p>"},
    },
    "list_attribute": {"name": "Codes", "key_field": "code", "list_content": "a,b"},
    "feature": {"key": "checkout"},
    "group": {"name": "Exclusive"},
    "environment": {"key": "staging", "name": "Staging"},
}


def test_no_server_error_no_undeclared_status_and_no_body_off_contract(stack, tmp_path):
    projects = _ids(stack, "/v2/projects")
    entities = {"project_id": projects, "experiment_id": _ids(stack, "/v2/experiments")}
    for kind, body in KINDS.items():
        if body:
            made = stack.post(f"/v2/{kind}s", {**body, "project_id": projects[0]})
            assert made.status_code == 201, made.text
        entities[f"{kind}_id"] = [
            number for project in projects for number in _ids(stack, f"/v2/{kind}s?project_id={project}")
        ]
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{stack.url}/v2/swagger.json"),
        *("--url", f"{stack.url}/v2", "--header", f"Authorization: Bearer {stack.token}"),
        *("--checks", "all", "--max-examples", EXAMPLES, "--seed", SEED, "--no-color"),
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={
            **os.environ,
            "ENTITIES": json.dumps(entities),
            "SCHEMATHESIS_HOOKS": "tests.system.schemathesis_hooks",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-2000:]
    operations = len(load().operations)
    assert f"{operations} selected / {operations} total" in done.stdout


def _ids(stack, path):
    return [entity["id"] for entity in stack.get(path).json()]
