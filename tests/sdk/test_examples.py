"""The programs of docs/datafiles.md, run as they are printed: they decide here, and send their events here."""

from __future__ import annotations

import re
import subprocess
import time

import pytest

from tests.sdk.conftest import COMMANDS, SOON_SECONDS, Api
from tests.support.serving import ROOT

pytestmark = [pytest.mark.registries, pytest.mark.slow]

# What follows an example: a visitor enters the experiment, and the client sends what it holds back.
VISIT = {
    "python": 'print(client.activate("checkout", "ada"))\nclient.close()\n',
    "javascript": """
await client.onReady();
console.log(client.activate("checkout", "ada"));
await client.flushImmediately();
await client.close();
""",
}
SDK = {"python": "python 5", "javascript": "javascript 6"}


def example(language: str, url: str, sdk_key: str) -> str:
    page = (ROOT / "docs" / "datafiles.md").read_text(encoding="utf-8")
    (program,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return program.replace("https://HOST", url).replace('"SDK KEY"', f'"{sdk_key}"') + VISIT[language]


def run(language: str, program: str) -> str:
    interpreter, _, *folder = COMMANDS[SDK[language]]()
    options = ["--input-type=module", "--eval"] if language == "javascript" else ["-c"]
    done = subprocess.run(
        [interpreter, *options, program],
        cwd=next(iter(folder), None),  # Node looks for packages there
        capture_output=True,
        text=True,
        timeout=SOON_SECONDS,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("language", VISIT)
def test_results_count_a_visitor_of_the_example(api: Api, language: str) -> None:
    project = api.project()
    variations = [{"key": key, "weight": 5000} for key in ("control", "treatment")]
    experiment = api.made("/experiments", project_id=project["id"], key="checkout", variations=variations)
    address = f"/experiments/{experiment['id']}"
    api.patched(f"{address}?action=start")

    entered = run(
        language, example(language, api.url, project["environments"]["production"]["datafile"]["sdk_key"])
    )

    assert entered in ("control", "treatment")
    last = time.monotonic() + SOON_SECONDS
    while api.session.get(f"{api.url}/v2{address}/results").status_code == 204 and time.monotonic() < last:
        time.sleep(0.1)
    assert api.got(f"{address}/results")["reach"]["total_count"] == 1
