"""What a stranger meets who types `make run`."""

import contextlib
import json
import socket
import sqlite3
import stat
import subprocess
import time
import uuid

import psutil
import pytest
import requests

from tests.support.serving import ROOT
from tests.system.conftest import start, stop

pytestmark = pytest.mark.slow


def test_the_printed_request_answers_with_the_results_of_a_real_experiment(stack):
    done = subprocess.run(["sh", "-c", stack.curl], capture_output=True, text=True, check=True)
    assert f'\n    "experiment_id": {stack.experiment_id},\n' in done.stdout


def test_the_sample_answer_of_the_readme_is_what_comes(stack):
    after = (ROOT / "README.md").read_text().partition("| python3 -m json.tool\n")[2]
    sample, _ = json.JSONDecoder().raw_decode(after.strip())
    real = stack.get(f"/v2/experiments/{stack.experiment_id}/results").json()
    assert_like(sample, real)


def assert_like(sample, real):
    """Every member of the sample is a member of the answer, of the same type; the sample may leave some out."""
    if isinstance(sample, dict):
        assert sample.keys() <= real.keys()
        for key, value in sample.items():
            assert_like(value, real[key])
    elif isinstance(sample, list):
        for one, other in zip(sample, real, strict=False):
            assert_like(one, other)
    else:
        assert type(sample) is type(real)


def test_the_experiment_has_a_winner_computed_from_its_events(stack):
    body = stack.get(f"/v2/experiments/{stack.experiment_id}/results").json()
    conclusions = [metric["conclusion"] for metric in body["metrics"]]
    assert conclusions[0].get("winner")
    for metric in body["metrics"]:
        for variant in metric["results"].values():
            assert variant["rate"] == pytest.approx(variant["value"] / variant["samples"])
    counts = [reach["count"] for reach in body["reach"]["variations"].values()]
    assert sum(counts) == body["reach"]["total_count"] > 1000


def test_there_are_three_projects_and_thirteen_experiments_in_all_states(stack):
    assert len(stack.get("/v2/projects").json()) == 3
    experiments = stack.get("/v2/experiments?per_page=100").json()
    assert len(experiments) == 13
    assert {experiment["status"] for experiment in experiments} == {
        "running",
        "paused",
        "archived",
        "campaign_paused",
        "concluded",
        "not_started",
    }


def test_every_operation_answers_about_everything_there_is(stack):
    projects = stack.get("/v2/projects").json()
    paths = [f"/v2/projects/{project['id']}" for project in projects]
    for project in projects:
        query = f"project_id={project['id']}&per_page=100"
        experiments, events = (stack.get(f"/v2/{kind}?{query}").json() for kind in ("experiments", "events"))
        # The campaign of a single experiment is not listed, and there all the same.
        campaign_ids = {experiment["campaign_id"] for experiment in experiments}
        listed = {campaign["id"] for campaign in stack.get(f"/v2/campaigns?{query}").json()}
        assert listed <= campaign_ids
        paths += [f"/v2/events/{event['id']}" for event in events]
        for kind, ids in (("experiments", [one["id"] for one in experiments]), ("campaigns", campaign_ids)):
            paths += [f"/v2/{kind}/{number}{what}" for number in ids for what in ("", "/results")]
    answers = {path: stack.get(path).status_code for path in paths}
    assert len(answers) > 40
    assert {path: status for path, status in answers.items() if status not in (200, 204)} == {}


def test_nobody_calls_a_service_without_the_key_that_it_has_made(stack):
    file = stack.folder / "services.key"
    key = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for name, path, status in (
        ("PROJECTS_PORT", "/accounts", 200),
        ("EXPERIMENTS_PORT", "/experiments", 200),
        ("RESULTS_PORT", "/results/x", 405),
    ):
        url = f"http://127.0.0.1:{stack.ports[name]}{path}"
        assert requests.get(url, timeout=10).status_code == 401
        headers = {"Authorization": f"Bearer {key}"}
        assert requests.get(url, headers=headers, timeout=10).status_code == status
    assert key not in (stack.folder / "run.log").read_text()


def test_fresh_events_count_at_once(stack):
    before = _reach(stack)
    experiment = stack.get(f"/v2/experiments/{stack.experiment_id}").json()
    decision = {
        "campaign_id": str(experiment["campaign_id"]),
        "experiment_id": str(experiment["id"]),
        "variation_id": str(experiment["variations"][0]["variation_id"]),
    }
    now = int(time.time() * 1000)
    event = {
        "entity_id": str(experiment["campaign_id"]),
        "key": "campaign_activated",
        "timestamp": now,
    }
    visitor = {"snapshots": [{"decisions": [decision], "events": [event]}]}
    batch = {"account_id": "1", "project_id": str(experiment["project_id"]), "visitors": [visitor]}
    for url in (stack.url, f"http://127.0.0.1:{stack.ports['EVENTS_PORT']}"):
        event["uuid"], visitor["visitor_id"] = str(uuid.uuid4()), f"a-new-visitor-of-{url}"
        sent = requests.post(f"{url}/v1/events", json=batch, timeout=10)
        assert sent.status_code == 204
    assert _reach(stack) == before + 2


def _reach(stack):
    return stack.get(f"/v2/experiments/{stack.experiment_id}/results").json()["reach"]["total_count"]


def test_a_second_start_loads_nothing_and_ctrl_c_leaves_nothing_behind(stack, tmp_path):
    for file in stack.folder.glob("*.sqlite3"):  # loaded once, by the first start
        with (
            contextlib.closing(sqlite3.connect(file)) as first,
            contextlib.closing(sqlite3.connect(tmp_path / file.name)) as second,
        ):
            first.backup(second)
    again = start(tmp_path)
    family = psutil.Process(again.process.pid).children(recursive=True)
    assert not [line for line in again.printed if "of 50,000 visitors" in line]
    assert stop(again) == 0
    _gone, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    for port in again.ports.values():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
