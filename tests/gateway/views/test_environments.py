"""Environments: where the code of a project runs, each with a datafile of its own."""

import re
from typing import Any

import pytest

from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import EntityPromises


def of_a_new_project(app: Any, platform: str) -> Any:
    project = app.post_json("/v2/projects", {"name": "Shop", "platform": platform}, headers=AUTHORIZED).json
    return app.get(f"/v2/environments?project_id={project['id']}", headers=AUTHORIZED).json


class TestEnvironments(EntityPromises):
    path = "/v2/environments"
    definition = "Environment"

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {"project_id": ids["project_id"], "key": f"qa-{number}", "name": "QA"}

    def test_201_a_new_one_comes_last_and_is_not_primary(self, real_app: Any, ids: Any) -> None:
        first, second = [self.created(real_app, ids) for _ in range(2)]
        assert second["priority"] == first["priority"] + 1
        assert (second["is_primary"], second["has_restricted_permissions"]) == (False, False)
        assert (second["archived"], second["description"]) == (False, "")

    def test_201_whatever_the_body_says_of_read_only_members(self, real_app: Any, ids: Any) -> None:
        body = {**self.body(ids, 9_000), "is_primary": True, "datafile": {"sdk_key": "mine", "revision": 7}}
        environment = real_app.post_json(self.path, body, headers=AUTHORIZED).json
        assert environment["is_primary"] is False
        assert environment["datafile"]["sdk_key"] != "mine"

    def test_201_its_datafile_lies_where_the_caller_reaches_us(self, real_app: Any, ids: Any) -> None:
        entity = self.created(real_app, ids)
        datafile = entity["datafile"]
        assert re.fullmatch("[A-Za-z0-9_-]{22}", datafile["sdk_key"])
        assert datafile.keys() == {"id", "latest_file_size", "other_urls", "revision", "sdk_key", "url"}
        assert (datafile["revision"], datafile["other_urls"]) == (1, [])
        assert datafile["url"] == f"http://localhost/datafiles/{datafile['sdk_key']}.json"
        headers = {**AUTHORIZED, "Host": "api.shop.example"}
        shown = real_app.get(self.one(ids, entity), headers=headers).json["datafile"]["url"]
        assert shown == f"http://api.shop.example/datafiles/{datafile['sdk_key']}.json"

    def test_200_the_sdk_key_stays_when_the_key_changes(self, real_app: Any, ids: Any) -> None:
        entity = self.created(real_app, ids)
        changes = {"key": entity["key"] + "-new", "datafile": {"sdk_key": "mine"}}
        changed = real_app.patch_json(self.one(ids, entity), changes, headers=AUTHORIZED).json
        assert changed["key"] == changes["key"]
        same = ("id", "sdk_key", "url")
        assert {name: changed["datafile"][name] for name in same} == {
            name: entity["datafile"][name] for name in same
        }

    def test_200_an_archived_one_comes_back(self, real_app: Any, ids: Any) -> None:
        address = self.one(ids, self.created(real_app, ids))
        real_app.delete(address, headers=AUTHORIZED)
        assert real_app.get(address, headers=AUTHORIZED).json["archived"] is True
        back = real_app.patch_json(address, {"archived": False}, headers=AUTHORIZED).json
        assert back["archived"] is False

    def test_400_the_primary_one_cannot_be_archived(self, real_app: Any, ids: Any) -> None:
        address = self.one(ids, of_a_new_project(real_app, "web")[0])
        for method, body in (("DELETE", b""), ("PATCH", b'{"archived": true}')):
            refused = real_app.request(
                address, method=method, body=body, headers=AUTHORIZED, expect_errors=True
            )
            assert list(assert_error(refused, 400, "bad_request")["messages"]) == ["/body/archived"]
        assert real_app.get(address, headers=AUTHORIZED).json["archived"] is False

    def test_400_for_a_key_of_other_characters(self, real_app: Any, ids: Any) -> None:
        for key in ("a b", "ä", "", "x" * 65):
            body = {**self.body(ids, 0), "key": key}
            refused = real_app.post_json(self.path, body, headers=AUTHORIZED, expect_errors=True)
            assert list(assert_error(refused, 400, "bad_request")["messages"]) == ["/body/key"]

    def test_400_for_an_unknown_project(self, real_app: Any, ids: Any) -> None:
        body = {**self.body(ids, 0), "project_id": 99}
        refused = real_app.post_json(self.path, body, headers=AUTHORIZED, expect_errors=True)
        assert list(assert_error(refused, 400, "bad_request")["messages"]) == ["/body/project_id"]


@pytest.mark.parametrize(
    ("platform", "keys"),
    [("web", ["production"])]
    + [(name, ["production", "development"]) for name in ("custom", "ios", "android")],
)
def test_a_new_project_has_environments(real_app: Any, ids: Any, platform: str, keys: list[str]) -> None:
    environments = of_a_new_project(real_app, platform)
    assert [environment["key"] for environment in environments] == keys
    assert [environment["priority"] for environment in environments] == list(range(1, len(keys) + 1))
    production = environments[0]
    assert (production["name"], production["is_primary"]) == ("Production", True)
    assert production["has_restricted_permissions"] is True
    for development in environments[1:]:
        assert (development["name"], development["is_primary"]) == ("Development", False)
        assert development["has_restricted_permissions"] is False
