"""Campaigns: created, started, changed and archived through the real services."""

from typing import Any

from tests.support.asserting import AUTHORIZED, assert_error
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


def test_200_lists_have_no_campaigns_of_single_experiments(real_app: Any, ids: Any) -> None:
    campaign = create(real_app, ids)
    address = f"/v2/campaigns?per_page=100&project_id={ids['project_id']}"
    listed = [one["id"] for one in real_app.get(address, headers=AUTHORIZED).json]
    assert campaign["id"] in listed
    assert ids["campaign_id"] not in listed
    alone = real_app.get(f"/v2/campaigns/{ids['campaign_id']}", headers=AUTHORIZED).json
    assert (alone["type"], alone["name"]) == ("other", "Button")
    assert_error(change(real_app, alone, status=409, name="x"), 409, "conflict")


def test_200_a_campaign_says_whether_it_is_in_the_archive(real_app: Any, ids: Any) -> None:
    campaign = create(real_app, ids)
    address = f"/v2/campaigns/{campaign['id']}"
    assert campaign["archived"] is False
    assert change(real_app, campaign, archived=True).json == campaign  # only DELETE puts it there
    real_app.delete(address, headers=AUTHORIZED)
    archived = real_app.get(address, headers=AUTHORIZED).json
    assert (archived["status"], archived["archived"]) == ("archived", True)
    assert change(real_app, campaign, "?action=unarchive").json["archived"] is False


def test_200_lists_of_archived_campaigns_and_of_the_others(real_app: Any, ids: Any) -> None:
    kept, archived = create(real_app, ids), create(real_app, ids)
    real_app.delete(f"/v2/campaigns/{archived['id']}", headers=AUTHORIZED)
    address = f"/v2/campaigns?per_page=100&project_id={ids['project_id']}"
    for query, found in (("", {True, False}), ("&archived=true", {True}), ("&archived=false", {False})):
        listed = [one["id"] for one in real_app.get(f"{address}{query}", headers=AUTHORIZED).json]
        assert (archived["id"] in listed, kept["id"] in listed) == (True in found, False in found), query


def test_an_experience_runs_while_it_and_its_campaign_are_started(real_app: Any, ids: Any) -> None:
    campaign = create(real_app, ids, url_targeting={"edit_url": "https://shop.example/"})
    body = {
        "project_id": ids["project_id"],
        "type": "personalization",
        "campaign_id": campaign["id"],
        "variations": [{"name": "Banner", "weight": 10000}],
    }
    address = "/v2/experiments?action=start"
    experience = real_app.post_json(address, body, headers=AUTHORIZED).json
    assert (experience["status"], experience["campaign_id"]) == ("campaign_paused", campaign["id"])
    assert change(real_app, campaign, "?action=start").json["status"] == "running"
    shown = real_app.get(f"/v2/experiments/{experience['id']}", headers=AUTHORIZED).json
    assert shown["status"] == "running"
    assert_error(change(real_app, campaign, "?action=unarchive", 409), 409, "conflict")
