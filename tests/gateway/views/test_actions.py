"""What variations change page by page: which page an action is about, and the address that shows it."""

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.gateway.views.test_experiments import change, create
from tests.support.asserting import AUTHORIZED, assert_error

STYLE = {"type": "custom_css", "value": "a {}"}


def a_page(app: Any, ids: Any, edit_url: str = "https://shop.example/cart?size=9#top") -> Any:
    body = {"project_id": ids["project_id"], "name": "Cart", "edit_url": edit_url}
    return app.post_json("/v2/pages", body, headers=AUTHORIZED).json


def two(**action: Any) -> Any:
    changed = {"name": "Changed", "weight": 5000, "actions": [{"changes": [STYLE], **action}]}
    return [{"name": "Original", "weight": 5000}, changed]


def actions(experiment: Any) -> Any:
    return experiment["variations"][1]["actions"]


def test_201_an_action_without_a_page_is_about_the_only_one(real_app: Any, ids: Any) -> None:
    page = a_page(real_app, ids)
    made = create(real_app, ids, page_ids=[page["id"]], variations=two())
    assert actions(made)[0]["page_id"] == page["id"]
    other = a_page(real_app, ids)
    changed = change(real_app, made, page_ids=[other["id"]], variations=two()).json
    assert actions(changed)[0]["page_id"] == other["id"]


def test_201_an_action_of_an_experience_is_about_its_campaigns_page(real_app: Any, ids: Any) -> None:
    page = a_page(real_app, ids)
    body = {"project_id": ids["project_id"], "page_ids": [page["id"]]}
    campaign = real_app.post_json("/v2/campaigns", body, headers=AUTHORIZED).json
    made = create(real_app, ids, campaign_id=campaign["id"], type="personalization", variations=two())
    assert actions(made)[0]["page_id"] == page["id"]


@pytest.mark.parametrize("pages", [0, 2])
def test_400_for_an_action_without_a_page_where_there_is_not_one(real_app: Any, ids: Any, pages: int) -> None:
    page_ids = [a_page(real_app, ids)["id"] for _ in range(pages)]
    body = {"project_id": ids["project_id"], "name": "x", "page_ids": page_ids, "variations": two()}
    refused = real_app.post_json("/v2/experiments", body, headers=AUTHORIZED, expect_errors=True)
    assert assert_error(refused, 400, "bad_request")["messages"] == {
        "/body/variations/1/actions/0/page_id": "is required unless the experiment has one page"
    }


def test_a_share_link_shows_the_page_as_the_variation_would(real_app: Any, ids: Any) -> None:
    page = a_page(real_app, ids)
    audience = {"project_id": ids["project_id"], "name": "Shared with"}
    audience_id = real_app.post_json("/v2/audiences", audience, headers=AUTHORIZED).json["id"]
    made = create(
        real_app,
        ids,
        page_ids=[page["id"]],
        variations=two(),
        audience_conditions=f'["or", {{"audience_id": {audience_id}}}]',
    )
    link = urlsplit(actions(made)[0]["share_link"])
    assert (link.scheme, link.netloc, link.path, link.fragment) == ("https", "shop.example", "/cart", "top")
    query = parse_qs(link.query)
    (token,) = query.pop("optimizely_token")
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert query == {
        "size": ["9"],
        "optimizely_x": [str(made["variations"][1]["variation_id"])],
        "optimizely_x_audiences": [str(audience_id)],
        "optimizely_preview_layer_ids": [str(made["campaign_id"])],
        "optimizely_snippet": [f"s3-{ids['project_id']}"],
    }
    assert real_app.get(f"/v2/experiments/{made['id']}", headers=AUTHORIZED).json == made


def test_share_links_of_a_project_carry_one_token_and_of_another_another(
    real_app: Any, ids: Any, real_stack: Any
) -> None:
    other = {"project_id": real_stack.another_project()["id"]}
    links = [
        actions(create(real_app, each, page_ids=[a_page(real_app, each)["id"]], variations=two()))[0][
            "share_link"
        ]
        for each in (ids, ids, other)
    ]
    first, second, another = (parse_qs(urlsplit(link).query)["optimizely_token"] for link in links)
    assert first == second != another


def test_a_share_link_follows_the_address_of_its_page(real_app: Any, ids: Any) -> None:
    page = a_page(real_app, ids)
    made = create(real_app, ids, page_ids=[page["id"]], variations=two())
    for edit_url, is_linked in (("https://shop.example/basket", True), ("the basket", False)):
        real_app.patch_json(f"/v2/pages/{page['id']}", {"edit_url": edit_url}, headers=AUTHORIZED)
        (action,) = actions(real_app.get(f"/v2/experiments/{made['id']}", headers=AUTHORIZED).json)
        assert action.get("share_link", "").startswith(edit_url) == is_linked
        assert ("share_link" in action) == is_linked


def test_200_an_experiment_with_share_links_sent_back_changes_nothing(real_app: Any, ids: Any) -> None:
    made = create(real_app, ids, page_ids=[a_page(real_app, ids)["id"]], variations=two())
    assert change(real_app, made, variations=made["variations"]).json == made


def test_400_for_more_than_100_on_the_whitelist_and_for_a_visitor_twice(real_app: Any, ids: Any) -> None:
    made = create(real_app, ids)
    variation_id = made["variations"][0]["variation_id"]
    entries = [{"user_id": f"tester-{number}", "variation_id": variation_id} for number in range(101)]
    assert change(real_app, made, whitelist=entries[:100]).json["whitelist"] == entries[:100]
    refused = change(real_app, made, status=400, whitelist=entries)
    assert list(assert_error(refused, 400, "bad_request")["messages"]) == ["/body/whitelist"]
    refused = change(real_app, made, status=400, whitelist=[entries[0], entries[0]])
    assert assert_error(refused, 400, "bad_request")["messages"] == {
        "/body/whitelist/1/user_id": "stands there twice"
    }
