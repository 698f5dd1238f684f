"""schemathesis attacks the running gateway from its own contract, all checks on."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.serving import ROOT

pytestmark = pytest.mark.slow

SEED = "20261123"


def test_no_server_error_no_undeclared_status_and_no_body_off_contract(stack, tmp_path):
    entities = {
        "project_id": _ids(stack, "/v2/projects"),
        "experiment_id": _ids(stack, "/v2/experiments"),
        "campaign_id": [
            number
            for project in _ids(stack, "/v2/projects")
            for number in _ids(stack, f"/v2/campaigns?project_id={project}")
        ],
        "event_id": [
            number
            for project in _ids(stack, "/v2/projects")
            for number in _ids(stack, f"/v2/events?project_id={project}")
        ],
    }
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{stack.url}/v2/swagger.json"),
        *("--url", f"{stack.url}/v2", "--header", f"Authorization: Bearer {stack.token}"),
        *("--checks", "all", "--max-examples", "30", "--seed", SEED, "--no-color"),
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
    assert "10 selected / 10 total" in done.stdout


def _ids(stack, path):
    return [entity["id"] for entity in stack.get(path).json()]
