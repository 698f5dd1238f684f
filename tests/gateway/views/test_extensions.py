"""Extensions: building blocks with fields of their own, that variations insert into pages."""

from typing import Any

import pytest

from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import EntityPromises

PATH = "/v2/extensions"
NO_CODE = {"apply_js": "", "css": "", "html": "", "reset_js": ""}


def field(**members: Any) -> dict[str, Any]:
    return {
        "api_name": "title",
        "default_value": '"Sale"',
        "field_type": "text",
        "label": "Title",
        **members,
    }


def post(app: Any, ids: dict[str, int], **members: Any) -> Any:
    body = {"project_id": ids["project_id"], "name": "Banner", "edit_url": "https://shop.example/"}
    body |= {"implementation": {}, **members}
    return app.post_json(PATH, body, headers=AUTHORIZED, expect_errors=True)


class TestExtensions(EntityPromises):
    path = PATH
    definition = "Extension"
    unique_key = False

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {
            "project_id": ids["project_id"],
            "name": f"Banner {number}",
            "edit_url": "https://shop.example/",
            "implementation": {"html": "<p>Sale</p>"},
            "fields": [field(), field(api_name="shown", field_type="toggle", default_value="true")],
        }


def test_201_what_is_left_out_has_its_default(real_app: Any, ids: Any) -> None:
    made = post(real_app, ids).json
    assert (made["implementation"], made["fields"]) == (NO_CODE, [])
    assert (made["enabled"], made["archived"], made["description"]) == (True, False, "")


def test_201_it_is_never_archived_from_the_start(real_app: Any, ids: Any) -> None:
    assert post(real_app, ids, archived=True).json["archived"] is False


def test_200_a_change_of_some_code_leaves_the_rest(real_app: Any, ids: Any) -> None:
    made = post(real_app, ids, implementation={"html": "<p>Sale</p>", "css": "p {}"}).json
    body = {"implementation": {"css": "p { color: red }"}}
    changed = real_app.patch_json(f"{PATH}/{made['id']}", body, headers=AUTHORIZED).json
    assert changed["implementation"] == {**NO_CODE, "html": "<p>Sale</p>", "css": "p { color: red }"}


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ([field(), field(label="Another")], "/body/fields/1/api_name"),
        ([field(default_value="Sale")], "/body/fields/0/default_value"),
        ([field(default_value="[" * 100_000)], "/body/fields/0/default_value"),
        ([field(field_type="dropdown")], "/body/fields/0/options"),
        ([field(field_type="multi_select", options={"choices": []})], "/body/fields/0/options"),
    ],
    ids=["same name", "not JSON", "deep", "no options", "no choices"],
)
def test_400_for_fields(real_app: Any, ids: Any, fields: Any, pointer: str) -> None:
    error = assert_error(post(real_app, ids, fields=fields), 400, "bad_request")
    assert list(error["messages"]) == [pointer]


def test_201_for_a_field_with_choices(real_app: Any, ids: Any) -> None:
    options = {"choices": [{"label": "Red", "value": "red"}]}
    made = post(real_app, ids, fields=[field(field_type="dropdown", options=options)]).json
    assert made["fields"][0]["options"] == options


def test_400_in_a_project_that_is_not_for_the_web(real_app: Any, ids: Any, real_stack: Any) -> None:
    project = real_stack.another_project(platform="custom")
    error = assert_error(post(real_app, ids, project_id=project["id"]), 400, "bad_request")
    assert list(error["messages"]) == ["/body/project_id"]
    listed = real_app.get(f"{PATH}?project_id={project['id']}", headers=AUTHORIZED)
    assert listed.json == []


def test_200_it_counts_the_experiments_that_use_it_and_are_not_archived(real_app: Any, ids: Any) -> None:
    made = post(real_app, ids).json
    assert made["experiment_count"] == 0
    change = {"type": "extension", "extension_id": str(made["id"]), "config": {}}
    actions = [{"page_id": ids["page_id"], "changes": [change]}]
    variations = [{"name": name, "weight": 5000, "actions": actions} for name in ("A", "B")]
    body = {"project_id": ids["project_id"], "page_ids": [ids["page_id"]], "variations": variations}
    experiment = real_app.post_json("/v2/experiments", body, headers=AUTHORIZED).json
    address = f"{PATH}/{made['id']}"
    assert real_app.get(address, headers=AUTHORIZED).json["experiment_count"] == 1
    real_app.delete(f"/v2/experiments/{experiment['id']}", headers=AUTHORIZED)
    assert real_app.get(address, headers=AUTHORIZED).json["experiment_count"] == 0
