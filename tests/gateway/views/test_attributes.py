"""Attributes: what is known of visitors."""

from typing import Any

from tests.support.asserting import AUTHORIZED
from tests.support.promises import EntityPromises
from tests.support.real_services import RealServices


class TestAttributes(EntityPromises):
    path = "/v2/attributes"
    definition = "Attribute"

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {"project_id": ids["project_id"], "key": f"plan {number}", "name": "Plan"}

    def test_201_the_name_is_the_key_unless_given(self, real_app: Any, ids: Any) -> None:
        body = {"project_id": ids["project_id"], "key": "country"}
        attribute = real_app.post_json("/v2/attributes", body, headers=AUTHORIZED).json
        assert attribute["name"] == "country"

    def test_the_name_is_always_the_key_in_a_project_that_is_not_for_the_web(
        self, real_app: Any, real_stack: RealServices
    ) -> None:
        project_id = real_stack.another_project(platform="custom")["id"]
        body = {"project_id": project_id, "key": "plan", "name": "Plan"}
        made = real_app.post_json("/v2/attributes", body, headers=AUTHORIZED).json
        assert made["name"] == "plan"
        address = f"/v2/attributes/{made['id']}"
        renamed = real_app.patch_json(address, {"name": "Tariff"}, headers=AUTHORIZED).json
        assert (renamed["key"], renamed["name"]) == ("plan", "plan")
        changed = real_app.patch_json(address, {"key": "tariff"}, headers=AUTHORIZED).json
        assert (changed["key"], changed["name"]) == ("tariff", "tariff")
