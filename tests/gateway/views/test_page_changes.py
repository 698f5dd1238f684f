"""What variations change on pages: each type of change has members of its own."""

from typing import Any

import pytest

from tests.support.asserting import AUTHORIZED, assert_error

REDIRECT = {"type": "redirect", "preserve_parameters": False, "allow_additional_redirect": False}
CODE_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def post(app: Any, ids: Any, *changes: dict[str, Any], **members: Any) -> Any:
    """A new experiment, whose only variation makes the changes on its page."""
    action = {"page_id": ids["page_id"], "changes": list(changes)}
    variation = {"name": "Green", "weight": 10000, "actions": [action]}
    body = {
        "project_id": ids["project_id"],
        "page_ids": [ids["page_id"]],
        "variations": [variation],
        **members,
    }
    return app.post_json("/v2/experiments", body, headers=AUTHORIZED, expect_errors=True)


def changes_of(experiment: dict[str, Any]) -> Any:
    return experiment["variations"][0]["actions"][0]["changes"]


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"type": "attribute", "selector": "a"}, ["attributes"]),
        ({"type": "attribute"}, ["selector", "attributes"]),
        ({"type": "custom_code"}, ["value"]),
        ({"type": "custom_css"}, ["value"]),
        ({"type": "extension", "config": {}}, ["extension_id"]),
        ({"type": "insert_html", "value": "<b>New</b>"}, ["selector"]),
        ({"type": "insert_image", "value": "/new.png"}, ["selector"]),
        ({"type": "redirect"}, ["preserve_parameters", "allow_additional_redirect", "destination"]),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_400_for_a_change_without_what_its_type_needs(
    real_app: Any, ids: Any, change: Any, missing: Any
) -> None:
    messages = assert_error(post(real_app, ids, change), 400, "bad_request")["messages"]
    assert set(messages) == {f"/body/variations/0/actions/0/changes/0/{name}" for name in missing}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"type": "insert_html", "selector": "a", "operator": "inside"}, "operator"),
        ({**REDIRECT, "destination": "/", "destination_function": "return '/'"}, "destination_function"),
        (
            {**REDIRECT, "destination_function": "return '/'", "preserve_parameters": True},
            "preserve_parameters",
        ),
        ({"type": "custom_css", "value": "", "dependencies": [CODE_ID]}, "dependencies/0"),
    ],
    ids=["operator", "two destinations", "parameters of a function", "dependency elsewhere"],
)
def test_400_for_a_change_that_contradicts_itself(real_app: Any, ids: Any, change: Any, name: str) -> None:
    messages = assert_error(post(real_app, ids, change), 400, "bad_request")["messages"]
    assert list(messages) == [f"/body/variations/0/actions/0/changes/0/{name}"]


def test_201_each_change_shows_what_it_does_unless_it_says_otherwise(real_app: Any, ids: Any) -> None:
    code = {"type": "custom_code", "value": "x", "id": CODE_ID}
    css = {"type": "custom_css", "value": "y", "dependencies": [CODE_ID.upper()]}
    html = {"type": "insert_html", "value": "z", "selector": "a"}
    shown = changes_of(post(real_app, ids, code, css, html).json)
    added = [{name: change[name] for name in change if name != "id"} for change in shown]
    assert added == [
        {"type": "custom_code", "value": "x", "dependencies": [], "async": False},
        {**css, "selector": "head"},
        {**html, "dependencies": [], "operator": "after"},
    ]
    assert shown[0]["id"] == CODE_ID


def test_200_a_change_sent_again_without_its_id_keeps_it(real_app: Any, ids: Any) -> None:
    first, second = ({"type": "custom_code", "value": value} for value in ("first", "second"))
    shared = {"type": "custom_css", "value": "a {}"}
    experiment = post(real_app, ids, first, second, changes=[shared]).json
    (variation,) = experiment["variations"]

    def pushed(*changes: Any) -> Any:
        action = {"page_id": ids["page_id"], "changes": list(changes)}
        body = {"variations": [{**variation, "actions": [action]}], "changes": [shared]}
        address = f"/v2/experiments/{experiment['id']}"
        return real_app.patch_json(address, body, headers=AUTHORIZED).json

    assert pushed(first, second) == experiment
    turned = pushed(second, {**first, "value": "third"})
    assert turned["changes"] == experiment["changes"]
    assert changes_of(turned)[0] == changes_of(experiment)[1]
    assert changes_of(turned)[1]["id"] not in {change["id"] for change in changes_of(experiment)}


def test_400_for_such_a_change_of_a_section_and_of_a_campaign(real_app: Any, ids: Any) -> None:
    dependent = {"type": "custom_css", "value": "", "dependencies": [CODE_ID]}
    body = {"project_id": ids["project_id"], "changes": [dependent]}
    campaign = real_app.post_json("/v2/campaigns", body, headers=AUTHORIZED, expect_errors=True)
    assert list(campaign.json["messages"]) == ["/body/changes/0/dependencies/0"]
    body = {"project_id": ids["project_id"], "type": "multivariate"}
    experiment = real_app.post_json("/v2/experiments", body, headers=AUTHORIZED).json
    action = {"page_id": ids["page_id"], "changes": [dependent]}
    variations = [{"weight": 5000, "actions": [action]}, {"weight": 5000}]
    address = f"/v2/experiments/{experiment['id']}/sections"
    section = real_app.post_json(address, {"variations": variations}, headers=AUTHORIZED, expect_errors=True)
    assert list(section.json["messages"]) == ["/body/variations/0/actions/0/changes/0/dependencies/0"]
