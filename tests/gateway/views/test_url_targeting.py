"""Experiments and campaigns that name addresses in place of pages: each brings a page along, for nobody else."""

from typing import Any

import pytest

from tests.gateway.views.test_experiments import change, create
from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.real_services import RealServices

ADDRESS = {"edit_url": "https://shop.example/sale"}
CONDITIONS = '["and", ["or", {"match_type": "simple", "type": "url", "value": "https://shop.example/sale"}]]'


def read(app: Any, path: str, page_id: int) -> Any:
    return app.get(f"/v2/{path}/{page_id}", headers=AUTHORIZED).json


def a_page(app: Any, ids: Any, name: str = "Cart") -> Any:
    body = {"project_id": ids["project_id"], "name": name, "edit_url": "https://shop.example/cart"}
    return app.post_json("/v2/pages", body, headers=AUTHORIZED).json


def test_201_an_experiment_brings_its_page_along(real_app: Any, ids: Any) -> None:
    made = create(real_app, ids, name="Sale", url_targeting=ADDRESS)
    targeting = made["url_targeting"]
    assert targeting == {
        **ADDRESS,
        "activation_type": "immediate",
        "conditions": CONDITIONS,
        "page_id": targeting["page_id"],
    }
    page = read(real_app, "pages", targeting["page_id"])
    assert (page["single_use"], page["name"]) == (True, "URL targeting for Sale")
    assert (page["edit_url"], page["conditions"]) == (ADDRESS["edit_url"], CONDITIONS)


def test_no_list_and_no_search_has_the_page(real_app: Any, real_stack: RealServices) -> None:
    project_id = real_stack.another_project()["id"]
    made = create(real_app, {"project_id": project_id}, name="Hidden", url_targeting=ADDRESS)
    page_id = made["url_targeting"]["page_id"]
    for address in (
        f"/v2/pages?project_id={project_id}",
        f"/v2/events?project_id={project_id}",
        f"/v2/search?query&project_id={project_id}&type=page",
        f"/v2/search?query={page_id}&project_id={project_id}",
    ):
        assert real_app.get(address, headers=AUTHORIZED).json == [], address


def test_409_for_changing_the_page_itself(real_app: Any, ids: Any) -> None:
    page_id = create(real_app, ids, url_targeting=ADDRESS)["url_targeting"]["page_id"]
    address, page = f"/v2/pages/{page_id}", read(real_app, "pages", page_id)
    renamed = real_app.patch_json(address, {"name": "Mine"}, headers=AUTHORIZED, expect_errors=True)
    assert_error(renamed, 409, "conflict", "url_targeting")
    deleted = real_app.delete(address, headers=AUTHORIZED, expect_errors=True)
    assert_error(deleted, 409, "conflict", "url_targeting")
    assert real_app.patch_json(address, page, headers=AUTHORIZED).json == page


def test_200_the_page_follows_its_experiment(real_app: Any, ids: Any) -> None:
    polled = {**ADDRESS, "activation_type": "polling", "activation_code": "return 1", "key": "sale_page_1"}
    made = create(real_app, ids, url_targeting=polled)
    page_id = made["url_targeting"]["page_id"]
    assert read(real_app, "pages", page_id)["key"] == "sale_page_1"
    other = {"edit_url": "https://shop.example/spring"}
    changed = change(real_app, made, url_targeting=other).json["url_targeting"]
    assert (changed["page_id"], changed["edit_url"]) == (page_id, other["edit_url"])
    assert "activation_code" not in changed
    page = read(real_app, "pages", page_id)
    assert (page["edit_url"], page["activation_type"]) == (other["edit_url"], "immediate")
    assert "spring" in page["conditions"]


def test_200_the_whole_experiment_sent_back_changes_nothing(real_app: Any, ids: Any) -> None:
    made = create(real_app, ids, url_targeting=ADDRESS)
    assert change(real_app, made, url_targeting=made["url_targeting"]).json == made
    assert change(real_app, made, url_targeting=ADDRESS).json == made


@pytest.mark.parametrize(
    ("wrong", "member"),
    [({"activation_type": "polling"}, "activation_code"), ({"conditions": "{}"}, "conditions")],
)
def test_400_for_what_no_page_can_be_points_there(
    real_app: Any, ids: Any, wrong: dict[str, str], member: str
) -> None:
    made = create(real_app, ids, url_targeting=ADDRESS)
    refused = change(real_app, made, status=400, url_targeting={**ADDRESS, **wrong})
    messages = assert_error(refused, 400, "bad_request")["messages"]
    assert list(messages) == [f"/body/url_targeting/{member}"]
    assert read(real_app, "experiments", made["id"]) == made


def test_switching_to_pages_archives_it_and_drops_what_was_changed_there(real_app: Any, ids: Any) -> None:
    made, cart = create(real_app, ids, url_targeting=ADDRESS), a_page(real_app, ids)
    page_id = made["url_targeting"]["page_id"]
    style = {"type": "custom_css", "value": "a {}"}
    variations = [
        {**one, "actions": [{"page_id": page_id, "changes": [style]}]} for one in made["variations"]
    ]
    changed = change(real_app, made, "?action=start", variations=variations).json
    assert changed["variations"][0]["actions"][0]["page_id"] == page_id
    switched = change(real_app, made, page_ids=[cart["id"]]).json
    assert (switched["page_ids"], "url_targeting" in switched) == ([cart["id"]], False)
    assert [one["actions"] for one in switched["variations"]] == [[], []]
    assert read(real_app, "pages", page_id)["archived"]
    back = change(real_app, made, url_targeting=ADDRESS).json
    assert "page_ids" not in back
    assert back["url_targeting"]["page_id"] != page_id


def test_400_for_an_action_on_another_page(real_app: Any, ids: Any) -> None:
    made, cart = create(real_app, ids, url_targeting=ADDRESS), a_page(real_app, ids)
    actions = [{"page_id": cart["id"], "changes": []}]
    variations = [{**one, "actions": actions} for one in made["variations"]]
    refused = change(real_app, made, status=400, variations=variations)
    messages = assert_error(refused, 400, "bad_request")["messages"]
    assert messages["/body/variations/0/actions/0/page_id"] == "is no page of this experiment"


def test_201_a_campaign_brings_its_page_along_which_its_experiences_change(real_app: Any, ids: Any) -> None:
    body = {"project_id": ids["project_id"], "name": "Summer", "url_targeting": ADDRESS}
    campaign = real_app.post_json("/v2/campaigns", body, headers=AUTHORIZED).json
    page_id = campaign["url_targeting"]["page_id"]
    page = read(real_app, "pages", page_id)
    assert (page["single_use"], page["name"]) == (True, "URL targeting for Summer")
    actions = [{"page_id": page_id, "changes": [{"type": "custom_css", "value": "a {}"}]}]
    variations = [{"name": "Only", "weight": 10_000, "actions": actions}]
    experience = create(
        real_app, ids, campaign_id=campaign["id"], type="personalization", variations=variations
    )
    assert experience["variations"][0]["actions"][0]["page_id"] == page_id
    address = f"/v2/campaigns/{campaign['id']}"
    cart = a_page(real_app, ids)
    switched = real_app.patch_json(address, {"page_ids": [cart["id"]]}, headers=AUTHORIZED).json
    assert "url_targeting" not in switched
    assert read(real_app, "pages", page_id)["archived"]


def test_201_one_post_makes_campaign_page_variations_and_changes_and_starts_it_all(
    real_app: Any, ids: Any
) -> None:
    style = {"type": "custom_css", "value": "a { color: green }"}
    made = create(
        real_app,
        ids,
        "?action=start",
        name="At once",
        url_targeting=ADDRESS,
        changes=[{"type": "custom_code", "value": "track()"}],
        variations=[
            {"name": "Original", "weight": 5000},
            {"name": "Green", "weight": 5000, "actions": [{"changes": [style]}]},
        ],
    )
    assert made["status"] == "running"
    (action,) = made["variations"][1]["actions"]
    assert action["page_id"] == made["url_targeting"]["page_id"]
    assert action["changes"][0]["value"] == style["value"]
    assert read(real_app, "campaigns", made["campaign_id"])["status"] == "running"


def test_400_leaves_nothing_behind(real_app: Any, real_stack: RealServices) -> None:
    project_id = real_stack.another_project()["id"]
    body = {
        "project_id": project_id,
        "name": "Half",
        "url_targeting": ADDRESS,
        "metrics": [{"aggregator": "unique", "event_id": 1, "scope": "visitor"}],
        "variations": [{"name": "Only", "weight": 10_000}],
    }
    refused = real_app.post_json("/v2/experiments?action=start", body, headers=AUTHORIZED, expect_errors=True)
    assert_error(refused, 400, "bad_request")
    for table in ("pages", "layers", "experiments", "changes"):
        query = f"SELECT count(*) FROM {table} WHERE project_id = ?"
        assert real_stack.rows("experiments", query, project_id) == [(0,)], table
