"""Campaigns: created, started, changed and archived through the real services."""

from typing import Any

from tests.support.asserting import AUTHORIZED, assert_error


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


def test_204_then_410_and_409_for_changing_what_is_archived(real_app: Any, ids: Any) -> None:
    campaign = create(real_app, ids)
    address = f"/v2/campaigns/{campaign['id']}"
    assert real_app.delete(address, headers=AUTHORIZED).status_int == 204
    assert_error(real_app.delete(address, headers=AUTHORIZED, expect_errors=True), 410, "gone")
    assert_error(change(real_app, campaign, status=409, name="x"), 409, "conflict")
