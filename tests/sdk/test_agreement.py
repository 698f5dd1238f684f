"""The SDKs and a reading of the datafile without any give each user the same, whatever the project.

    WHOLE_SIMULATIONS=1 pytest tests/sdk/test_agreement.py -m whole -s

runs 30 projects and 100,000 users. `SEED` in the environment chooses other projects.
"""

from __future__ import annotations

import json
import os
import random
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.conftest import Api
from tests.sdk.driven import Driven
from tests.sdk.random_projects import MATCHES, RandomProject
from tests.sdk.reader import Reader, murmur3

pytestmark = pytest.mark.registries


@pytest.mark.parametrize(
    ("projects", "users"),
    [
        pytest.param(2, 800, marks=pytest.mark.slow, id="a few"),
        pytest.param(30, 100_000, marks=pytest.mark.whole, id="many"),
    ],
)
def test_every_user_gets_the_same_from_the_sdks_and_without(
    api: Api, sdks: list[Driven], tmp_path: Path, projects: int, users: int
) -> None:
    seed = os.environ.get("SEED") or secrets.token_hex(4)
    print(f"\nSEED={seed}")
    outcomes: Counter[str] = Counter()
    matches: set[str | None] = set()
    for number in range(projects):
        project = RandomProject(api, random.Random(f"{seed} {number}"))
        matches |= project.matches
        compare(api, sdks, tmp_path, project, users // projects + 1, outcomes)
    print(f"{projects} projects, {outcomes.pop('users')} users: {dict(outcomes)}, {len(matches)} match types")
    assert outcomes["in an experiment"] > users / 10
    assert outcomes["with a flag"] > users / 10
    if projects > 10:
        assert matches == set(MATCHES)


def compare(
    api: Api,
    sdks: list[Driven],
    folder: Path,
    project: RandomProject,
    count: int,
    outcomes: Counter[str],
) -> None:
    """Compare what each user of a project gets."""
    datafile = api.datafile(project.environment)
    path = folder / "datafile.json"
    path.write_text(json.dumps(datafile))
    reader = Reader(datafile)
    experiments = [one["key"] for one in reader.experiments]
    flags = [one["key"] for one in datafile["featureFlags"]]
    users = project.users(count)
    for sdk in sdks:
        assert sdk.answer(do="load", file=str(path)) == datafile["revision"]
        sdk.start_deciding(users, experiments, flags)
    expected: list[Any] = [reader.decide(user) for user in users]
    for sdk in sdks:
        for user, mine, theirs in zip(users, expected, sdk.decided(), strict=True):
            assert theirs == mine, f"{sdk.name} SDK, {user}, datafile {datafile}"
    outcomes["users"] += count
    outcomes["in an experiment"] += sum(any(one["experiments"].values()) for one in expected)
    outcomes["with a flag"] += sum(any(flag[2] for flag in one["flags"].values()) for one in expected)


@pytest.mark.parametrize(
    ("text", "bucket"),
    [
        ("ppid11886780721", 5254),
        ("ppid21886780721", 4299),
        ("ppid21886780722", 2434),
        ("ppid31886780721", 5439),
    ],
)
def test_the_reader_hashes_as_sdks_do(text: str, bucket: int) -> None:
    assert murmur3(text) * 10_000 // 2**32 == bucket
