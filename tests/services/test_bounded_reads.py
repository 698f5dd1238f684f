"""A write reads as many rows in a large project as in a small one."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.services.conftest import Caller

OWNER = {"account_id": 11, "project_id": 22}
TWO = [{"name": name, "weight": 5000} for name in ("old", "new")]
FEW, MANY = 2, 10
RunsOf = Callable[[Caller], Awaitable[tuple[str, str, Any]]]


@pytest.fixture
def rows_read() -> Iterator[list[int]]:
    """How many rows each statement has read."""
    with counting(lambda names: True) as numbers:
        yield numbers


@pytest.fixture
def documents_read() -> Iterator[list[int]]:
    """How many whole entities each statement has read."""
    with counting(lambda names: "document" in names) as numbers:
        yield numbers


@contextmanager
def counting(counts: Callable[[list[str]], bool]) -> Iterator[list[int]]:
    """The numbers of rows that statements read, whose columns have the names that `counts` wants."""
    numbers: list[int] = []

    def note(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        # The service looks at datafiles from time to time by itself.
        if "datafiles" not in statement and counts([column[0] for column in cursor.description or ()]):
            numbers.append(len(cursor._rows))

    event.listen(Engine, "after_cursor_execute", note)
    yield numbers
    event.remove(Engine, "after_cursor_execute", note)


def for_audience(audience: Any) -> str:
    return json.dumps(["or", {"audience_id": audience["id"]}])


async def add(experiments: Caller, prefix: str, count: int) -> None:
    """As many running experiments, each with an audience, a page and a feature that is on, and in a group."""
    for number in range(count):
        audience = await experiments.made("/audiences", OWNER)
        page = await experiments.made(
            "/pages", {**OWNER, "name": "Page", "edit_url": "https://shop.example/"}
        )
        rule = {"audience_conditions": for_audience(audience), "enabled": True}
        environments = {"production": {"is_primary": True, "rollout_rules": [rule]}}
        key = f"{prefix}_{number}"
        await experiments.made("/features", {**OWNER, "key": key, "environments": environments})
        used = {"page_ids": [page["id"]], "audience_conditions": for_audience(audience)}
        made = await experiments.made("/experiments?action=start", {**OWNER, **used, "variations": TWO})
        await experiments.made("/groups", {**OWNER, "name": key, "entities": [member(made)]})


def member(experiment: Any) -> Any:
    return {"kind": "Experiment", "id": experiment["id"], "weight": 100}


async def archive_an_audience(experiments: Caller) -> tuple[str, str, Any]:
    audience = await experiments.made("/audiences", OWNER)
    return "PATCH", f"/audiences/{audience['id']}", {"archived": True}


async def archive_a_page(experiments: Caller) -> tuple[str, str, Any]:
    body = {**OWNER, "name": "Unused", "edit_url": "https://shop.example/unused"}
    return "DELETE", f"/pages/{(await experiments.made('/pages', body))['id']}", None


async def archive_a_feature(experiments: Caller) -> tuple[str, str, Any]:
    count = len((await experiments.get("/features?project_id=22"))[1]["items"])
    feature = await experiments.made("/features", {**OWNER, "key": f"unused_{count}"})
    return "DELETE", f"/features/{feature['id']}", None


async def create_a_group(experiments: Caller) -> tuple[str, str, Any]:
    made = await experiments.made("/experiments", OWNER)
    return "POST", "/groups", {**OWNER, "name": "Another", "entities": [member(made)]}


async def change_the_members_of_a_group(experiments: Caller) -> tuple[str, str, Any]:
    group = await experiments.made("/groups", {**OWNER, "name": "Another"})
    made = await experiments.made("/experiments", OWNER)
    return "PATCH", f"/groups/{group['id']}", {"entities": [member(made)]}


@pytest.mark.parametrize(
    "write",
    [
        archive_an_audience,
        archive_a_page,
        archive_a_feature,
        create_a_group,
        change_the_members_of_a_group,
    ],
)
async def test_the_number_of_others_does_not_count(
    experiments: Caller, rows_read: list[int], write: RunsOf
) -> None:
    counts = []
    for prefix, others in (("few", FEW), ("many", MANY)):
        await add(experiments, prefix, others)
        method, path, body = await write(experiments)
        rows_read.clear()
        status, answer = await experiments.call(method, path, json=body)
        assert status in (200, 201, 204), answer
        counts.append(sum(rows_read))
    assert counts[0] == counts[1]


VARIABLE = {"key": "size", "type": "string", "default_value": "1"}


@pytest.mark.parametrize(
    ("action", "status"), [("?action=start", 409), ("", 200)], ids=["started", "not started"]
)
async def test_one_started_test_of_a_feature_is_read_at_most(
    experiments: Caller, rows_read: list[int], action: str, status: int
) -> None:
    counts = []
    for key, number in (("few", FEW), ("many", MANY)):
        feature = await experiments.made("/features", {**OWNER, "key": key, "variables": [VARIABLE]})
        for _ in range(number):
            body = {**OWNER, "variations": TWO, "feature_id": feature["id"], "platform": "custom"}
            await experiments.made(f"/experiments{action}", body)
        rows_read.clear()
        changed = {"variables": [{**VARIABLE, "type": "integer"}]}
        assert (await experiments.patch(f"/features/{feature['id']}", changed))[0] == status
        counts.append(sum(rows_read))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("metrics", [[], [{"aggregator": "sum", "field": "revenue"}]], ids=["none", "some"])
async def test_the_experiences_of_campaigns_are_not_read_whole(
    experiments: Caller, documents_read: list[int], metrics: Any
) -> None:
    body = {**OWNER, "type": "personalization", "metrics": metrics}
    campaign = await experiments.made("/layers", body)
    counts = []
    for number in (FEW, MANY):
        for _ in range(number):
            await experiments.made(
                "/experiments", {**OWNER, "variations": TWO, "campaign_id": campaign["id"]}
            )
        documents_read.clear()
        _, listed = await experiments.get("/layers")
        changed = {"name": f"With {number}"}
        assert (await experiments.patch(f"/layers/{campaign['id']}", changed))[0] == 200
        counts.append(sum(documents_read))
    assert len(listed["items"][0]["experiment_ids"]) == FEW + MANY
    assert counts[0] == counts[1]
