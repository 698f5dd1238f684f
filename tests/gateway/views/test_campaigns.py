"""Campaigns: created, started, changed and archived through the real services."""

from typing import Any

from tests.support.asserting import AUTHORIZED
from tests.support.promises import EntityPromises


class TestCampaigns(EntityPromises):
    path = "/v2/campaigns"
    definition = "Campaign"
    unique_key = False

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {"project_id": ids["project_id"], "name": f"Promise {number}"}


def create(app: Any, ids: Any, query: str = "", **given: Any) -> Any:
    body = {"project_id": ids["project_id"], "name": "Visitors from search", **given}
    return app.post_json(f"/v2/campaigns{query}", body, headers=AUTHORIZED).json


def change(app: Any, campaign: Any, query: str = "", status: int = 200, **changes: Any) -> Any:
    address = f"/v2/campaigns/{campaign['id']}{query}"
    return app.patch_json(address, changes, headers=AUTHORIZED, status=status)


def test_201_a_campaign_is_one_for_personalization(real_app: Any, ids: Any) -> None:
    campaign = create(real_app, ids)
    assert (campaign["type"], campaign["status"]) == ("personalization", "not_started")
    assert real_app.get(f"/v2/campaigns/{campaign['id']}", headers=AUTHORIZED).json == campaign
