"""Pages: where on a site experiments run and click events happen."""

from typing import Any

from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import EntityPromises
from tests.support.real_services import RealServices


class TestPages(EntityPromises):
    path = "/v2/pages"
    definition = "Page"

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {
            "project_id": ids["project_id"],
            "name": f"Checkout {number}",
            "edit_url": "https://shop.example/",
        }

    def test_201_the_key_follows_from_the_name(self, real_app: Any, ids: Any) -> None:
        body = {"project_id": ids["project_id"], "name": "Über uns!", "edit_url": "https://shop.example/"}
        keys = [real_app.post_json("/v2/pages", body, headers=AUTHORIZED).json["key"] for _ in range(2)]
        assert keys == [f"{ids['project_id']}_ber_uns", f"{ids['project_id']}_ber_uns_2"]

    def test_400_for_activation_by_code_without_code(self, real_app: Any, ids: Any) -> None:
        body = {**self.body(ids, 0), "activation_type": "polling"}
        response = real_app.post_json("/v2/pages", body, headers=AUTHORIZED, expect_errors=True)
        assert list(assert_error(response, 400, "bad_request")["messages"]) == ["/body/activation_code"]

    def test_409_while_a_running_experiment_uses_it(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        page = self.created(real_app, ids)
        running = real_stack.another_experiment("start", page_ids=[page["id"]])
        address = self.one(ids, page)
        deleted = real_app.delete(address, headers=AUTHORIZED, expect_errors=True)
        assert f"experiment {running['id']}," in assert_error(deleted, 409, "conflict")["message"]
        patched = real_app.patch_json(address, {"archived": True}, headers=AUTHORIZED, expect_errors=True)
        assert_error(patched, 409, "conflict")
        real_stack.act(running["id"], "pause")
        assert real_app.delete(address, headers=AUTHORIZED).status_int == 204

    def test_409_while_a_variation_of_a_running_experiment_changes_it(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        page = self.created(real_app, ids)
        actions = [{"page_id": page["id"], "changes": []}]
        variations = [{"name": "Only", "weight": 10000, "actions": actions}]
        real_stack.another_experiment("start", page_ids=[page["id"]], variations=variations)
        deleted = real_app.delete(self.one(ids, page), headers=AUTHORIZED, expect_errors=True)
        assert_error(deleted, 409, "conflict")

    def test_409_while_a_running_experience_has_it_from_its_campaign(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        page = self.created(real_app, ids)
        body = {"account_id": real_stack.account_id, "project_id": ids["project_id"]}
        campaign = real_stack.made(
            "experiments", "/layers", **body, type="personalization", page_ids=[page["id"]]
        )
        real_stack.another_experiment("start", campaign_id=campaign["id"], type="personalization")
        deleted = real_app.delete(self.one(ids, page), headers=AUTHORIZED, expect_errors=True)
        assert_error(deleted, 409, "conflict")

    def test_conditions_come_back_with_sorted_keys_and_in_ascii(self, real_app: Any, ids: Any) -> None:
        body = {**self.body(ids, 0), "conditions": '["and",{"value":"é","type":"url","match_type":"exact"}]'}
        page = real_app.post_json(self.path, body, headers=AUTHORIZED).json
        text = '["and", {"match_type": "exact", "type": "url", "value": "\\u00e9"}]'
        assert page["conditions"] == text
        again = {"conditions": body["conditions"]}
        assert real_app.patch_json(self.one(ids, page), again, headers=AUTHORIZED).json == page
        other = {"conditions": '["or",{"value":"b","type":"url"}]'}
        changed = real_app.patch_json(self.one(ids, page), other, headers=AUTHORIZED).json
        assert changed["conditions"] == '["or", {"type": "url", "value": "b"}]'
