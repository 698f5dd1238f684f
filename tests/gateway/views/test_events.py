"""Custom events, which your code reports, and click events, which the snippet notices on a page."""

from typing import Any

import pytest

from tests.support.asserting import AUTHORIZED, assert_error


@pytest.fixture(scope="module")
def page(real_app: Any, ids: dict[str, int]) -> Any:
    body = {"project_id": ids["project_id"], "name": "Cart", "edit_url": "https://shop.example/cart"}
    return real_app.post_json("/v2/pages", body, headers=AUTHORIZED).json


def test_201_a_custom_event_is_named_by_its_key_and_read_at_events(
    real_app: Any, ids: dict[str, int]
) -> None:
    address = f"/v2/projects/{ids['project_id']}/custom_events"
    event = real_app.post_json(address, {"key": "add to cart"}, headers=AUTHORIZED).json
    assert (event["name"], event["event_type"], event["category"]) == ("add to cart", "custom", "other")
    assert real_app.get(f"/v2/events/{event['id']}", headers=AUTHORIZED).json == event


def test_200_then_204_a_custom_event_is_changed_and_archived(real_app: Any, ids: dict[str, int]) -> None:
    address = f"/v2/projects/{ids['project_id']}/custom_events"
    event = real_app.post_json(address, {"key": "share"}, headers=AUTHORIZED).json
    changed = real_app.patch_json(f"{address}/{event['id']}", {"name": "Share"}, headers=AUTHORIZED).json
    assert (changed["name"], changed["key"]) == ("Share", "share")
    assert real_app.delete(f"{address}/{event['id']}", headers=AUTHORIZED).status_int == 204
    again = real_app.delete(f"{address}/{event['id']}", headers=AUTHORIZED, expect_errors=True)
    assert_error(again, 410, "gone")


def test_201_a_click_event_belongs_to_its_page_and_gets_a_key(
    real_app: Any, ids: dict[str, int], page: Any
) -> None:
    body = {"event_type": "click", "name": "Buy now", "config": {"selector": "#buy"}}
    event = real_app.post_json(f"/v2/pages/{page['id']}/events", body, headers=AUTHORIZED).json
    assert (event["page_id"], event["project_id"]) == (page["id"], ids["project_id"])
    assert event["key"] == f"{ids['project_id']}_buy_now"


def test_404_for_an_event_under_the_wrong_page(real_app: Any, ids: dict[str, int], page: Any) -> None:
    custom = f"/v2/projects/{ids['project_id']}/custom_events"
    event = real_app.post_json(custom, {"key": "not a click"}, headers=AUTHORIZED).json
    address = f"/v2/pages/{page['id']}/events/{event['id']}"
    assert_error(real_app.patch_json(address, {}, headers=AUTHORIZED, expect_errors=True), 404, "not_found")


def test_404_for_a_click_event_on_an_unknown_page(real_app: Any) -> None:
    body = {"event_type": "click", "name": "Buy now"}
    response = real_app.post_json("/v2/pages/99/events", body, headers=AUTHORIZED, expect_errors=True)
    assert_error(response, 404, "not_found")


def test_internal_members_of_a_body_are_ignored(real_app: Any, ids: dict[str, int]) -> None:
    body = {
        "key": "mine",
        "is_classic": True,
        "account_id": 1,
        "id": 5,
        "project_id": 6,
        "event_type": "custom",
    }
    address = f"/v2/projects/{ids['project_id']}/custom_events"
    event = real_app.post_json(address, body, headers=AUTHORIZED).json
    assert (event["is_classic"], event["project_id"]) == (False, ids["project_id"])
    assert event["id"] != 5
