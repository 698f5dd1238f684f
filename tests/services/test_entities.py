"""Entities that are changed by several callers at once, on each of the two databases."""

from __future__ import annotations

import asyncio

from optimizely_api.http.entity_tags import version_tag
from tests.services.conftest import Caller

ATTRIBUTE = {"account_id": 11, "project_id": 22, "key": "plan", "name": "Plan"}


async def test_no_change_is_lost_to_another_of_the_same_moment(experiments: Caller) -> None:
    made = await experiments.made("/attributes", ATTRIBUTE)
    address = f"/attributes/{made['id']}"
    changes = ({"name": "Tariff"}, {"description": "What was paid for"}, {"key": "tariff"})
    answers = await asyncio.gather(*(experiments.patch(address, change) for change in changes))
    assert [status for status, _ in answers] == [200, 200, 200]
    _, found = await experiments.get(address)
    assert {name: found[name] for change in changes for name in change} == {
        "name": "Tariff",
        "description": "What was paid for",
        "key": "tariff",
    }


async def test_412_for_all_but_one_of_those_that_change_the_same_version(experiments: Caller) -> None:
    made = await experiments.made("/attributes", ATTRIBUTE)
    condition = {"If-Match": version_tag(made)}
    answers = await asyncio.gather(
        *(
            experiments.patch(f"/attributes/{made['id']}", {"name": f"Plan {number}"}, headers=condition)
            for number in range(5)
        )
    )
    assert sorted(status for status, _ in answers) == [200, 412, 412, 412, 412]
