"""A visitor leaves the whitelists of an account, and its history of changes."""

from __future__ import annotations

from typing import Any

from tests.services.conftest import Caller
from tests.services.test_experiments import OWNER, make, patched

ANN = "ann/?&=ä@shop.example"
WHERE = {"account_id": OWNER["account_id"], "user_id": ANN}


async def named(experiments: Caller, *user_ids: str, **given: Any) -> Any:
    """A new experiment whose whitelist has these visitors."""
    made = await make(experiments, **given)
    variation_id = made["variations"][0]["variation_id"]
    whitelist = [{"user_id": user_id, "variation_id": variation_id} for user_id in user_ids]
    return await patched(experiments, made, whitelist=whitelist)


async def whitelisted(experiments: Caller, made: Any) -> list[str]:
    return [
        entry["user_id"] for entry in (await experiments.get(f"/experiments/{made['id']}"))[1]["whitelist"]
    ]


async def test_200_the_entries_of_a_visitor_with_their_experiments(experiments: Caller) -> None:
    first = await named(experiments, ANN, "ben", key="first")
    await named(experiments, "ben", key="second")
    await named(experiments, ANN, key="third", account_id=12, project_id=23)
    entry = {**first["whitelist"][0], "experiment_id": first["id"], "project_id": OWNER["project_id"]}
    assert await experiments.get("/whitelists", params=WHERE) == (200, {"items": [entry]})


async def test_204_the_visitor_is_in_no_whitelist_of_the_account_and_others_stay(experiments: Caller) -> None:
    running = await named(experiments, ANN, "ben", key="running")
    archived = await named(experiments, ANN, key="archived")
    elsewhere = await named(experiments, ANN, key="third", account_id=12, project_id=23)
    assert await experiments.delete(f"/experiments/{archived['id']}") == (204, None)
    assert await experiments.delete("/whitelists", params=WHERE) == (204, None)
    assert await whitelisted(experiments, running) == ["ben"]
    assert await whitelisted(experiments, archived) == []
    assert await whitelisted(experiments, elsewhere) == [ANN]
    assert await experiments.delete("/whitelists", params=WHERE) == (204, None)  # once more


async def test_the_history_keeps_the_fact_and_not_the_id(experiments: Caller) -> None:
    made = await named(experiments, ANN, "ben")
    await experiments.delete("/whitelists", params=WHERE)
    records = (await experiments.get(f"/changes?entity=experiment:{made['id']}"))[1]["items"]
    variation_id = made["variations"][0]["variation_id"]
    both, one = (
        [{"user_id": user_id, "variation_id": variation_id} for user_id in user_ids]
        for user_ids in (["erased", "ben"], ["ben"])
    )
    changed = {"property": "whitelist", "description": "Changed whitelist", "before": both, "after": one}
    assert records[0]["changes"] == [changed]
    assert records[1]["changes"][0]["after"] == both
    assert ANN not in str(records)


async def test_400_without_the_account_or_the_visitor(experiments: Caller) -> None:
    for name in WHERE:
        query = {key: value for key, value in WHERE.items() if key != name}
        assert (await experiments.delete("/whitelists", params=query))[0] == 400
        assert (await experiments.get("/whitelists", params=query))[0] == 400
