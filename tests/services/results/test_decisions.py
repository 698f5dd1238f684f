"""Which experiments a visitor was in, on both databases."""

from __future__ import annotations

from typing import Any

from tests.services.conftest import NewDatabase, Serve
from tests.services.results.sending import ACCOUNT, NOON, batch, impression


async def test_the_first_decision_for_each_experiment_the_newest_first(
    serve: Serve, new_database: NewDatabase
) -> None:
    service = await serve("results", await new_database("results"))
    entries = [impression("ann", 7, NOON + n, experiment=n) for n in (1, 2, 3)]
    body = batch(*entries, impression("bob", 8, NOON, experiment=1))
    assert (await service.post("/v1/events", body))[0] == 204
    asked: dict[str, Any] = {"account_id": int(ACCOUNT), "visitor_id": "ann", "page": 1, "per_page": 2}
    status, found = await service.post("/decisions", asked)
    assert (status, found["total"]) == (200, 3)
    assert [one["experiment_id"] for one in found["items"]] == [3, 2]
    _, found = await service.post("/decisions", {**asked, "start_time": NOON + 1, "end_time": NOON + 2})
    assert [one["experiment_id"] for one in found["items"]] == [2, 1]
