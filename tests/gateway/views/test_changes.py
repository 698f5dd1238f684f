"""The history of changes: one record for each successful write, newest first."""

from datetime import datetime
from typing import Any

import pytest
import requests

from optimizely_api.runtime.testing import GatewayTestApp
from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.real_services import ADDRESS, AS_GATEWAY, RealServices

Json = dict[str, Any]


@pytest.fixture
def page(real_app: GatewayTestApp, ids: dict[str, int]) -> Json:
    """A new page, by its own request."""
    body = {"project_id": ids["project_id"], "name": "Basket", "edit_url": "https://shop.example/basket"}
    made: Json = real_app.post_json("/v2/pages", body, headers=AUTHORIZED).json
    return made


def patch(app: GatewayTestApp, page: Json, **body: Any) -> Json:
    changed: Json = app.patch_json(f"/v2/pages/{page['id']}", body, headers=AUTHORIZED).json
    return changed


def history(app: GatewayTestApp, ids: dict[str, int], query: str = "") -> list[Json]:
    address = f"/v2/changes?project_id={ids['project_id']}&per_page=100&{query}"
    records: list[Json] = app.get(address, headers=AUTHORIZED).json
    return records


def of(app: GatewayTestApp, ids: dict[str, int], page: Json, query: str = "") -> list[Json]:
    return history(app, ids, f"entity=page:{page['id']}&{query}")


def test_creating_something_has_a_record(real_app: GatewayTestApp, ids: dict[str, int], page: Json) -> None:
    (record,) = of(real_app, ids, page)
    assert record["change_type"] == "create"
    assert record["project_id"] == ids["project_id"]
    assert record["created"] == page["created"]
    assert record["source"] == "api"
    assert record["summary"] == f"Created page {page['key']}"
    assert record["user"]["email"] == "token"
    assert record["entity"] == {
        "type": "page",
        "id": page["id"],
        "name": "Basket",
        "api_url": f"http://localhost/v2/pages/{page['id']}",
        "ui_url": "http://localhost/docs",
    }
    name = {"property": "name", "description": "Set name", "after": "Basket"}
    assert name in record["changes"]


def test_a_change_names_each_property_before_and_after(
    real_app: GatewayTestApp, ids: dict[str, int], page: Json
) -> None:
    patch(real_app, page, name="Cart", category="checkout")
    assert of(real_app, ids, page)[0]["changes"] == [
        {"property": "category", "description": "Changed category", "before": "other", "after": "checkout"},
        {"property": "name", "description": "Changed name", "before": "Basket", "after": "Cart"},
    ]


@pytest.mark.parametrize("repeats", [False, True], ids=["empty", "the whole page"])
def test_a_change_of_nothing_has_none(
    real_app: GatewayTestApp, ids: dict[str, int], page: Json, repeats: bool
) -> None:
    patch(real_app, page, **(page if repeats else {}))
    assert len(of(real_app, ids, page)) == 1


def test_a_refused_change_has_none(real_app: GatewayTestApp, ids: dict[str, int], page: Json) -> None:
    address, body = f"/v2/pages/{page['id']}", {"activation_type": "polling"}
    assert real_app.patch_json(address, body, headers=AUTHORIZED, expect_errors=True).status_int == 400
    assert len(of(real_app, ids, page)) == 1


def test_archiving_and_bringing_back(real_app: GatewayTestApp, ids: dict[str, int], page: Json) -> None:
    real_app.delete(f"/v2/pages/{page['id']}", headers=AUTHORIZED)
    patch(real_app, page, archived=False)
    back, archived, _ = of(real_app, ids, page)
    assert (archived["change_type"], back["change_type"]) == ("archive", "update")
    assert archived["changes"] == [
        {"property": "archived", "description": "Changed archived", "before": False, "after": True}
    ]
    assert back["summary"] == f"Unarchived page {page['key']}"


def test_revisions_count_the_entitys_changes(
    real_app: GatewayTestApp, ids: dict[str, int], page: Json
) -> None:
    patch(real_app, page, name="Cart")
    assert [record["revisions"] for record in of(real_app, ids, page)] == [
        {"current": {"id": 2}, "previous": {"id": 1}},
        {"current": {"id": 1}, "previous": {"id": None}},
    ]


def test_newest_first_in_pages(real_app: GatewayTestApp, ids: dict[str, int], page: Json) -> None:
    for number in range(3):
        patch(real_app, page, name=f"Cart {number}")
    records = history(real_app, ids)
    times = [datetime.fromisoformat(record["created"]) for record in records]
    assert times == sorted(times, reverse=True)
    address = f"/v2/changes?project_id={ids['project_id']}&entity=page:{page['id']}&per_page=3"
    first = real_app.get(address, headers=AUTHORIZED)
    assert [record["revisions"]["current"]["id"] for record in first.json] == [4, 3, 2]
    assert "page=2&per_page=3>; rel=next" in first.headers["Link"]
    second = real_app.get(f"{address}&page=2", headers=AUTHORIZED).json
    assert [record["change_type"] for record in second] == ["create"]
    assert real_app.get(f"{address}&page=3", headers=AUTHORIZED).json == []


def test_filters_of_one_kind_mean_any_and_of_several_all(
    real_app: GatewayTestApp, ids: dict[str, int], page: Json
) -> None:
    patch(real_app, page, name="Cart")
    second, first = of(real_app, ids, page)
    for query, found in (
        (f"id={first['id']}&id={second['id']}", [second, first]),
        (f"id={first['id']}", [first]),
        ("entity_type=page&entity_type=event", [second, first]),
        ("entity_type=event", []),
        ("user=token&user=nobody", [second, first]),
        ("user=nobody", []),
        ("source=api", [second, first]),
        ("source=ui", []),
        ("entity=event:1", [second, first]),
        (f"id={first['id']}&entity_type=event", []),
        (f"start_time={second['created']}", [second]),  # inclusive
        (f"end_time={second['created']}", [first]),  # exclusive
        ("all_entities=false", [second, first]),
    ):
        assert of(real_app, ids, page, query) == found, query


@pytest.fixture
def experiment(real_stack: RealServices, ids: dict[str, int]) -> Json:
    """A new experiment, not started."""
    made: Json = service(
        real_stack,
        "POST",
        "/experiments",
        account_id=real_stack.account_id,
        project_id=ids["project_id"],
        name="Checkout flow",
        url_targeting=ADDRESS,
        variations=[{"key": key, "name": key, "weight": 5000} for key in ("one_page", "three_pages")],
        metrics=[{"aggregator": "unique", "event_id": ids["event_id"], "scope": "visitor"}],
    )
    return made


def service(stack: RealServices, method: str, path: str, **body: Any) -> Json:
    address = stack.urls["experiments"] + path
    response = requests.request(method, address, json=body, headers=AS_GATEWAY, timeout=30)
    assert response.ok, response.text
    return response.json() if response.content else {}


def test_a_start_is_an_update_that_begins_with_the_status(
    real_app: GatewayTestApp, real_stack: RealServices, ids: dict[str, int], experiment: Json
) -> None:
    path = f"/experiments/{experiment['id']}"
    service(real_stack, "PATCH", f"{path}?action=start", description="Shorter is better")
    service(real_stack, "DELETE", path)
    archived, started, created = history(real_app, ids, f"entity=experiment:{experiment['id']}")
    assert [record["change_type"] for record in (archived, started, created)] == [
        "archive",
        "update",
        "create",
    ]
    assert [change["property"] for change in started["changes"]] == ["status", "description"]
    assert started["changes"][0] | {"description": ""} == {
        "property": "status",
        "description": "",
        "before": "not_started",
        "after": "running",
    }
    assert started["summary"] == "Started experiment Checkout flow"
    assert started["entity"]["sub_type"] == "a/b"
    # What no caller of the gateway does has no user.
    assert started["user"] == {"id": "system", "email": ""}
    assert archived["changes"][0]["before"] == "running"


def test_variations_are_those_that_changed(
    real_app: GatewayTestApp, real_stack: RealServices, ids: dict[str, int], experiment: Json
) -> None:
    kept, renamed = experiment["variations"]
    added = {"key": "two_pages", "name": "two_pages", "weight": 0}
    body = {"variations": [kept, {**renamed, "name": "3"}, added]}
    service(real_stack, "PATCH", f"/experiments/{experiment['id']}", **body)
    (change,) = history(real_app, ids, f"entity=experiment:{experiment['id']}")[0]["changes"]
    assert [variation["name"] for variation in change["before"]] == ["three_pages"]
    assert [variation["name"] for variation in change["after"]] == ["3", "two_pages"]


def test_a_campaigns_changes_are_there_too(
    real_app: GatewayTestApp, real_stack: RealServices, ids: dict[str, int]
) -> None:
    owner = {"account_id": real_stack.account_id, "project_id": ids["project_id"]}
    made = service(real_stack, "POST", "/layers", **owner, name="Summer", type="personalization")
    service(real_stack, "PATCH", f"/layers/{made['id']}?action=publish", description="Warm days")
    service(real_stack, "DELETE", f"/layers/{made['id']}")
    records = history(real_app, ids, f"entity=campaign:{made['id']}")
    assert [record["change_type"] for record in records] == ["archive", "publish", "create"]
    assert records[1]["changes"][0]["after"] == "Warm days"
    assert records[1]["summary"] == "Published campaign Summer"


def test_changes_of_projects_and_environments_are_there_at_once_and_once(
    real_app: GatewayTestApp, ids: dict[str, int]
) -> None:
    made = real_app.post_json("/v2/projects", {"name": "App", "platform": "custom"}, headers=AUTHORIZED).json
    project, owner = f"/v2/projects/{made['id']}", {"project_id": made["id"]}
    body = {**owner, "key": "staging", "name": "Staging"}
    environment = real_app.post_json("/v2/environments", body, headers=AUTHORIZED).json
    address = f"/v2/environments/{environment['id']}"
    seen = []
    for write in (
        lambda: real_app.patch_json(project, {"name": "Shop"}, headers=AUTHORIZED),
        lambda: real_app.patch_json(address, {"name": "Tests"}, headers=AUTHORIZED),
        lambda: real_app.delete(address, headers=AUTHORIZED),
        lambda: real_app.post_json("/v2/attributes", {**owner, "key": "plan"}, headers=AUTHORIZED),
    ):
        write()
        seen.append(history(real_app, owner))
    assert [record["summary"] for record in seen[-1]] == [
        "Created attribute plan",
        "Archived environment staging",
        "Changed environment staging",
        "Changed project Shop",
        "Created environment staging",
        "Created environment development",
        "Created environment production",
        "Created project App",
    ]
    assert [len(records) for records in seen] == [5, 6, 7, 8]
    assert [seen[-1][-size:] for size in (5, 6, 7)] == seen[:-1]
    archived, changed = seen[-1][1], seen[-1][3]
    assert archived["change_type"] == "archive"
    assert archived["revisions"] == {"current": {"id": 3}, "previous": {"id": 2}}
    assert archived["entity"]["api_url"] == f"http://localhost{address}"
    assert changed["changes"] == [
        {"property": "name", "description": "Changed name", "before": "App", "after": "Shop"}
    ]
    assert changed["user"]["email"] == "token"


def test_filters_find_changes_of_projects_and_environments(
    real_app: GatewayTestApp, ids: dict[str, int]
) -> None:
    made = real_app.post_json("/v2/projects", {"name": "App"}, headers=AUTHORIZED).json
    owner = {"project_id": made["id"]}
    real_app.patch_json(f"/v2/projects/{made['id']}", {"name": "Shop"}, headers=AUTHORIZED)
    changed, environment, created = history(real_app, owner)
    for query, found in (
        ("entity_type=project", [changed, created]),
        ("entity_type=environment", [environment]),
        (f"entity=project:{made['id']}", [changed, created]),
        (f"id={environment['id']}", [environment]),
        ("user=token&entity_type=environment", [environment]),
        ("user=nobody", []),
        (f"start_time={changed['created']}", [changed]),
        (f"end_time={changed['created']}", [environment, created]),
    ):
        assert history(real_app, owner, query) == found, query


def test_400_for_an_entity_without_an_id(real_app: GatewayTestApp, ids: dict[str, int]) -> None:
    address = f"/v2/changes?project_id={ids['project_id']}&entity=page"
    assert_error(real_app.get(address, headers=AUTHORIZED, expect_errors=True), 400, "bad_request")


def test_400_without_a_project(real_app: GatewayTestApp) -> None:
    response = real_app.get("/v2/changes", headers=AUTHORIZED, expect_errors=True)
    assert list(assert_error(response, 400, "bad_request")["messages"]) == ["/query/project_id"]


def test_the_content_of_a_list_is_said_to_have_changed_and_never_shown(
    real_app: GatewayTestApp, ids: dict[str, int]
) -> None:
    project = real_app.post_json("/v2/projects", {"name": "Lists"}, headers=AUTHORIZED).json
    body = {"project_id": project["id"], "name": "Codes", "key_field": "code", "list_content": "a,b"}
    made = real_app.post_json("/v2/list_attributes", body, headers=AUTHORIZED).json
    address = f"/v2/list_attributes/{made['id']}"
    real_app.patch_json(address, {"list_content": "a,c"}, headers=AUTHORIZED)
    latest = history(real_app, {"project_id": project["id"]})[0]
    assert latest["changes"] == [{"property": "list_content", "description": "Changed list_content"}]


def test_a_section_has_no_address_without_its_experiment(
    real_app: GatewayTestApp, ids: dict[str, int]
) -> None:
    body = {"project_id": ids["project_id"], "type": "multivariate", "name": "Parts"}
    experiment = real_app.post_json("/v2/experiments", body, headers=AUTHORIZED).json
    variations = [{"name": "A", "weight": 5000}, {"name": "B", "weight": 5000}]
    made = real_app.post_json(
        f"/v2/experiments/{experiment['id']}/sections", {"variations": variations}, headers=AUTHORIZED
    ).json
    (record,) = history(real_app, ids, f"entity=section:{made['id']}")
    assert "api_url" not in record["entity"]
