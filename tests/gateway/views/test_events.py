"""Custom events, which your code reports, and click events, which the snippet notices on a page."""

from typing import Any

import pytest

from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.real_services import RealServices


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
    read = real_app.get(f"/v2/events/{event['id']}", headers=AUTHORIZED).json
    # What answers a write of an event has no time of the last change in the contract.
    assert read == {**event, "last_modified": read["last_modified"]}


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


def a_page(real_app: Any, project_id: int) -> Any:
    body = {"project_id": project_id, "name": "Another", "edit_url": "https://shop.example/"}
    return real_app.post_json("/v2/pages", body, headers=AUTHORIZED).json


def an_archived_page(real_app: Any, project_id: int) -> Any:
    page = a_page(real_app, project_id)
    real_app.delete(f"/v2/pages/{page['id']}", headers=AUTHORIZED)
    return page


def a_click(real_app: Any, page: Any) -> Any:
    body = {"event_type": "click", "name": "Buy", "config": {"selector": "#buy"}}
    return real_app.post_json(f"/v2/pages/{page['id']}/events", body, headers=AUTHORIZED, expect_errors=True)


def move(real_app: Any, event: Any, page_id: int) -> Any:
    address = f"/v2/pages/{event['page_id']}/events/{event['id']}"
    return real_app.patch_json(address, {"page_id": page_id}, headers=AUTHORIZED, expect_errors=True)


def test_200_a_click_event_moves_to_another_page_of_its_project(
    real_app: Any, ids: dict[str, int], page: Any
) -> None:
    event, other = a_click(real_app, page).json, a_page(real_app, ids["project_id"])
    assert move(real_app, event, other["id"]).json["page_id"] == other["id"]


def test_400_a_click_event_moves_to_no_page_of_another_project_or_account_nor_to_one_that_is_not_there(
    real_app: Any, page: Any, real_stack: RealServices
) -> None:
    event = a_click(real_app, page).json
    elsewhere = a_page(real_app, real_stack.another_project()["id"])
    owner = {"account_id": real_stack.other_account_id, "project_id": 99}
    foreign = real_stack.made("experiments", "/pages", **owner, name="Home", edit_url="https://b.example/")
    for page_id in (elsewhere["id"], foreign["id"], 2**53 - 1):
        error = assert_error(move(real_app, event, page_id), 400, "bad_request")
        assert error["messages"] == {"/body/page_id": "is no page of this project"}


def test_400_a_click_event_moves_to_no_archived_page(real_app: Any, ids: dict[str, int], page: Any) -> None:
    event = a_click(real_app, page).json
    archived = an_archived_page(real_app, ids["project_id"])
    error = assert_error(move(real_app, event, archived["id"]), 400, "bad_request")
    assert error["messages"] == {"/body/page_id": "is an archived page"}


def test_400_for_a_new_click_event_on_an_archived_page(real_app: Any, ids: dict[str, int]) -> None:
    error = assert_error(a_click(real_app, an_archived_page(real_app, ids["project_id"])), 400, "bad_request")
    assert error["messages"] == {"/body/page_id": "is an archived page"}


def test_200_a_click_event_on_a_page_archived_later_may_still_change(
    real_app: Any, ids: dict[str, int]
) -> None:
    page = a_page(real_app, ids["project_id"])
    event = a_click(real_app, page).json
    real_app.delete(f"/v2/pages/{page['id']}", headers=AUTHORIZED)
    address = f"/v2/pages/{page['id']}/events/{event['id']}"
    assert real_app.patch_json(address, {"name": "Old"}, headers=AUTHORIZED).json["name"] == "Old"


def archive(real_app: Any, project: Any) -> None:
    address = f"/v2/projects/{project['id']}"
    real_app.patch_json(address, {"status": "archived"}, headers=AUTHORIZED)


def test_400_for_a_new_custom_event_in_an_archived_project(real_app: Any, real_stack: RealServices) -> None:
    project = real_stack.another_project()
    archive(real_app, project)
    address = f"/v2/projects/{project['id']}/custom_events"
    response = real_app.post_json(address, {"key": "late"}, headers=AUTHORIZED, expect_errors=True)
    error = assert_error(response, 400, "bad_request")
    assert error["messages"] == {"/path/project_id": f"is of project {project['id']}, which is archived"}


def test_400_for_a_new_click_event_in_an_archived_project(real_app: Any, real_stack: RealServices) -> None:
    project = real_stack.another_project()
    page = a_page(real_app, project["id"])
    archive(real_app, project)
    error = assert_error(a_click(real_app, page), 400, "bad_request")
    assert error["messages"] == {"/path/page_id": f"is of project {project['id']}, which is archived"}


def test_200_the_list_of_events_has_those_in_the_archive_or_not(
    real_app: Any, real_stack: RealServices
) -> None:
    project_id = real_stack.another_project()["id"]
    address = f"/v2/projects/{project_id}/custom_events"
    made = [real_app.post_json(address, {"key": key}, headers=AUTHORIZED).json["id"] for key in ("a", "b")]
    real_app.delete(f"{address}/{made[0]}", headers=AUTHORIZED)
    listed = [
        [
            event["id"]
            for event in real_app.get(
                f"/v2/events?project_id={project_id}{archived}", headers=AUTHORIZED
            ).json
        ]
        for archived in ("", "&archived=true", "&archived=false")
    ]
    assert listed == [made, made[:1], made[1:]]
