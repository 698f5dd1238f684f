"""Webhooks: addresses of callers that are called when something of a project changes."""

from typing import Any

import pytest

from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import OTHER, EntityPromises
from tests.support.real_services import RealServices

URL = "https://hooks.shop.example/datafile"


class TestWebhooks(EntityPromises):
    path = "/v2/projects/{project_id}/webhooks"
    definition = "Webhook"
    unique_key = False
    deletes = False  # there is no archive: the tests below

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {"name": f"Listener {number}", "url": URL}

    def one(self, ids: dict[str, int], entity: dict[str, Any]) -> str:
        return f"/v2/webhooks/{entity['id']}"

    def created(self, app: Any, ids: Any) -> dict[str, Any]:
        webhook = super().created(app, ids)
        del webhook["secret"]  # which no other response has
        return webhook

    def test_201_what_is_left_out_has_the_documented_values(self, real_app: Any, ids: Any) -> None:
        webhook = self.created(real_app, ids)
        assert webhook["events"] == ["project.datafile_updated"]
        assert (webhook["active"], webhook["description"]) == (True, "")
        assert webhook["project_id"] == ids["project_id"]

    def test_201_the_project_is_the_addresss(self, real_app: Any, ids: Any) -> None:
        body = {**self.body(ids, 0), "project_id": 99}
        webhook = real_app.post_json(self.path_of(ids), body, headers=AUTHORIZED).json
        assert webhook["project_id"] == ids["project_id"]

    def test_201_only_the_response_of_post_has_the_secret(self, real_app: Any, ids: Any) -> None:
        response = real_app.post_json(
            self.path_of(ids), {**self.body(ids, 0), "secret": "mine"}, headers=AUTHORIZED
        )
        assert len(response.json["secret"]) >= 32
        address = self.one(ids, response.json)
        changed = real_app.patch_json(address, {"name": "New"}, headers=AUTHORIZED)
        for later in (changed, real_app.get(address, headers=AUTHORIZED)):
            assert "secret" not in later.json
            assert response.json["secret"] not in later.text

    def test_201_its_etag_is_that_of_a_get(self, real_app: Any, ids: Any) -> None:
        response = real_app.post_json(self.path_of(ids), self.body(ids, 0), headers=AUTHORIZED)
        shown = real_app.get(self.one(ids, response.json), headers=AUTHORIZED)
        assert response.headers["ETag"] == shown.headers["ETag"]

    def test_200_the_address_and_the_events_change(self, real_app: Any, ids: Any) -> None:
        webhook = self.created(real_app, ids)
        changes: dict[str, Any] = {"url": "http://127.0.0.1:8080/", "events": []}
        changed = real_app.patch_json(self.one(ids, webhook), changes, headers=AUTHORIZED).json
        expected = {**webhook, **changes, "last_modified": changed["last_modified"]}
        assert changed == expected

    @pytest.mark.parametrize(
        "url", ["", "hooks", "ftp://a.example/", "https://", "http://a:b/", "http://a /", 5]
    )
    def test_400_for_what_is_no_address(self, real_app: Any, ids: Any, url: Any) -> None:
        webhook = self.created(real_app, ids)
        for method, address in (("POST", self.path_of(ids)), ("PATCH", self.one(ids, webhook))):
            send = real_app.post_json if method == "POST" else real_app.patch_json
            refused = send(address, {"name": "x", "url": url}, headers=AUTHORIZED, expect_errors=True)
            assert list(assert_error(refused, 400, "bad_request")["messages"]) == ["/body/url"]

    @pytest.mark.parametrize("missing", ["name", "url"])
    def test_400_without_a_name_or_an_address(self, real_app: Any, ids: Any, missing: str) -> None:
        body = {name: value for name, value in self.body(ids, 0).items() if name != missing}
        refused = real_app.post_json(self.path_of(ids), body, headers=AUTHORIZED, expect_errors=True)
        assert list(assert_error(refused, 400, "bad_request")["messages"]) == [f"/body/{missing}"]

    def test_400_for_an_unknown_event(self, real_app: Any, ids: Any) -> None:
        body = {**self.body(ids, 0), "events": ["project.gone"]}
        refused = real_app.post_json(self.path_of(ids), body, headers=AUTHORIZED, expect_errors=True)
        assert list(assert_error(refused, 400, "bad_request")["messages"]) == ["/body/events/0"]

    def test_404_after_it_was_deleted(self, real_app: Any, ids: Any) -> None:
        webhook = self.created(real_app, ids)
        address = self.one(ids, webhook)
        assert real_app.delete(address, headers=AUTHORIZED).status_int == 204
        for method in ("DELETE", "GET"):
            again = real_app.request(address, method=method, headers=AUTHORIZED, expect_errors=True)
            assert_error(again, 404, "not_found")
        assert webhook not in real_app.get(self.list_of(ids), headers=AUTHORIZED).json

    def test_403_and_412_for_a_deletion_that_must_not_be(self, real_app: Any, ids: Any) -> None:
        address = self.one(ids, self.created(real_app, ids))
        for headers, status, code in (
            (OTHER, 403, "forbidden"),
            ({**AUTHORIZED, "If-Match": '"another"'}, 412, "precondition_failed"),
        ):
            refused = real_app.delete(address, headers=headers, expect_errors=True)
            assert_error(refused, status, code)
        assert real_app.get(address, headers=AUTHORIZED).status_int == 200


def test_400_for_a_new_webhook_of_an_archived_project(real_app: Any, real_stack: RealServices) -> None:
    project = real_stack.another_project()
    address = f"/v2/projects/{project['id']}"
    real_app.patch_json(address, {"status": "archived"}, headers=AUTHORIZED)
    body = {"name": "Listener", "url": URL}
    response = real_app.post_json(f"{address}/webhooks", body, headers=AUTHORIZED, expect_errors=True)
    error = assert_error(response, 400, "bad_request")
    assert error["messages"] == {"/path/project_id": f"is of project {project['id']}, which is archived"}
