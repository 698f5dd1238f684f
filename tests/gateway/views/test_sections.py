"""Sections: the parts of multivariate experiments, whose variations are combined to those of the experiment."""

from typing import Any

import pytest

from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import EntityPromises
from tests.support.real_services import ADDRESS, RealServices


def experiment_of(stack: RealServices, action: str = "publish", **members: Any) -> Any:
    owner = {"account_id": stack.account_id, "project_id": stack.ids["project_id"]}
    where = {"url_targeting": ADDRESS} if action == "start" else {}
    body = {"type": "multivariate", **owner, **where, **members}
    return stack.made("experiments", f"/experiments?action={action}", **body)


def variations(*weights: int, name: str = "Text") -> list[dict[str, Any]]:
    return [{"name": f"{name} {number}", "weight": weight} for number, weight in enumerate(weights, 1)]


@pytest.fixture
def ids(real_stack: RealServices) -> dict[str, int]:
    """With a multivariate experiment of the test's own."""
    return {**real_stack.ids, "experiment_id": experiment_of(real_stack)["id"]}


class TestSections(EntityPromises):
    path = "/v2/experiments/{experiment_id}/sections"
    definition = "Section"
    unique_key = False

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {"variations": variations(5000, 5000)}

    def list_of(self, ids: dict[str, int], query: str = "") -> str:
        return f"{self.path_of(ids)}?per_page=100{query}"

    def section(self, app: Any, ids: Any, *weights: int, **members: Any) -> Any:
        name = members.pop("part", "Text")
        body = {"variations": variations(*weights, name=name), **members}
        return app.post_json(self.path_of(ids), body, headers=AUTHORIZED, expect_errors=True)

    def combinations(self, app: Any, ids: Any) -> Any:
        return app.get(f"/v2/experiments/{ids['experiment_id']}", headers=AUTHORIZED).json["variations"]

    def test_201_a_section_is_numbered_and_knows_where_it_belongs(self, real_app: Any, ids: Any) -> None:
        first, second = self.created(real_app, ids), self.created(real_app, ids)
        assert (first["name"], second["name"]) == ("Section 1", "Section 2")
        assert (first["project_id"], first["experiment_id"]) == (ids["project_id"], ids["experiment_id"])

    def test_201_the_experiments_variations_are_all_combinations(self, real_app: Any, ids: Any) -> None:
        self.section(real_app, ids, 5000, 5000, part="Head")
        self.section(real_app, ids, 3333, 3333, 3334, part="Foot")
        combined = self.combinations(real_app, ids)
        assert [one["name"] for one in combined] == [
            f"Head {head} / Foot {foot}" for head in (1, 2) for foot in (1, 2, 3)
        ]
        assert [one["weight"] for one in combined] == [1667, 1667, 1667, 1666, 1666, 1667]
        assert len({one["variation_id"] for one in combined}) == 6

    def test_200_a_combination_keeps_its_id_as_long_as_its_parts_are_there(
        self, real_app: Any, ids: Any
    ) -> None:
        section = self.section(real_app, ids, 5000, 5000).json
        before = [one["variation_id"] for one in self.combinations(real_app, ids)]
        more = [{**section["variations"][0], "weight": 0}, section["variations"][1], *variations(5000)]
        changed = real_app.patch_json(self.one(ids, section), {"variations": more}, headers=AUTHORIZED).json
        after = self.combinations(real_app, ids)
        assert [one["variation_id"] for one in after[:2]] == before
        assert [one["weight"] for one in after] == [0, 5000, 5000]
        assert [one["variation_id"] for one in changed["variations"][:2]] == [
            one["variation_id"] for one in section["variations"]
        ]

    def test_200_a_paused_variation_leaves_its_share_to_the_others(self, real_app: Any, ids: Any) -> None:
        section = self.section(real_app, ids, 2000, 4000, 4000).json
        first, *others = section["variations"]
        paused = {"variations": [{**first, "status": "paused"}, *others]}
        real_app.patch_json(self.one(ids, section), paused, headers=AUTHORIZED)
        assert [one["weight"] for one in self.combinations(real_app, ids)] == [5000, 5000]

    def test_201_a_combination_does_on_each_page_what_its_parts_do(self, real_app: Any, ids: Any) -> None:
        for code in ("1", "2"):
            change = {"type": "custom_code", "value": code}
            first, second = variations(5000, 5000)
            first["actions"] = [{"page_id": ids["page_id"], "changes": [change]}]
            body = {"variations": [first, second]}
            real_app.post_json(self.path_of(ids), body, headers=AUTHORIZED)
        (action,) = self.combinations(real_app, ids)[0]["actions"]
        assert [change["value"] for change in action["changes"]] == ["1", "2"]

    def test_204_the_last_section_takes_the_combinations_with_it(self, real_app: Any, ids: Any) -> None:
        section = self.created(real_app, ids)
        real_app.delete(self.one(ids, section), headers=AUTHORIZED)
        assert self.combinations(real_app, ids) == []

    def test_201_variations_of_a_new_experiment_are_its_first_section(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        experiment = experiment_of(real_stack, variations=variations(4000, 6000))
        ids = {**ids, "experiment_id": experiment["id"]}
        (section,) = real_app.get(self.list_of(ids), headers=AUTHORIZED).json
        assert [one["weight"] for one in section["variations"]] == [4000, 6000]
        assert [one["name"] for one in experiment["variations"]] == ["Text 1", "Text 2"]

    @pytest.mark.parametrize("weights", [(10000,), (5000, 5001), ()])
    def test_400_for_too_few_variations_and_for_weights_that_are_not_a_whole(
        self, real_app: Any, ids: Any, weights: Any
    ) -> None:
        error = assert_error(self.section(real_app, ids, *weights), 400, "bad_request")
        assert list(error["messages"]) == ["/body/variations"]

    def test_400_for_more_than_a_hundred_combinations(self, real_app: Any, ids: Any) -> None:
        assert self.section(real_app, ids, *[1000] * 10).status_int == 201
        assert self.section(real_app, ids, *[1000] * 10).status_int == 201
        error = assert_error(self.section(real_app, ids, 5000, 5000), 400, "bad_request")
        assert error["messages"] == {"/body/variations": "there would be 200 combinations, more than 100"}

    def test_400_for_a_variation_of_another_section(self, real_app: Any, ids: Any) -> None:
        section, other = self.created(real_app, ids), self.created(real_app, ids)
        body = {"variations": other["variations"]}
        answer = real_app.patch_json(self.one(ids, section), body, headers=AUTHORIZED, expect_errors=True)
        assert list(assert_error(answer, 400, "bad_request")["messages"]) == [
            "/body/variations/0/variation_id"
        ]

    def test_400_and_an_empty_list_for_an_experiment_that_is_not_multivariate(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        ids = {**ids, "experiment_id": experiment_of(real_stack, type="a/b")["id"]}
        assert real_app.get(self.list_of(ids), headers=AUTHORIZED).json == []
        assert_error(self.section(real_app, ids, 5000, 5000), 400, "bad_request")

    def test_409_for_every_change_after_the_start(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        experiment = experiment_of(real_stack, "start", variations=variations(5000, 5000))
        ids = {**ids, "experiment_id": experiment["id"]}
        (section,) = real_app.get(self.list_of(ids), headers=AUTHORIZED).json
        address = self.one(ids, section)
        answers = [
            self.section(real_app, ids, 5000, 5000),
            real_app.patch_json(address, {"name": "New"}, headers=AUTHORIZED, expect_errors=True),
            real_app.delete(address, headers=AUTHORIZED, expect_errors=True),
        ]
        for answer in answers:
            assert_error(answer, 409, "conflict")
        assert real_app.patch_json(address, section, headers=AUTHORIZED).json == section

    def test_404_under_another_experiment(self, real_app: Any, ids: Any, real_stack: RealServices) -> None:
        section = self.created(real_app, ids)
        elsewhere = self.one({**ids, "experiment_id": experiment_of(real_stack)["id"]}, section)
        assert_error(real_app.get(elsewhere, headers=AUTHORIZED, expect_errors=True), 404, "not_found")


def test_400_for_an_action_without_a_page_where_the_experiment_has_none(real_app: Any, ids: Any) -> None:
    change = {"type": "custom_code", "value": "x"}
    given = [{"weight": 5000, "actions": [{"changes": [change]}]}, {"weight": 5000}]
    address = f"/v2/experiments/{ids['experiment_id']}/sections"
    refused = real_app.post_json(address, {"variations": given}, headers=AUTHORIZED, expect_errors=True)
    messages = assert_error(refused, 400, "bad_request")["messages"]
    assert list(messages) == ["/body/variations/0/actions/0/page_id"]
