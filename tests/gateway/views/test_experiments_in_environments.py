"""Experiments of projects with environments: how they stand in each, through the real services."""

from typing import Any

import pytest

from optimizely_api.runtime.testing import GatewayTestApp
from tests.gateway.views.test_experiments import change, create
from tests.support.asserting import AUTHORIZED, assert_error


@pytest.fixture
def project(real_stack: Any) -> Any:
    """With the environments production, the primary one, and development."""
    project = real_stack.another_project(platform="custom")
    return {**project, "project_id": project["id"]}


def read(app: GatewayTestApp, experiment: Any) -> Any:
    return app.get(f"/v2/experiments/{experiment['id']}", headers=AUTHORIZED).json


def statuses(experiment: Any) -> dict[str, str]:
    return {key: value["status"] for key, value in experiment["environments"].items()}


def environment(app: GatewayTestApp, project: Any, key: str) -> Any:
    listed = app.get(f"/v2/environments?project_id={project['id']}", headers=AUTHORIZED).json
    return next(one for one in listed if one["key"] == key)


def test_201_all_environments_of_the_project_are_there(real_app: Any, project: Any) -> None:
    made = create(real_app, project, key="checkout")
    assert made["environments"] == {
        "production": {"status": "not_started"},
        "development": {"status": "not_started"},
    }
    assert read(real_app, made) == made
    listed = real_app.get(f"/v2/experiments?project_id={project['id']}", headers=AUTHORIZED).json
    assert listed == [made]


def test_200_each_has_a_status_of_its_own(real_app: Any, project: Any) -> None:
    made = create(real_app, project, key="checkout")
    changed = change(real_app, made, environments={"development": {"status": "running"}}).json
    assert statuses(changed) == {"production": "not_started", "development": "running"}
    assert changed["status"] == "not_started"
    started = change(real_app, made, "?action=start").json
    assert (started["status"], statuses(started)["production"]) == ("running", "running")
    whole = {name: value for name, value in started.items() if name != "status"}
    assert change(real_app, made, **whole).json == started


def test_409_for_a_status_that_it_cannot_have_next(real_app: Any, project: Any) -> None:
    made = create(real_app, project, "?action=start", key="checkout")
    refused = change(real_app, made, status=409, environments={"production": {"status": "not_started"}})
    assert_error(refused, 409, "conflict", "environment production")


def test_400_for_an_unknown_one(real_app: Any, project: Any) -> None:
    made = create(real_app, project, key="checkout")
    refused = change(real_app, made, status=400, environments={"moon": {"status": "running"}})
    messages = assert_error(refused, 400, "bad_request")["messages"]
    assert messages == {"/body/environments/moon": "is no environment of this project"}


def test_a_new_one_appears_another_key_shows_at_once_and_an_archived_one_is_left_out(
    real_app: Any, project: Any
) -> None:
    made = create(real_app, project, key="checkout", environments={"development": {"status": "running"}})
    body = {"project_id": project["id"], "key": "staging", "name": "Staging"}
    real_app.post_json("/v2/environments", body, headers=AUTHORIZED)
    assert statuses(read(real_app, made))["staging"] == "not_started"
    address = f"/v2/environments/{environment(real_app, project, 'development')['id']}"
    real_app.patch_json(address, {"key": "laptops"}, headers=AUTHORIZED)
    assert statuses(read(real_app, made)) == {
        "production": "not_started",
        "laptops": "running",
        "staging": "not_started",
    }
    real_app.delete(address, headers=AUTHORIZED)
    assert list(read(real_app, made)["environments"]) == ["production", "staging"]
    real_app.patch_json(address, {"archived": False}, headers=AUTHORIZED)
    assert statuses(read(real_app, made))["laptops"] == "running"


def test_projects_for_the_web_have_no_map(real_app: Any, ids: Any) -> None:
    made = create(real_app, ids, environments={"production": {"status": "running"}})
    assert (made["status"], "environments" in made) == ("not_started", False)


def test_200_a_list_of_several_projects_shows_each_ones_own(real_app: Any, real_stack: Any) -> None:
    keys = {}
    for platform, extra in (("custom", "qa"), ("ios", "beta")):
        project = real_stack.another_project(platform=platform)
        body = {"project_id": project["id"], "key": extra, "name": extra}
        real_app.post_json("/v2/environments", body, headers=AUTHORIZED)
        made = create(real_app, {"project_id": project["id"]}, key="checkout", name="x")
        keys[made["id"]] = ["production", "development", extra]
    first = real_app.get("/v2/experiments?per_page=100", headers=AUTHORIZED)
    everything, page = list(first.json), 1
    while len(first.json) == 100:
        page += 1
        first = real_app.get(f"/v2/experiments?per_page=100&page={page}", headers=AUTHORIZED)
        everything += first.json
    listed = {one["id"]: list(one["environments"]) for one in everything if one["id"] in keys}
    assert listed == keys
