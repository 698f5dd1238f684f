"""A nightly copy of an account into a warehouse."""

import threading

from tests.support.whole_stack import Caller, Json
from tests.workflows.steps import halves, new_project, unique_conversions, visit

KINDS = ("campaigns", "pages", "audiences", "attributes", "events", "experiments", "features", "groups")
OF_THE_WEB = ("campaigns", "pages")
EXPERIMENTS = 60  # more than two pages hold


def test_a_nightly_copy_of_everything(api: Caller) -> None:
    web, sdk = new_project(api, "web", name="Web"), new_project(api, "custom", name="SDK")
    projects = api.all("/projects")
    assert {one["id"] for one in projects} == {web["id"], sdk["id"]}

    order = api.post(f"/projects/{sdk['id']}/custom_events", {"key": "order"})
    started = [_experiment(api, sdk, order, number, action="start") for number in range(2)]
    api.post("/attributes", {"project_id": sdk["id"], "key": "plan"})
    archived = api.post("/attributes", {"project_id": sdk["id"], "key": "old"})
    api.delete(f"/attributes/{archived['id']}")
    visit(api, started[0], order, 30, sdk["account_id"])

    copy = {kind: api.all(f"/{kind}", project_id=sdk["id"]) for kind in KINDS}
    assert [copy[kind] for kind in OF_THE_WEB] == [[], []]
    assert {one["key"]: one["archived"] for one in copy["attributes"]} == {"plan": False, "old": True}
    assert [one["id"] for one in copy["experiments"]] == [one["id"] for one in started]

    with_results, without = (f"/experiments/{one['id']}" for one in started)
    results = api.get(f"{with_results}/results")
    assert results["reach"]["total_count"] == 30
    api.get(f"{without}/results", status=204)
    _assert_last_point_equals(api, with_results, results)


def test_no_row_is_lost_or_doubled_while_others_write(api: Caller) -> None:
    project = new_project(api, "custom")
    order = api.post(f"/projects/{project['id']}/custom_events", {"key": "order"})
    before = [_experiment(api, project, order, number)["id"] for number in range(EXPERIMENTS)]
    written: list[int] = []
    is_over = threading.Event()

    def write() -> None:
        other = Caller(api.url, api.token)
        while not is_over.is_set():
            written.append(_experiment(other, project, order, EXPERIMENTS + len(written))["id"])
            other.delete(f"/experiments/{written[-1]}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            ids = [one["id"] for one in api.all("/experiments", project_id=project["id"], per_page=25)]
            assert len(ids) == len(set(ids))
            assert ids[:EXPERIMENTS] == before
    finally:
        is_over.set()
        writer.join()
    ids = [one["id"] for one in api.all("/experiments", project_id=project["id"])]
    assert ids == [*before, *written]
    assert written


def _experiment(api: Caller, project: Json, order: Json, number: int, **query: str) -> Json:
    body = {
        "project_id": project["id"],
        "key": f"experiment_{number}",
        "variations": halves("a", "b"),
        "metrics": [unique_conversions(order)],
    }
    experiment: Json = api.post("/experiments", body, **query)
    return experiment


def _assert_last_point_equals(api: Caller, address: str, results: Json) -> None:
    if not api.serves(f"{address}/timeseries"):
        return
    series = api.get(f"{address}/timeseries")
    for metric, of_results in zip(series["metrics"], results["metrics"], strict=True):
        for variation_id, variant in metric["results"].items():
            last = variant["timeseries"][-1]
            total = of_results["results"][variation_id]
            assert (last["value"], last["samples"]) == (total["value"], total["samples"])
