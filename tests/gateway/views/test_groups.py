"""Groups: experiments and campaigns that exclude each other."""

from typing import Any

from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import EntityPromises
from tests.support.real_services import RealServices


def an_experiment(stack: RealServices, **members: Any) -> Any:
    owner = {"account_id": stack.account_id, "project_id": stack.ids["project_id"]}
    return stack.made("experiments", "/experiments", **{**owner, **members})


def a_campaign(stack: RealServices) -> Any:
    owner = {"account_id": stack.account_id, "project_id": stack.ids["project_id"]}
    return stack.made("experiments", "/layers", **owner, type="personalization")


def entry(entity: dict[str, Any], weight: int = 5000, kind: str = "Experiment") -> dict[str, Any]:
    return {"kind": kind, "id": entity["id"], "weight": weight}


class TestGroups(EntityPromises):
    path = "/v2/groups"
    definition = "Group"
    unique_key = False

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {"project_id": ids["project_id"], "name": f"Checkout {number}"}

    def group(self, real_app: Any, ids: Any, *entities: Any) -> Any:
        body = {**self.body(ids, 0), "entities": list(entities)}
        return real_app.post_json(self.path, body, headers=AUTHORIZED, expect_errors=True)

    def test_201_a_group_is_empty_unless_entities_are_given(self, real_app: Any, ids: Any) -> None:
        group = self.created(real_app, ids)
        assert (group["entities"], group["description"], group["archived"]) == ([], "", False)

    def test_201_with_experiments_and_personalization_campaigns(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        entities = [entry(an_experiment(real_stack)), entry(a_campaign(real_stack), 3000, "Campaign")]
        assert self.group(real_app, ids, *entities).json["entities"] == entities

    def test_201_the_campaign_of_a_lone_experiment_stands_for_the_experiment(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        experiment = an_experiment(real_stack)
        campaign = {"kind": "Campaign", "id": experiment["campaign_id"], "weight": 100}
        assert self.group(real_app, ids, campaign).json["entities"] == [entry(experiment, 100)]

    def test_400_for_more_than_all_traffic(self, real_app: Any, ids: Any, real_stack: RealServices) -> None:
        entities = [entry(an_experiment(real_stack), 5001) for _ in range(2)]
        error = assert_error(self.group(real_app, ids, *entities), 400, "bad_request")
        assert error["messages"] == {"/body/entities": "the weights add up to 10002, more than 10000"}

    def test_400_for_the_same_experiment_twice(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        once = entry(an_experiment(real_stack), 100)
        error = assert_error(self.group(real_app, ids, once, once), 400, "bad_request")
        assert error["messages"] == {"/body/entities/1/id": "stands there twice"}

    def test_400_for_an_experiment_in_another_group(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        member = entry(an_experiment(real_stack), 100)
        holder = self.group(real_app, ids, member).json
        error = assert_error(self.group(real_app, ids, member), 400, "bad_request")
        assert error["messages"] == {"/body/entities/0/id": f"is in group {holder['id']} already"}

    def test_400_for_what_is_unknown_archived_or_of_another_project_or_kind(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        archived = an_experiment(real_stack)
        real_stack.archived("experiments", f"/experiments/{archived['id']}")
        elsewhere = an_experiment(real_stack, project_id=99)
        campaign = a_campaign(real_stack)
        wrong = [entry({"id": 99}, 1), entry(archived, 1), entry(elsewhere, 1), entry(campaign, 1)]
        error = assert_error(self.group(real_app, ids, *wrong), 400, "bad_request")
        assert sorted(error["messages"]) == [f"/body/entities/{number}/id" for number in range(4)]

    def test_200_an_experiment_archived_later_stays_in_its_group(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        experiment = an_experiment(real_stack)
        group = self.group(real_app, ids, entry(experiment)).json
        real_stack.archived("experiments", f"/experiments/{experiment['id']}")
        assert real_app.patch_json(self.one(ids, group), group, headers=AUTHORIZED).json == group

    def test_204_the_experiments_of_an_archived_group_leave_it(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        member = entry(an_experiment(real_stack))
        group = self.group(real_app, ids, member).json
        real_app.delete(self.one(ids, group), headers=AUTHORIZED)
        assert real_app.get(self.one(ids, group), headers=AUTHORIZED).json["entities"] == []
        assert self.group(real_app, ids, member).status_int == 201
