"""Projects: created, changed, put away and brought back."""

from typing import Any

import pytest

from tests.gateway.views.test_experiments import SOMEWHERE, change, create
from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import EntityPromises


def created(app: Any, **body: Any) -> Any:
    return app.post_json("/v2/projects", {"name": "Shop", **body}, headers=AUTHORIZED).json


def changed(app: Any, project: Any, **changes: Any) -> Any:
    return app.patch_json(f"/v2/projects/{project['id']}", changes, headers=AUTHORIZED).json


def refused(app: Any, **body: Any) -> Any:
    response = app.post_json("/v2/projects", {"name": "Shop", **body}, headers=AUTHORIZED, expect_errors=True)
    return assert_error(response, 400, "bad_request")["messages"]


class TestProjects(EntityPromises):
    path = "/v2/projects"
    definition = "Project"
    unique_key = False
    deletes = False

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {"name": f"App {number}", "platform": "custom"}

    def list_of(self, ids: dict[str, int], query: str = "") -> str:
        return f"{self.path}?per_page=100{query}"


def test_201_the_account_is_the_tokens_whatever_the_body_says(
    real_app: Any, real_stack: Any, ids: Any
) -> None:
    project = created(real_app, account_id=real_stack.other_account_id, id=5, is_classic=True)
    assert project["account_id"] == real_stack.account_id
    assert (project["id"] != 5, project["is_classic"]) == (True, False)


def test_201_what_is_left_out_has_the_documented_values(real_app: Any, ids: Any) -> None:
    project = created(real_app)
    assert project.keys() == {
        *("account_id", "confidence_threshold", "created", "description", "id", "is_classic"),
        *("is_flags_enabled", "last_modified", "name", "platform", "status", "web_snippet"),
    }
    assert (project["platform"], project["status"], project["description"]) == ("web", "active", "")
    assert (project["confidence_threshold"], project["is_flags_enabled"]) == (0.9, False)
    snippet = project["web_snippet"]
    assert snippet.pop("js_file_size") > 0
    assert snippet == {
        "code_revision": 1,
        "enable_force_variation": False,
        "exclude_disabled_experiments": False,
        "exclude_names": True,
        "include_jquery": True,
        "ip_anonymization": False,
        "library": "jquery-1.11.3-trim",
    }


def test_201_a_project_with_sdks_has_no_snippet(real_app: Any, ids: Any) -> None:
    project = created(real_app, platform="custom")
    assert project["sdks"] == []
    assert "web_snippet" not in project


@pytest.mark.parametrize("platform", ["ios", "android"])
def test_201_a_mobile_project_has_a_socket_token(real_app: Any, ids: Any, platform: str) -> None:
    project = created(real_app, platform=platform)
    text, project_id = project["socket_token"].split("~")
    assert (len(text), project_id) == (22, str(project["id"]))


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": " "}, "/body/name"),
        ({"confidence_threshold": 0.4}, "/body/confidence_threshold"),
        ({"platform": "web", "third_party_platform": "salesforce"}, "/body/third_party_platform"),
        ({"is_flags_enabled": True}, "/body/is_flags_enabled"),
        ({"platform": "custom", "web_snippet": {}}, "/body/web_snippet"),
        ({"web_snippet": {"ip_filter": "("}}, "/body/web_snippet/ip_filter"),
        ({"web_snippet": {"ip_filter": "1" * 1501}}, "/body/web_snippet/ip_filter"),
    ],
    ids=str,
)
def test_400_names_the_member(real_app: Any, ids: Any, body: Any, pointer: str) -> None:
    assert list(refused(real_app, **body)) == [pointer]


def test_200_a_snippets_members_are_changed_one_by_one(real_app: Any, ids: Any) -> None:
    project = created(real_app, web_snippet={"ip_filter": "^192\\.0\\.2\\."})
    snippet = changed(real_app, project, web_snippet={"include_jquery": False})["web_snippet"]
    assert (snippet["include_jquery"], snippet["library"]) == (False, project["web_snippet"]["library"])


def test_200_the_revision_of_a_snippet_counts_what_reaches_the_script(real_app: Any, ids: Any) -> None:
    project = created(real_app)

    def snippet() -> tuple[int, int]:
        shown = real_app.get(f"/v2/projects/{project['id']}", headers=AUTHORIZED).json["web_snippet"]
        return shown["code_revision"], shown["js_file_size"]

    _, size = snippet()
    experiment = create(real_app, {"project_id": project["id"]}, **SOMEWHERE)
    assert snippet()[0] == 2
    assert snippet()[1] > size + 100
    change(real_app, experiment, "?action=start")
    assert snippet()[0] == 3
    change(real_app, experiment, "?action=start")  # it runs already
    assert snippet()[0] == 3
    change(real_app, experiment, "?action=pause")
    assert snippet()[0] == 4
    changed(real_app, project, web_snippet={"project_javascript": "window.shop = {};"})
    assert snippet()[0] == 5
    listed = real_app.get("/v2/projects?per_page=100", headers=AUTHORIZED).json
    assert [one["web_snippet"]["code_revision"] for one in listed if one["id"] == project["id"]] == [5]


def test_200_the_platform_never_changes(real_app: Any, ids: Any) -> None:
    project = created(real_app)
    assert changed(real_app, project, platform="custom", sdks=["python"], id=5) == project


def test_409_an_archived_project_changes_only_to_come_back(real_app: Any, ids: Any) -> None:
    project = created(real_app)
    address = f"/v2/projects/{project['id']}"
    assert changed(real_app, project, status="archived")["status"] == "archived"
    late = real_app.patch_json(address, {"name": "New"}, headers=AUTHORIZED, expect_errors=True)
    assert_error(late, 409, "conflict")
    back = changed(real_app, project, status="active", name="New")
    assert (back["status"], back["name"]) == ("active", "New")


def test_400_nothing_new_in_an_archived_project(real_app: Any, ids: Any) -> None:
    project = created(real_app)
    changed(real_app, project, status="archived")
    body = {"project_id": project["id"], "key": "qa", "name": "QA"}
    response = real_app.post_json("/v2/environments", body, headers=AUTHORIZED, expect_errors=True)
    assert list(assert_error(response, 400, "bad_request")["messages"]) == ["/body/project_id"]
