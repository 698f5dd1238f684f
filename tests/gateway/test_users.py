"""Users with roles, through the real gateway and services."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from optimizely_api import main
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.real_services import AS_GATEWAY, RealServices


class Person:
    """A user of the account, with a token."""

    def __init__(self, stack: RealServices, **roles: str) -> None:
        self.email, self._stack = f"{uuid.uuid4().hex}@shop.example", stack
        path = f"/accounts/{stack.account_id}"
        self.user = stack.made("projects", f"{path}/users", email=self.email, first_name="Ada")
        token = stack.made("projects", f"{path}/tokens", name="laptop", user_id=self.user["id"])["token"]
        self.headers = {"Authorization": f"Bearer {token}"}
        for project_id, role in roles.items():
            self.becomes(role, int(project_id.removeprefix("p")))

    def becomes(self, role: str, project_id: int) -> None:
        path = f"/accounts/{self._stack.account_id}/users/{self.user['id']}/roles/{project_id}"
        url = self._stack.urls["projects"] + path
        answer = requests.put(url, json={"role": role}, headers=AS_GATEWAY, timeout=30)
        assert answer.status_code == 200, answer.text

    def gets(self, app: Any, path: str) -> Any:
        return app.get(path, headers=self.headers, expect_errors=True)


@pytest.fixture(scope="module")
def other_app(real_stack: RealServices) -> Iterator[GatewayTestApp]:
    """A second gateway, which has its own memory of identities."""
    with GatewayTestApp(main({}, **real_stack.settings(), identity_cache_seconds="600")) as app:
        yield app


def test_403_and_no_line_in_lists_without_a_role(real_app: Any, real_stack: RealServices, ids: Any) -> None:
    other = real_stack.another_project()
    somebody = Person(real_stack, **{f"p{other['id']}": "viewer"})
    assert [one["id"] for one in somebody.gets(real_app, "/v2/projects").json] == [other["id"]]
    assert somebody.gets(real_app, "/v2/experiments").json == []
    assert somebody.gets(real_app, "/v2/search?query=").json == []
    for path in (
        f"/v2/projects/{ids['project_id']}",
        f"/v2/experiments/{ids['experiment_id']}/results",
        f"/v2/experiments?project_id={ids['project_id']}",
        f"/v2/search?query=&project_id={ids['project_id']}",
        f"/v2/changes?project_id={ids['project_id']}",
    ):
        assert_error(somebody.gets(real_app, path), 403, "forbidden", "has no role in project")


def test_lists_without_a_project_are_of_all_ones_projects(
    real_app: Any, real_stack: RealServices, ids: Any
) -> None:
    other = real_stack.another_project()
    somebody = Person(real_stack, **{f"p{other['id']}": "viewer", f"p{ids['project_id']}": "editor"})
    assert {one["id"] for one in somebody.gets(real_app, "/v2/projects").json} == {
        other["id"],
        ids["project_id"],
    }
    listed = somebody.gets(real_app, "/v2/experiments?per_page=100").json
    assert ids["experiment_id"] in [one["id"] for one in listed]
    nobody = Person(real_stack)
    for path in ("/v2/projects", "/v2/experiments", "/v2/search?query="):
        assert nobody.gets(real_app, path).json == []


def test_a_new_role_counts_at_once_in_every_gateway(
    real_app: Any, other_app: Any, real_stack: RealServices, ids: Any
) -> None:
    somebody, path = Person(real_stack), f"/v2/projects/{ids['project_id']}"
    for app in (real_app, other_app):
        assert somebody.gets(app, path).status_int == 403
    somebody.becomes("viewer", ids["project_id"])
    for app in (real_app, other_app):
        assert somebody.gets(app, path).status_int == 200


def test_who_creates_a_project_owns_it(
    real_app: Any, other_app: Any, real_stack: RealServices, ids: Any
) -> None:
    viewer = Person(real_stack, **{f"p{ids['project_id']}": "publisher"})
    refused = real_app.post_json("/v2/projects", {"name": "Mine"}, headers=viewer.headers, expect_errors=True)
    assert_error(refused, 403, "forbidden", "project_owner of no project")
    owner = Person(real_stack, **{f"p{ids['project_id']}": "project_owner"})
    assert owner.gets(other_app, f"/v2/projects/{ids['project_id']}").status_int == 200
    made = real_app.post_json("/v2/projects", {"name": "Mine"}, headers=owner.headers).json
    path = f"/v2/projects/{made['id']}"
    for app in (real_app, other_app):
        changed = app.patch_json(path, {"description": "New"}, headers=owner.headers)
        assert changed.status_int == 200
    assert_error(viewer.gets(real_app, path), 403, "forbidden")


def test_a_token_without_a_user_is_an_administrators(real_app: Any, ids: Any) -> None:
    assert real_app.get("/v2/plan", headers=AUTHORIZED).status_int == 200


def test_the_history_names_the_user(real_app: Any, real_stack: RealServices, ids: Any) -> None:
    editor = Person(real_stack, **{f"p{ids['project_id']}": "editor"})
    body = {"project_id": ids["project_id"], "key": uuid.uuid4().hex}
    made = real_app.post_json("/v2/attributes", body, headers=editor.headers).json
    path = f"/v2/changes?project_id={ids['project_id']}&entity=attribute:{made['id']}&user={editor.email}"
    (change,) = editor.gets(real_app, path).json
    assert change["user"] == {"id": editor.user["id"], "email": editor.email}


def test_me_is_the_user_of_the_token(real_app: Any, real_stack: RealServices, ids: Any) -> None:
    other = real_stack.another_project()
    somebody = Person(real_stack, **{f"p{ids['project_id']}": "editor", f"p{other['id']}": "viewer"})
    me = somebody.gets(real_app, "/v2/me").json
    profile = {"email": somebody.email, "first_name": "Ada", "last_name": "", "profile_image": ""}
    account = {"id": real_stack.account_id}
    assert me == {"id": somebody.user["id"], "profile": profile, "current_account": account}
    whole = somebody.gets(real_app, "/v2/me?expand=project_roles,accounts&include_features=true").json
    assert whole == {
        **me,
        "current_account": {**account, "features": {}},
        "accounts": [{**account, "name": "Account"}],
        "project_roles": [
            {"project_id": ids["project_id"], "role": "editor"},
            {"project_id": other["id"], "role": "viewer"},
        ],
    }


def test_me_without_a_user_is_an_administrator(real_app: Any, real_stack: RealServices, ids: Any) -> None:
    me = real_app.get("/v2/me?expand=project_roles&expand=accounts", headers=AUTHORIZED).json
    assert me.keys() == {"current_account", "accounts", "project_roles"}
    assert {"project_id": ids["project_id"], "role": "administrator"} in me["project_roles"]


def test_collaborators_are_the_users_with_their_roles(
    real_app: Any, real_stack: RealServices, ids: Any
) -> None:
    other = real_stack.another_project()
    both = Person(real_stack, **{f"p{ids['project_id']}": "editor", f"p{other['id']}": "viewer"})
    one = Person(real_stack, **{f"p{ids['project_id']}": "publisher"})
    listed = real_app.get("/v2/collaborators", headers=AUTHORIZED).json
    assert [user["id"] for user in listed][-2:] == [both.user["id"], one.user["id"]]
    assert listed[-1]["project_roles"] == [{"project_id": ids["project_id"], "role": "publisher"}]
    assert listed[-1]["profile"]["email"] == one.email
    query = f"project_id={ids['project_id']}&project_id={other['id']}"
    (entry,) = real_app.get(f"/v2/collaborators?{query}", headers=AUTHORIZED).json
    assert entry["id"] == both.user["id"]
    assert_error(both.gets(real_app, "/v2/collaborators"), 403, "forbidden", "for administrators")
