"""What only projects for the web have: pages, click events, campaigns for personalization, multivariate experiments."""

from typing import Any

import pytest

from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.real_services import RealServices


@pytest.fixture(scope="module")
def project_id(real_stack: RealServices) -> int:
    """A project of platform custom."""
    made: int = real_stack.another_project(platform="custom")["id"]
    return made


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("pages", {"name": "Home", "edit_url": "https://shop.example/"}),
        ("campaigns", {"name": "Summer"}),
        ("experiments", {"type": "multivariate"}),
    ],
)
def test_400_in_a_project_that_is_not_for_the_web(
    real_app: Any, project_id: int, path: str, body: dict[str, Any]
) -> None:
    body = {**body, "project_id": project_id}
    response = real_app.post_json(f"/v2/{path}", body, headers=AUTHORIZED, expect_errors=True)
    problem = "names a project of platform custom; only those for the web have this"
    assert assert_error(response, 400, "bad_request")["messages"] == {"/body/project_id": problem}
    listed = real_app.get(f"/v2/{path}?project_id={project_id}", headers=AUTHORIZED)
    assert listed.json == []


def test_400_for_a_click_event_on_a_page_from_before(
    real_app: Any, real_stack: RealServices, project_id: int
) -> None:
    owner = {"account_id": real_stack.account_id, "project_id": project_id}
    page = real_stack.made("experiments", "/pages", **owner, name="Home", edit_url="https://shop.example/")
    body = {"event_type": "click", "name": "Buy", "config": {"selector": "#buy"}}
    address = f"/v2/pages/{page['id']}/events"
    response = real_app.post_json(address, body, headers=AUTHORIZED, expect_errors=True)
    assert list(assert_error(response, 400, "bad_request")["messages"]) == ["/path/page_id"]


def test_201_for_other_experiments_in_any_project(real_app: Any, project_id: int) -> None:
    body = {"project_id": project_id, "type": "a/b"}
    assert real_app.post_json("/v2/experiments", body, headers=AUTHORIZED).status_int == 201
