"""What every entity of the contract promises: one class of tests, with what differs beside it."""

from typing import Any, ClassVar

from optimizely_api.contract.load import load
from optimizely_api.runtime.testing import GatewayTestApp
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error

OTHER = {"Authorization": f"Bearer {samples.OTHER_TOKEN}"}


class EntityPromises:
    """Lists, reads and writes through the real gateway and services.

    `path` is the address of the list, `definition` the contract's; `body` makes a body for a new entity, `change` and
    `changed` are a PATCH and what it leads to. `unique_key` says whether keys are unique in the project, `deletes`
    whether DELETE archives it.
    """

    path: ClassVar[str]
    definition: ClassVar[str]
    change: ClassVar[dict[str, Any]] = {"name": "Another name"}
    unique_key: ClassVar[bool] = True
    deletes: ClassVar[bool] = True

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        """A valid body, different for each number."""
        raise NotImplementedError

    _number = 0

    def created(self, app: GatewayTestApp, ids: dict[str, int]) -> dict[str, Any]:
        type(self)._number += 1
        body = self.body(ids, type(self)._number)
        response = app.post_json(self.path_of(ids), body, headers=AUTHORIZED)
        assert response.status_int == 201, response.text
        entity: dict[str, Any] = response.json
        return entity

    def path_of(self, ids: dict[str, int]) -> str:
        return self.path.format(**ids)

    def list_of(self, ids: dict[str, int], query: str = "") -> str:
        """Each entity's list names its project in the query, unless its address does."""
        query = f"project_id={ids['project_id']}&per_page=100{query}"
        return f"{self.path_of(ids)}?{query}"

    def one(self, ids: dict[str, int], entity: dict[str, Any]) -> str:
        return f"{self.path_of(ids)}/{entity['id']}"

    def test_201_the_whole_entity_which_a_get_returns_too(
        self, real_app: GatewayTestApp, ids: dict[str, int]
    ) -> None:
        entity = self.created(real_app, ids)
        assert real_app.get(self.one(ids, entity), headers=AUTHORIZED).json == entity

    def test_nothing_is_shown_but_the_contracts_properties(
        self, real_app: GatewayTestApp, ids: dict[str, int]
    ) -> None:
        properties = load().document["definitions"][self.definition]["properties"]
        assert self.created(real_app, ids).keys() <= properties.keys()

    def test_200_the_list_has_it(self, real_app: GatewayTestApp, ids: dict[str, int]) -> None:
        entity = self.created(real_app, ids)
        assert entity in real_app.get(self.list_of(ids), headers=AUTHORIZED).json

    def test_304_while_it_does_not_change(self, real_app: GatewayTestApp, ids: dict[str, int]) -> None:
        address = self.one(ids, self.created(real_app, ids))
        tag = real_app.get(address, headers=AUTHORIZED).headers["ETag"]
        assert real_app.get(address, headers={**AUTHORIZED, "If-None-Match": tag}).status_int == 304

    def test_200_a_change_of_some_members_leaves_the_others(
        self, real_app: GatewayTestApp, ids: dict[str, int]
    ) -> None:
        entity = self.created(real_app, ids)
        changed = real_app.patch_json(self.one(ids, entity), self.change, headers=AUTHORIZED).json
        ignored = {"last_modified": entity.get("last_modified")}
        assert {**changed, **ignored} == {**entity, **self.change, **ignored}

    def test_200_the_whole_entity_sent_back_changes_nothing(
        self, real_app: GatewayTestApp, ids: dict[str, int]
    ) -> None:
        entity = self.created(real_app, ids)
        for body in ({}, entity):
            assert real_app.patch_json(self.one(ids, entity), body, headers=AUTHORIZED).json == entity

    def test_412_for_a_change_of_another_version(self, real_app: GatewayTestApp, ids: dict[str, int]) -> None:
        address = self.one(ids, self.created(real_app, ids))
        tag = real_app.get(address, headers=AUTHORIZED).headers["ETag"]
        condition = {**AUTHORIZED, "If-Match": tag}
        assert real_app.patch_json(address, self.change, headers=condition).status_int == 200
        late = real_app.patch_json(address, {}, headers=condition, expect_errors=True)
        assert_error(late, 412, "precondition_failed")

    def test_410_for_archiving_it_again_and_409_for_changing_it_there(
        self, real_app: GatewayTestApp, ids: dict[str, int]
    ) -> None:
        if not self.deletes:
            return
        address = self.one(ids, self.created(real_app, ids))
        assert real_app.delete(address, headers=AUTHORIZED).status_int == 204
        assert_error(real_app.delete(address, headers=AUTHORIZED, expect_errors=True), 410, "gone")
        changed = real_app.patch_json(address, self.change, headers=AUTHORIZED, expect_errors=True)
        assert_error(changed, 409, "conflict")
        assert real_app.get(address, headers=AUTHORIZED).status_int == 200

    def test_400_for_a_key_that_is_taken_names_its_holder(
        self, real_app: GatewayTestApp, ids: dict[str, int]
    ) -> None:
        if not self.unique_key:
            return
        entity = self.created(real_app, ids)
        body = {**self.body(ids, 10_000 + type(self)._number), "key": entity["key"]}
        taken = real_app.post_json(self.path_of(ids), body, headers=AUTHORIZED, expect_errors=True)
        error = assert_error(taken, 400, "bad_request")
        assert error["messages"] == {"/body/key": f"is already in use (id: {entity['id']})"}
        assert error["message"] == f"key is already in use (id: {entity['id']})."

    def test_403_for_another_account_and_404_for_an_unknown_one(
        self, real_app: GatewayTestApp, ids: dict[str, int]
    ) -> None:
        entity = self.created(real_app, ids)
        for method in ("GET", "PATCH", *(["DELETE"] if self.deletes else [])):
            body = b"{}" if method == "PATCH" else b""
            for address, headers, status, code in (
                (self.one(ids, entity), OTHER, 403, "forbidden"),
                (self.one(ids, {"id": 99}), AUTHORIZED, 404, "not_found"),
            ):
                response = real_app.request(
                    address, method=method, body=body, headers=headers, expect_errors=True
                )
                assert_error(response, status, code)
        assert real_app.get(self.one(ids, entity), headers=AUTHORIZED).json == entity
