"""Experiments: created, started, changed and archived through the real services."""

from typing import Any

from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import EntityPromises

TWO = [{"key": "control", "weight": 5000}, {"key": "new", "weight": 5000}]
SOMEWHERE = {"url_targeting": {"edit_url": "https://shop.example/"}}


class TestExperiments(EntityPromises):
    path = "/v2/experiments"
    definition = "Experiment"

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        changes = [{"type": "custom_css", "value": "a {}"}]
        return {
            "project_id": ids["project_id"],
            "key": f"promise_{number}",
            "name": f"Promise {number}",
            "variations": TWO,
            "changes": changes,
        }


def create(app: Any, ids: Any, query: str = "", **given: Any) -> Any:
    body = {"project_id": ids["project_id"], "name": "Checkout", "variations": TWO, **given}
    return app.post_json(f"/v2/experiments{query}", body, headers=AUTHORIZED).json


def change(app: Any, experiment: Any, query: str = "", status: int = 200, **changes: Any) -> Any:
    address = f"/v2/experiments/{experiment['id']}{query}"
    return app.patch_json(address, changes, headers=AUTHORIZED, status=status)


def test_201_an_experiment_does_not_run_until_it_is_started(real_app: Any, ids: Any) -> None:
    experiment = create(real_app, ids, key="first", **SOMEWHERE)
    assert (experiment["status"], experiment["type"]) == ("not_started", "a/b")
    started = change(real_app, experiment, "?action=start").json
    assert (started["status"], "earliest" in started) == ("running", True)
    assert change(real_app, experiment, "?action=pause").json["status"] == "paused"
    assert change(real_app, experiment, "?action=resume").json["status"] == "running"


def test_201_an_experiment_may_be_created_running(real_app: Any, ids: Any) -> None:
    assert create(real_app, ids, "?action=start", **SOMEWHERE)["status"] == "running"


def test_204_then_410_and_unarchived_it_is_paused(real_app: Any, ids: Any) -> None:
    experiment = create(real_app, ids)
    address = f"/v2/experiments/{experiment['id']}"
    assert real_app.delete(address, headers=AUTHORIZED).status_int == 204
    assert_error(real_app.delete(address, headers=AUTHORIZED, expect_errors=True), 410, "gone")
    assert_error(change(real_app, experiment, status=409, name="x"), 409, "conflict")
    assert change(real_app, experiment, "?action=unarchive").json["status"] == "paused"


def test_409_for_an_action_that_the_status_does_not_allow(real_app: Any, ids: Any) -> None:
    experiment = create(real_app, ids)
    assert_error(change(real_app, experiment, "?action=resume", 409), 409, "conflict", "not_started")


def test_400_for_an_unknown_action(real_app: Any, ids: Any) -> None:
    experiment = create(real_app, ids)
    error = assert_error(change(real_app, experiment, "?action=explode", 400), 400, "bad_request")
    assert list(error["messages"]) == ["/query/action"]


def test_400_for_weights_that_do_not_add_up_names_their_place(real_app: Any, ids: Any) -> None:
    experiment = create(real_app, ids)
    wrong = change(real_app, experiment, status=400, variations=[{"key": "a", "weight": 1}])
    assert list(assert_error(wrong, 400, "bad_request")["messages"]) == ["/body/variations"]


def test_the_id_of_a_change_is_kept_when_it_is_sent(real_app: Any, ids: Any) -> None:
    change_id = "0F8FAD5B-d9cb-469f-a165-70867728950e"
    changes = [{"type": "custom_css", "value": "a {}", "id": change_id}]
    assert create(real_app, ids, changes=changes)["changes"][0]["id"] == change_id


def test_a_repeated_action_changes_nothing(real_app: Any, ids: Any) -> None:
    experiment = create(real_app, ids, "?action=start", **SOMEWHERE)
    assert change(real_app, experiment, "?action=start").json == experiment


def test_200_the_list_has_those_in_the_archive_or_not(real_app: Any, real_stack: Any) -> None:
    project_id = real_stack.another_project()["id"]
    made = [real_stack.another_experiment(project_id=project_id)["id"] for _ in range(2)]
    real_stack.act(made[0], "archive")
    listed = [
        [
            one["id"]
            for one in real_app.get(
                f"/v2/experiments?project_id={project_id}{archived}", headers=AUTHORIZED
            ).json
        ]
        for archived in ("", "&archived=true", "&archived=false")
    ]
    assert listed == [made, made[:1], made[1:]]
