"""Attributes: what is known of visitors."""

from typing import Any

from tests.support.asserting import AUTHORIZED
from tests.support.promises import EntityPromises


class TestAttributes(EntityPromises):
    path = "/v2/attributes"
    definition = "Attribute"

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {"project_id": ids["project_id"], "key": f"plan {number}", "name": "Plan"}

    def test_201_the_name_is_the_key_unless_given(self, real_app: Any, ids: Any) -> None:
        body = {"project_id": ids["project_id"], "key": "country"}
        attribute = real_app.post_json("/v2/attributes", body, headers=AUTHORIZED).json
        assert attribute["name"] == "country"
