"""Search and the history of changes in the experiments service, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from optimizely_api.services.experiments.search.endpoint import SORTS
from tests.services.conftest import Caller
from tests.services.test_experiments import OWNER, event, make, patched


def ago(**span: float) -> str:
    return f"{datetime.now(UTC) - timedelta(**span):%Y-%m-%dT%H:%M:00Z}"


async def found(experiments: Caller, query: str = "") -> list[str]:
    """The names of what is found."""
    status, body = await experiments.get(f"/search?account_id={OWNER['account_id']}&{query}")
    assert status == 200, body
    assert body["total"] == len(body["items"])
    return [item["name"] for item in body["items"]]


async def audience(experiments: Caller, number: int) -> int:
    """The id of a new audience, or the number where the service has no audiences."""
    body = {**OWNER, "name": f"Shoppers {number}"}
    status, made = await experiments.post("/audiences", body)
    return int(made["id"]) if status == 201 else number


async def running_campaign(experiments: Caller) -> Any:
    body = {**OWNER, "name": "Summer", "type": "personalization"}
    campaign = await experiments.made(f"/layers?at={ago(days=4)}", body)
    status, started = await experiments.patch(f"/layers/{campaign['id']}?action=start&at={ago(days=4)}", {})
    assert status == 200, started
    return started


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", SORTS)
async def test_every_order(experiments: Caller, sort: str, order: str) -> None:
    await event(experiments)
    await make(experiments)
    await experiments.made("/layers", {**OWNER, "name": "Summer", "type": "personalization"})
    assert sorted(await found(experiments, f"sort={sort}&order={order}")) == ["Checkout", "Summer", "buy it"]


async def test_the_states_are_those_that_schedules_have_led_to(experiments: Caller) -> None:
    schedule = {"start_time": ago(days=2), "stop_time": ago(days=1)}
    begins, begun = f"?action=start&at={ago(days=3)}", f"?action=start&at={ago(days=1.5)}"
    await make(experiments, begins, name="Started", schedule={"start_time": ago(days=2)})
    await make(experiments, begun, name="Over", schedule=schedule)
    await make(experiments, name="Waiting")
    campaign = await running_campaign(experiments)
    member: dict[str, Any] = {"campaign_id": campaign["id"], "type": "personalization"}
    await make(experiments, begins, name="Member", schedule={"start_time": ago(days=2)}, **member)
    assert sorted(await found(experiments, "status=running")) == ["Member", "Started", "Summer"]
    assert await found(experiments, "status=concluded") == ["Over"]
    assert await found(experiments, "status=not_started") == ["Waiting"]


async def test_what_runs_in_a_paused_campaign_is_paused_with_it(experiments: Caller) -> None:
    campaign = await running_campaign(experiments)
    await make(experiments, "?action=start", campaign_id=campaign["id"], type="personalization")
    await experiments.patch(f"/layers/{campaign['id']}?action=pause", {})
    assert await found(experiments, "status=campaign_paused") == ["Checkout"]
    assert await found(experiments, "status=paused") == ["Summer"]


async def test_audiences_environments_and_words(experiments: Caller) -> None:
    few, more = [await audience(experiments, number) for number in (7, 78)]
    conditions = f'["and", {{"audience_id": {few}}}, {{"audience_id": {more}}}]'
    environments = {"production": {"is_primary": True}}
    one = await make(
        experiments,
        "?action=start",
        key="flow",
        platform="custom",
        audience_conditions=conditions,
        environments=environments,
    )
    await event(experiments)
    for query in (
        f"audience_id={few}",
        f"audience_id=1&audience_id={more}",
        "environment_key=production",
        "query=CHECK+flow",
        f"query={one['id']}",
        "query=original&fullsearch=true",
        "type=experiment&type_expand=a/b",
    ):
        assert await found(experiments, query) == ["Checkout"], query
    for query in (
        f"audience_id={few * 10 + 9}",
        "environment_key=staging",
        "query=original",
        "query=_",
        "type_expand=mvt",
    ):
        assert await found(experiments, query) == [], query


async def test_changes_are_newest_first_and_filtered(experiments: Caller) -> None:
    made = await make(experiments, platform="custom", page_ids=[])
    await patched(experiments, made, "?action=start", name="Basket")
    await event(experiments)
    records = (await experiments.get(f"/changes?project_id={OWNER['project_id']}"))[1]["items"]
    assert [record["summary"] for record in records] == [
        "Created event buy",
        "Started experiment Basket",
        "Created experiment Checkout",
    ]
    for query, total in (
        (f"entity=experiment:{made['id']}&entity=event:1", 2),
        ("entity_type=event", 1),
        (f"id={records[0]['id']}&id={records[2]['id']}", 2),
        (f"start_time={records[1]['created']}&end_time={records[0]['created']}", 1),
        ("user=somebody", 0),
        ("source=api", 3),
        ("project_id=23", 0),
    ):
        assert (await experiments.get(f"/changes?{query}"))[1]["total"] == total, query


async def test_the_user_is_whom_the_gateway_names(experiments: Caller) -> None:
    body = {**OWNER, "key": "buy", "name": "Buy", "event_type": "custom"}
    await experiments.made("/events", body, headers={"X-User": "7 J%C3%BCrgen%20B"})
    await event(experiments, "sell")
    users = [record["user"] for record in (await experiments.get("/changes"))[1]["items"]]
    assert users == [{"id": "system", "email": ""}, {"id": "7", "email": "Jürgen B"}]
