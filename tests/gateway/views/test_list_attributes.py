"""List attributes: uploaded lists of values that visitors are looked up in."""

from typing import Any, ClassVar

import pytest

from optimizely_api.gateway.views import list_attributes
from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import EntityPromises

PATH = "/v2/list_attributes"


class TestListAttributes(EntityPromises):
    path = PATH
    definition = "ListAttribute"
    unique_key = False
    change: ClassVar[dict[str, Any]] = {"description": "Another", "key_field": "customer"}

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {"project_id": ids["project_id"], "name": f"list_{number}", "key_field": "customer_id"}


def post(app: Any, ids: dict[str, int], name: str, **members: Any) -> Any:
    body = {"project_id": ids["project_id"], "name": name, "key_field": "customer_id", **members}
    return app.post_json(PATH, body, headers=AUTHORIZED, expect_errors=True)


def test_201_the_content_is_not_shown_but_where_it_is(real_app: Any, ids: Any) -> None:
    made = post(real_app, ids, "shown", list_content="a,b,c").json
    assert made["s3_path"] == f"lists/{made['id']}"
    assert (made["list_type"], made["description"], made["archived"]) == ("cookies", "", False)
    assert made.keys().isdisjoint({"list_content", "content_sha256", "aws_access_key", "aws_secret_key"})


def test_200_new_content_is_a_change_and_the_same_content_is_none(real_app: Any, ids: Any) -> None:
    made = post(real_app, ids, "renewed", list_content="a").json
    address = f"{PATH}/{made['id']}"
    same = real_app.patch_json(address, {"list_content": "a"}, headers=AUTHORIZED).json
    assert same == made
    other = real_app.patch_json(address, {"list_content": "b"}, headers=AUTHORIZED).json
    assert other["last_modified"] > made["last_modified"]


def test_the_service_keeps_the_latest_content(real_app: Any, ids: Any, real_stack: Any) -> None:
    made = post(real_app, ids, "kept", list_content="a,b").json
    real_app.patch_json(f"{PATH}/{made['id']}", {"list_content": "c"}, headers=AUTHORIZED)
    real_app.patch_json(f"{PATH}/{made['id']}", {"description": "x"}, headers=AUTHORIZED)
    query = "SELECT content FROM list_contents WHERE list_attribute_id = ?"
    assert real_stack.rows("experiments", query, made["id"]) == [("c",)]


def test_400_for_an_entry_that_is_too_long(real_app: Any, ids: Any) -> None:
    assert post(real_app, ids, "long", list_content="a, " + "b" * 100).status_int == 201
    response = post(real_app, ids, "longer", list_content="a," + "b" * 101)
    messages = assert_error(response, 400, "bad_request")["messages"]
    assert messages == {"/body/list_content": "has more than 100 characters in entry 2"}


@pytest.mark.parametrize("archived", [False, True])
def test_400_for_a_name_that_is_taken_also_in_the_archive(real_app: Any, ids: Any, archived: bool) -> None:
    name = f"taken_{archived}"
    holder = post(real_app, ids, name, archived=archived).json
    messages = assert_error(post(real_app, ids, name), 400, "bad_request")["messages"]
    assert messages == {"/body/name": f"is already in use (id: {holder['id']})"}


def test_200_the_list_is_whole_and_ignores_pages(
    real_app: Any, ids: Any, real_stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = {"project_id": real_stack.another_project()["id"]}
    made = [post(real_app, ids, f"all_{number}", **project).json["id"] for number in range(5)]
    monkeypatch.setattr(list_attributes, "AT_ONCE", 2)
    query = f"?project_id={project['project_id']}&page=2&per_page=1"
    response = real_app.get(PATH + query, headers=AUTHORIZED)
    assert [each["id"] for each in response.json] == made
    assert "Link" not in response.headers


def test_400_in_a_project_that_is_not_for_the_web(real_app: Any, ids: Any, real_stack: Any) -> None:
    project = real_stack.another_project(platform="custom")
    error = assert_error(post(real_app, ids, "for_sdks", project_id=project["id"]), 400, "bad_request")
    assert list(error["messages"]) == ["/body/project_id"]
    listed = real_app.get(f"{PATH}?project_id={project['id']}", headers=AUTHORIZED)
    assert listed.json == []
