"""Pages as events: each is one too, which metrics count whenever the page is seen."""

from typing import Any

import pytest

from tests.gateway.views.test_experiments import TWO, create
from tests.support.asserting import AUTHORIZED, assert_error


@pytest.fixture
def project_id(real_stack: Any) -> int:
    number: int = real_stack.another_project()["id"]
    return number


def a_page(app: Any, project_id: int, **members: Any) -> Any:
    body = {"project_id": project_id, "name": "Cart", "edit_url": "https://shop.example/cart", **members}
    return app.post_json("/v2/pages", body, headers=AUTHORIZED, expect_errors=True)


def a_custom_event(app: Any, project_id: int, key: str) -> Any:
    address = f"/v2/projects/{project_id}/custom_events"
    return app.post_json(address, {"key": key}, headers=AUTHORIZED, expect_errors=True)


def a_click(app: Any, page: Any, **members: Any) -> Any:
    body = {"event_type": "click", "name": "Buy", "config": {"selector": "#buy"}, **members}
    return app.post_json(f"/v2/pages/{page['id']}/events", body, headers=AUTHORIZED, expect_errors=True)


def events(app: Any, project_id: int, query: str = "") -> Any:
    return app.get(f"/v2/events?project_id={project_id}{query}", headers=AUTHORIZED)


def test_200_the_list_has_all_three_kinds_ordered_by_id(real_app: Any, project_id: int) -> None:
    custom = a_custom_event(real_app, project_id, "order").json
    page = a_page(real_app, project_id).json
    click = a_click(real_app, page).json
    listed = events(real_app, project_id).json
    assert [event["event_type"] for event in listed] == ["custom", "pageview", "click"]
    assert [event["id"] for event in listed] == [custom["id"], page["id"], click["id"]]
    first = events(real_app, project_id, "&per_page=2")
    assert [event["id"] for event in first.json] == [custom["id"], page["id"]]
    assert "page=2&per_page=2>; rel=next" in first.headers["Link"]
    assert events(real_app, project_id, "&per_page=2&page=2").json == [listed[2]]


def test_200_a_page_is_read_as_an_event(real_app: Any, project_id: int) -> None:
    page = a_page(real_app, project_id, category="checkout").json
    event = real_app.get(f"/v2/events/{page['id']}", headers=AUTHORIZED).json
    assert event == {
        **{name: page[name] for name in ("id", "key", "name", "project_id", "archived")},
        **{name: page[name] for name in ("created", "last_modified")},
        "category": "other",  # events have no category of this name
        "event_type": "pageview",
        "is_classic": False,
        "page_id": page["id"],
    }
    assert [event] == events(real_app, project_id).json
    renamed = {"name": "Basket", "key": "k" * 65}  # longer than keys of events can be
    real_app.patch_json(f"/v2/pages/{page['id']}", renamed, headers=AUTHORIZED)
    event = real_app.get(f"/v2/events/{page['id']}", headers=AUTHORIZED).json
    assert (event["name"], "key" in event) == ("Basket", False)


def test_200_archived_pages_are_archived_events(real_app: Any, project_id: int) -> None:
    kept, away = (a_page(real_app, project_id).json["id"] for _ in range(2))
    real_app.delete(f"/v2/pages/{away}", headers=AUTHORIZED)
    found = [
        [event["id"] for event in events(real_app, project_id, query).json]
        for query in ("", "&archived=true", "&archived=false")
    ]
    assert found == [[kept, away], [away], [kept]]


def test_404_for_changing_a_page_as_if_it_were_another_kind_of_event(real_app: Any, project_id: int) -> None:
    page = a_page(real_app, project_id).json
    for address in (f"projects/{project_id}/custom_events", f"pages/{page['id']}/events"):
        changed = real_app.patch_json(
            f"/v2/{address}/{page['id']}", {"name": "x"}, headers=AUTHORIZED, expect_errors=True
        )
        assert_error(changed, 404, "not_found")


def test_400_for_a_key_that_the_other_kind_has_names_its_holder(real_app: Any, project_id: int) -> None:
    page = a_page(real_app, project_id, key="cart").json
    order = a_custom_event(real_app, project_id, "order").json
    other = a_page(real_app, project_id).json
    event = f"/v2/projects/{project_id}/custom_events/{order['id']}"
    for response, holder in (
        (a_custom_event(real_app, project_id, "cart"), page),
        (a_click(real_app, page, key="cart"), page),
        (a_page(real_app, project_id, key="order"), order),
        (
            real_app.patch_json(event, {"key": "cart"}, headers=AUTHORIZED, expect_errors=True),
            page,
        ),
        (
            real_app.patch_json(
                f"/v2/pages/{other['id']}", {"key": "order"}, headers=AUTHORIZED, expect_errors=True
            ),
            order,
        ),
    ):
        messages = assert_error(response, 400, "bad_request")["messages"]
        assert messages == {"/body/key": f"is already in use (id: {holder['id']})"}


def test_201_a_key_left_out_is_one_that_neither_kind_has(real_app: Any, project_id: int) -> None:
    a_custom_event(real_app, project_id, f"{project_id}_cart")
    page = a_page(real_app, project_id).json
    assert page["key"] == f"{project_id}_cart_2"
    assert a_click(real_app, page, name="Cart").json["key"] == f"{project_id}_cart_3"


def test_201_metrics_count_page_views_and_bounces_of_a_page(real_app: Any, project_id: int) -> None:
    page = a_page(real_app, project_id).json
    seen = {"aggregator": "unique", "event_id": page["id"], "scope": "visitor"}
    left = {"aggregator": "bounce", "event_id": page["id"], "scope": "session"}
    made = create(real_app, {"project_id": project_id}, metrics=[seen, left])
    assert [metric["event_id"] for metric in made["metrics"]] == [page["id"]] * 2


@pytest.mark.parametrize("aggregator", ["bounce", "exit"])
def test_400_for_bounces_and_exits_of_what_is_no_page(
    real_app: Any, project_id: int, aggregator: str
) -> None:
    order = a_custom_event(real_app, project_id, "order").json
    metric = {"aggregator": aggregator, "event_id": order["id"], "scope": "session"}
    body = {"project_id": project_id, "name": "x", "variations": TWO, "metrics": [metric]}
    refused = real_app.post_json("/v2/experiments", body, headers=AUTHORIZED, expect_errors=True)
    messages = assert_error(refused, 400, "bad_request")["messages"]
    assert messages == {"/body/metrics/0/event_id": "is no page of this project"}
