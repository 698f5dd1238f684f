"""`optimizely-api demo traffic`: visitors of the demo's running experiments, whose results move."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimizely_api.demo import story
from tests.support.whole_stack import Caller, Json, whole_stack

EXPERIMENT = next(one for one in story.SHOP.experiments if one.key == story.HEADLINE)
SENT = re.compile(r"([\d,]+) visitors, ([\d,]+) conversions")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with whole_stack(tmp_path_factory.mktemp("traffic")) as stack:
        caller = stack.new_account()
        yield caller
        caller.session.close()


def traffic(api: Caller, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "optimizely_api.cli", "demo", "traffic"]
    command += ["--url", api.url, "--token", api.token, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def experiment_of_the_demo(api: Caller) -> Json:
    """One of the demo's experiments, with the events that its visitors cause."""
    project = api.post("/projects", {"name": story.SHOP.name, "platform": "custom"})
    events = {
        event.key: api.post(
            f"/projects/{project['id']}/custom_events", {"key": event.key, "name": event.name}
        )
        for event in story.SHOP.events
    }
    made: Json = api.post(
        "/experiments",
        {
            "project_id": project["id"],
            "key": EXPERIMENT.key,
            "name": EXPERIMENT.name,
            "variations": [
                {"key": f"v{n}", "name": name, "weight": 5000} for n, name in enumerate(EXPERIMENT.variations)
            ],
            "metrics": [{"event_id": events[story.VIEWED]["id"], "aggregator": "count", "scope": "visitor"}],
        },
    )
    return made


def test_the_command_says_so_when_none_of_the_demos_experiments_runs(api: Caller) -> None:
    ended = traffic(api, "--seconds", "1")
    assert ended.returncode == 1
    assert "None of the demo's experiments runs" in ended.stderr


def test_results_show_the_visitors_that_were_sent(api: Caller, tmp_path: Path) -> None:
    experiment = experiment_of_the_demo(api)
    api.patch(f"/experiments/{experiment['id']}", {}, action="start")
    ended = traffic(api, "--rate", "100", "--seconds", "3")
    assert ended.returncode == 0, ended.stderr
    assert EXPERIMENT.key in ended.stdout
    *_, (visitors, conversions) = SENT.findall(ended.stdout)
    results = api.get(f"/experiments/{experiment['id']}/results")
    assert results["reach"]["total_count"] == int(visitors.replace(",", "")) > 100
    assert int(conversions.replace(",", "")) > 10
    assert sum(one["value"] for one in results["metrics"][0]["results"].values()) > 0


def test_one_line_when_no_gateway_answers() -> None:
    ended = traffic(Caller("http://127.0.0.1:9", "2:token"))
    assert ended.returncode == 1
    assert "GET http://127.0.0.1:9/v2/projects" in ended.stderr
    assert "Traceback" not in ended.stderr
