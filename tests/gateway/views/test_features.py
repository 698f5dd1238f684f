"""Features: parts of an app that are rolled out bit by bit."""

import json
from typing import Any

import pytest

from optimizely_api.gateway.environments import Environment
from optimizely_api.gateway.views import features
from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import EntityPromises
from tests.support.real_services import ADDRESS, RealServices

OFF = {"audience_conditions": "everyone", "enabled": False, "percentage_included": 0}
PRODUCTION = "/body/environments/production"
RULE = f"{PRODUCTION}/rollout_rules/0"
COLOUR = {"key": "colour", "type": "string", "default_value": "blue"}
COUNT = {"key": "count", "type": "integer", "default_value": "3"}


def production(**rule: Any) -> dict[str, Any]:
    return {"production": {"rollout_rules": [rule]}}


def the_rule(feature: dict[str, Any]) -> dict[str, Any]:
    (rule,) = feature["environments"]["production"]["rollout_rules"]
    return dict(rule)


@pytest.fixture(scope="module")
def ids(real_app: Any, real_stack: RealServices) -> dict[str, int]:
    """With a project of these tests' own, which has one environment."""
    project = real_app.post_json("/v2/projects", {"name": "Features"}, headers=AUTHORIZED).json
    return {**real_stack.ids, "project_id": project["id"]}


@pytest.fixture
def two_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Production, and staging beside it."""

    async def both(request: Any, project_id: int) -> list[Environment]:
        return [Environment("production", True, 1), Environment("staging", False, 2)]

    monkeypatch.setattr(features, "environments_of_project", both)


class TestFeatures(EntityPromises):
    path = "/v2/features"
    definition = "Feature"

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {"project_id": ids["project_id"], "key": f"checkout-{number}"}

    def feature(self, app: Any, ids: Any, **members: Any) -> Any:
        type(self)._number += 1
        body = {**self.body(ids, type(self)._number), **members}
        return app.post_json(self.path, body, headers=AUTHORIZED, expect_errors=True)

    def changed(self, app: Any, feature: dict[str, Any], **members: Any) -> Any:
        address = f"{self.path}/{feature['id']}"
        return app.patch_json(address, members, headers=AUTHORIZED, expect_errors=True)

    def experiment(self, stack: RealServices, feature: dict[str, Any], action: str) -> Any:
        return stack.made(
            "experiments",
            f"/experiments?action={action}",
            account_id=stack.account_id,
            project_id=feature["project_id"],
            type="feature",
            feature_id=feature["id"],
            url_targeting=ADDRESS,
            variations=[{"key": "on", "weight": 10000}],
        )

    # Environments

    def test_201_a_new_feature_is_off_everywhere_and_named_by_its_key(self, real_app: Any, ids: Any) -> None:
        feature = self.created(real_app, ids)
        assert (feature["name"], feature["variables"]) == (feature["key"], [])
        environment = feature["environments"]["production"]
        assert (environment["is_primary"], environment["rollout_rules"]) == (True, [OFF])

    def test_200_a_rule_is_replaced_and_keeps_its_audiences(self, real_app: Any, ids: Any) -> None:
        rule = {"enabled": True, "percentage_included": 500, "audience_conditions": "[]"}
        feature = self.feature(real_app, ids, environments=production(**rule)).json
        assert the_rule(feature) == rule
        changed = self.changed(real_app, feature, environments=production(enabled=True)).json
        assert the_rule(changed) == {**OFF, "enabled": True, "audience_conditions": "[]"}

    def test_200_no_rule_is_a_rule_that_is_off(self, real_app: Any, ids: Any) -> None:
        feature = self.feature(real_app, ids, environments=production(enabled=True)).json
        changed = self.changed(real_app, feature, environments={"production": {"rollout_rules": []}}).json
        assert the_rule(changed) == OFF

    def test_400_for_an_unknown_environment(self, real_app: Any, ids: Any) -> None:
        unknown = {"no/such": {"rollout_rules": []}}
        answers = [
            self.feature(real_app, ids, environments=unknown),
            self.changed(real_app, self.created(real_app, ids), environments=unknown),
        ]
        for answer in answers:
            error = assert_error(answer, 400, "bad_request")
            assert error["messages"] == {"/body/environments/no~1such": "is no environment of this project"}

    def test_400_for_more_than_one_rule(self, real_app: Any, ids: Any) -> None:
        two = {"production": {"rollout_rules": [{}, {}]}}
        error = assert_error(self.feature(real_app, ids, environments=two), 400, "bad_request")
        assert list(error["messages"]) == [f"{PRODUCTION}/rollout_rules"]

    @pytest.mark.usefixtures("two_environments")
    def test_201_all_environments_of_the_project_are_there(self, real_app: Any, ids: Any) -> None:
        feature = self.feature(real_app, ids, environments=production(enabled=True)).json
        assert feature["environments"] == {
            "production": {"id": 1, "is_primary": True, "rollout_rules": [{**OFF, "enabled": True}]},
            "staging": {"id": 2, "is_primary": False, "rollout_rules": [OFF]},
        }

    def test_200_a_feature_is_off_in_an_environment_that_came_later(
        self, real_app: Any, ids: Any, request: pytest.FixtureRequest
    ) -> None:
        rule = {**OFF, "enabled": True, "audience_conditions": "[]"}
        feature = self.feature(real_app, ids, environments=production(**rule)).json
        request.getfixturevalue("two_environments")
        address = f"{self.path}/{feature['id']}"
        staging = real_app.get(address, headers=AUTHORIZED).json["environments"]["staging"]
        assert staging["rollout_rules"] == [{**OFF, "audience_conditions": "[]"}]
        changed = self.changed(
            real_app, feature, environments={"staging": {"rollout_rules": [{"enabled": True}]}}
        )
        assert changed.json["environments"]["staging"]["rollout_rules"] == [rule]

    # Audiences

    @pytest.mark.parametrize(
        "conditions", ["people", "{}", '["and"]', '["not", [], []]', '[{"audience_id": "1"}]', "[" * 9999]
    )
    def test_400_for_audience_conditions_that_are_none(
        self, real_app: Any, ids: Any, conditions: str
    ) -> None:
        answer = self.feature(real_app, ids, environments=production(audience_conditions=conditions))
        error = assert_error(answer, 400, "bad_request")
        assert list(error["messages"]) == [f"{RULE}/audience_conditions"]

    def test_400_for_an_audience_that_is_not_there(self, real_app: Any, ids: Any) -> None:
        conditions = json.dumps(["or", {"audience_id": 99}])
        answer = self.feature(real_app, ids, environments=production(audience_conditions=conditions))
        assert assert_error(answer, 400, "bad_request")["messages"] == {
            f"{RULE}/audience_conditions": "names audience 99, which is no audience of this project"
        }

    def test_400_old_scripts_may_list_audience_ids(self, real_app: Any, ids: Any) -> None:
        answer = self.feature(real_app, ids, environments=production(audience_ids=[98]))
        message = assert_error(answer, 400, "bad_request")["messages"][f"{RULE}/audience_conditions"]
        assert message == "names audience 98, which is no audience of this project"

    # Variables

    def test_201_variables_have_ids(self, real_app: Any, ids: Any) -> None:
        (variable,) = self.feature(real_app, ids, variables=[COLOUR]).json["variables"]
        assert variable.pop("id") > 0
        assert variable == {**COLOUR, "archived": False}

    def test_200_variables_are_known_by_id_or_key_and_archived_when_left_out(
        self, real_app: Any, ids: Any
    ) -> None:
        feature = self.feature(real_app, ids, variables=[COLOUR, COUNT]).json
        colour, count = (variable["id"] for variable in feature["variables"])
        given = [{"id": colour, "key": "color"}, {"key": "size", "type": "double", "default_value": "1.5"}]
        changed = self.changed(real_app, feature, variables=given).json["variables"]
        assert [(one["key"], one["archived"]) for one in changed] == [
            ("color", False),
            ("size", False),
            ("count", True),
        ]
        assert (changed[0]["id"], changed[2]["id"]) == (colour, count)
        back = self.changed(real_app, feature, variables=[{"key": "count"}]).json["variables"]
        assert {**COUNT, "id": count, "archived": False} in back

    def test_200_values_follow_a_key_that_changes(self, real_app: Any, ids: Any) -> None:
        environments = production(variable_values={"colour": "red"})
        feature = self.feature(real_app, ids, variables=[COLOUR], environments=environments).json
        renamed = [{"id": feature["variables"][0]["id"], "key": "color"}]
        changed = self.changed(real_app, feature, variables=renamed).json
        assert the_rule(changed)["variable_values"] == {"color": "red"}

    @pytest.mark.parametrize(
        ("kind", "text"),
        [("boolean", "True"), ("integer", "1.5"), ("double", "1e999"), ("double", "nan"), ("json", "{'a'}")],
    )
    def test_400_for_a_default_that_is_not_of_the_type(
        self, real_app: Any, ids: Any, kind: str, text: str
    ) -> None:
        variable = {"key": "limit", "type": kind, "default_value": text}
        error = assert_error(self.feature(real_app, ids, variables=[variable]), 400, "bad_request")
        assert list(error["messages"]) == ["/body/variables/0/default_value"]

    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            ("boolean", "true"),
            ("integer", "-15"),
            ("double", "-1.5e3"),
            ("json", '{"a": []}'),
            ("string", ""),
        ],
    )
    def test_201_for_a_default_that_is_of_the_type(
        self, real_app: Any, ids: Any, kind: str, text: str
    ) -> None:
        variable = {"key": "limit", "type": kind, "default_value": text}
        assert self.feature(real_app, ids, variables=[variable]).status_int == 201

    def test_400_for_two_variables_of_one_key(self, real_app: Any, ids: Any) -> None:
        error = assert_error(self.feature(real_app, ids, variables=[COLOUR, COLOUR]), 400, "bad_request")
        assert list(error["messages"]) == ["/body/variables/1/key"]

    def test_400_for_a_variable_of_another_feature_and_for_an_incomplete_new_one(
        self, real_app: Any, ids: Any
    ) -> None:
        feature = self.created(real_app, ids)
        foreign = self.changed(real_app, feature, variables=[{**COLOUR, "id": 99}])
        assert list(assert_error(foreign, 400, "bad_request")["messages"]) == ["/body/variables/0/id"]
        incomplete = self.changed(real_app, feature, variables=[{"key": "colour"}])
        assert sorted(assert_error(incomplete, 400, "bad_request")["messages"]) == [
            "/body/variables/0/default_value",
            "/body/variables/0/type",
        ]

    def test_400_for_values_that_do_not_fit_their_variables(self, real_app: Any, ids: Any) -> None:
        environments = production(variable_values={"count": "many", "a/b": "1"})
        answer = self.feature(real_app, ids, variables=[COUNT], environments=environments)
        assert assert_error(answer, 400, "bad_request")["messages"] == {
            f"{RULE}/variable_values/count": "must be the text of an integer",
            f"{RULE}/variable_values/a~1b": "is no variable of this feature",
        }

    def test_409_for_a_type_that_changes_after_the_feature_was_on(self, real_app: Any, ids: Any) -> None:
        feature = self.feature(real_app, ids, variables=[COUNT]).json
        changed = [{"key": "count", "type": "double"}]
        assert self.changed(real_app, feature, variables=changed).status_int == 200
        for enabled in (True, False):
            self.changed(real_app, feature, environments=production(enabled=enabled))
        assert_error(self.changed(real_app, feature, variables=[COUNT]), 409, "conflict")

    # Tests of features

    def test_409_for_archiving_what_a_running_experiment_tests(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        feature = self.created(real_app, ids)
        self.experiment(real_stack, feature, "start")
        address = f"{self.path}/{feature['id']}"
        assert_error(real_app.delete(address, headers=AUTHORIZED, expect_errors=True), 409, "conflict")
        assert_error(self.changed(real_app, feature, archived=True), 409, "conflict")
        assert not real_app.get(address, headers=AUTHORIZED).json["archived"]

    def test_204_a_feature_of_an_experiment_that_does_not_run_can_be_archived(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        feature = self.created(real_app, ids)
        self.experiment(real_stack, feature, "pause")
        assert real_app.delete(f"{self.path}/{feature['id']}", headers=AUTHORIZED).status_int == 204

    def test_409_for_a_type_that_changes_after_an_experiment_has_tested_it(
        self, real_app: Any, ids: Any, real_stack: RealServices
    ) -> None:
        feature = self.feature(real_app, ids, variables=[COUNT]).json
        self.experiment(real_stack, feature, "start")
        changed = self.changed(real_app, feature, variables=[{"key": "count", "type": "double"}])
        assert_error(changed, 409, "conflict")


def test_an_environment_keeps_its_rule_under_another_key_and_the_key_alone_gives_none(
    real_app: Any, ids: dict[str, int]
) -> None:
    body = {"project_id": ids["project_id"], "key": "beta", "name": "Beta"}
    environment = real_app.post_json("/v2/environments", body, headers=AUTHORIZED).json
    rule = {"enabled": True, "percentage_included": 5000}
    sent = {"project_id": ids["project_id"], "key": "renamed-environment"}
    sent["environments"] = {"beta": {"rollout_rules": [rule]}}
    feature = real_app.post_json("/v2/features", sent, headers=AUTHORIZED).json
    address = f"/v2/environments/{environment['id']}"
    real_app.patch_json(address, {"key": "gamma"}, headers=AUTHORIZED)
    real_app.post_json("/v2/environments", {**body, "name": "Another"}, headers=AUTHORIZED)
    shown = real_app.get(f"/v2/features/{feature['id']}", headers=AUTHORIZED).json["environments"]
    assert shown["gamma"]["rollout_rules"][0]["enabled"]
    assert not shown["beta"]["rollout_rules"][0]["enabled"]
    for key in ("beta", "gamma"):
        other = real_app.get(f"/v2/environments?project_id={ids['project_id']}", headers=AUTHORIZED).json
        (found,) = [one["id"] for one in other if one["key"] == key]
        real_app.delete(f"/v2/environments/{found}", headers=AUTHORIZED)
