"""Groups in the experiments service that are changed by several callers at once, on each of the two databases."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.services.conftest import Caller

OWNER = {"account_id": 11, "project_id": 22}
ROUNDS = 5


async def members(experiments: Caller, count: int) -> list[dict[str, Any]]:
    made = [await experiments.made("/experiments", OWNER) for _ in range(count)]
    return [{"kind": "Experiment", "id": one["id"], "weight": 100} for one in made]


async def test_200_for_changes_of_several_groups_of_a_project_at_once(experiments: Caller) -> None:
    groups = [await experiments.made("/groups", {**OWNER, "name": f"Group {n}"}) for n in range(4)]
    for _ in range(ROUNDS):
        new = await members(experiments, len(groups))
        changes = [
            experiments.patch(f"/groups/{group['id']}", {"entities": [member]})
            for group, member in zip(groups, new, strict=True)
        ]
        answers = await asyncio.gather(*changes)
        assert [(status, body.get("code")) for status, body in answers] == [(200, None)] * len(groups)


async def test_400_for_all_but_one_group_that_takes_the_same_experiment_at_once(experiments: Caller) -> None:
    groups = [await experiments.made("/groups", {**OWNER, "name": f"Group {n}"}) for n in range(4)]
    (member,) = await members(experiments, 1)
    answers = await asyncio.gather(
        *(experiments.patch(f"/groups/{group['id']}", {"entities": [member]}) for group in groups)
    )
    assert sorted(status for status, _ in answers) == [200, 400, 400, 400]
