"""Pages: where on a site experiments run and click events happen."""

from typing import Any

from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import EntityPromises


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
