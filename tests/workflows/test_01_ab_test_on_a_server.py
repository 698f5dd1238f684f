"""An A/B test on a server, from nothing to the archive."""

import csv
import io

from tests.support.whole_stack import Caller, Json
from tests.workflows.steps import (
    attribute_is,
    audiences,
    conditions,
    halves,
    new_project,
    unique_conversions,
    visit,
)

VISITORS = 300


def test_an_ab_test_on_a_server_from_nothing_to_the_archive(api: Caller) -> None:
    project = new_project(api, "custom")
    production = _primary_environment(api, project)
    assert len(production["datafile"]["sdk_key"]) == 22

    order = api.post(f"/projects/{project['id']}/custom_events", {"key": "order"})
    experiment = api.post("/experiments", _checkout_flow(api, project, order))
    address = f"/experiments/{experiment['id']}"
    assert experiment["status"] == "not_started"
    assert api.get(f"/campaigns/{experiment['campaign_id']}")["type"] == "other"
    assert "earliest" not in experiment
    _assert_in_datafile(api, production, experiment, status=None)

    running = api.patch(address, {}, action="start")
    assert running["status"] == "running"
    assert running["earliest"] >= running["created"]
    assert "latest" not in running
    _assert_in_datafile(api, production, experiment, status="Running")

    api.get(f"{address}/results", status=204)
    seen = visit(api, experiment, order, VISITORS, project["account_id"])
    _assert_results_equal(api.get(f"{address}/results"), seen)
    _assert_csv_equals(api, f"/export{address}/results/csv", seen)

    paused = api.patch(address, {}, action="pause")
    assert (paused["status"], paused["earliest"]) == ("paused", running["earliest"])
    assert paused["latest"] > paused["earliest"]
    _assert_in_datafile(api, production, experiment, status="Paused")

    api.delete(address)
    assert api.delete(address, status=410)["code"] == "gone"
    assert api.get(address)["status"] == "archived"
    _assert_results_equal(api.get(f"{address}/results"), seen)
    _assert_in_datafile(api, production, experiment, status=None)

    back = api.patch(address, {}, action="unarchive")
    assert (back["status"], back["earliest"]) == ("paused", running["earliest"])


def _primary_environment(api: Caller, project: Json) -> Json:
    environments = {one["key"]: one for one in api.get("/environments", project_id=project["id"])}
    assert environments.keys() == {"production", "development"}
    assert not environments["development"]["is_primary"]
    production: Json = environments["production"]
    assert production["is_primary"]
    return production


def _checkout_flow(api: Caller, project: Json, order: Json) -> Json:
    """The body of an experiment for customers of one plan."""
    api.post("/attributes", {"project_id": project["id"], "key": "plan"})
    nested = conditions(attribute_is("plan", "gold"), attribute_is("plan", "silver"))
    body = {"project_id": project["id"], "name": "Paying", "conditions": nested}
    paying = api.post("/audiences", body)
    return {
        "project_id": project["id"],
        "key": "checkout_flow",
        "variations": halves("original", "one_page"),
        "metrics": [unique_conversions(order)],
        "audience_conditions": audiences(paying["id"]),
    }


def _assert_results_equal(results: Json, seen: Json) -> None:
    reach = {key: one["count"] for key, one in results["reach"]["variations"].items()}
    assert reach == {key: visitors for key, (visitors, _) in seen.items()}
    assert results["reach"]["total_count"] == VISITORS
    (metric,) = results["metrics"]
    found = {key: (one["samples"], one["value"]) for key, one in metric["results"].items()}
    assert found == seen


def _assert_csv_equals(api: Caller, path: str, seen: Json) -> None:
    if not api.serves(path):
        return
    rows = csv.DictReader(io.StringIO(api.get(path)))
    found = {
        row["Variation ID"]: (int(float(row["Denominator Value"])), int(float(row["Numerator Value"])))
        for row in rows
    }
    assert found == seen


def _assert_in_datafile(api: Caller, environment: Json, experiment: Json, status: str | None) -> None:
    """What SDKs know of the experiment: with this status, or not at all."""
    path = f"/environments/{environment['id']}/datafile"
    if not api.serves(path):
        return
    known = {one["key"]: one["status"] for one in api.get(path)["experiments"]}
    assert known.get(experiment["key"]) == status
