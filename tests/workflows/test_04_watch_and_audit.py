"""Watching changes by the hour, an audit of them, and undoing them."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.whole_stack import Caller, Json
from tests.workflows.steps import history, new_project

UNDONE = ("name", "description", "variations", "metrics", "page_ids", "audience_conditions")


def test_a_watcher_tells_who_started_what(api: Caller) -> None:
    project, page, experiment = _web_experiment(api)
    since = datetime.now(UTC) - timedelta(hours=1)
    address = f"/experiments/{experiment['id']}"
    api.patch(address, {"name": "Renamed while it starts"}, action="start")

    query = {"start_time": _text(since), "end_time": _text(datetime.now(UTC) + timedelta(hours=1))}
    records = api.get("/changes", project_id=project["id"], per_page=25, page=1, **query)
    newest = records[0]
    assert newest["change_type"] == "update"
    first = newest["changes"][0]
    assert (first["property"], first["before"], first["after"]) == ("status", "not_started", "running")
    assert newest["entity"]["type"] == "experiment"
    assert newest["user"]["email"]

    found = api.get(f"/experiments/{newest['entity']['id']}")
    assert [api.get(f"/pages/{page_id}")["name"] for page_id in found["page_ids"]] == [page["name"]]
    too_early = {"start_time": _text(since - timedelta(hours=1)), "end_time": _text(since)}
    assert api.get("/changes", project_id=project["id"], **too_early) == []


def test_an_audit_of_all_pages_until_an_empty_one(api: Caller) -> None:
    project, _, experiment = _web_experiment(api)
    address = f"/experiments/{experiment['id']}"
    for action in ("start", "pause", "resume"):
        api.patch(address, {}, action=action)

    records: list[Json] = []
    page = 1
    while found := api.get("/changes", project_id=project["id"], per_page=2, page=page):
        records += found
        page += 1
    assert [one["id"] for one in records] == [
        one["id"] for one in api.all("/changes", project_id=project["id"])
    ]

    table = io.StringIO()
    writer = csv.writer(table)
    for one in records:
        for change in one["changes"]:
            if change["property"] == "status" and one["change_type"] == "update":
                campaign = api.get(f"/campaigns/{api.get(address)['campaign_id']}")
                writer.writerow([one["user"]["email"], change["before"], change["after"], campaign["name"]])
    lines = [row[1:] for row in csv.reader(io.StringIO(table.getvalue()))]
    assert lines == [
        ["paused", "running", "Buy button"],
        ["running", "paused", "Buy button"],
        ["not_started", "running", "Buy button"],
    ]


def test_undoing_changes_step_by_step_leads_back(api: Caller) -> None:
    _, _, experiment = _web_experiment(api)
    address = f"/experiments/{experiment['id']}"
    original, renamed = experiment["variations"]
    steps: list[Json] = [
        {"name": "Another name"},
        {"description": "Why we test"},
        {"variations": [{**original, "weight": 2000}, {**renamed, "weight": 8000, "name": "Blue"}]},
        {"metrics": [{"aggregator": "sum", "field": "value"}]},
        {"audience_conditions": "everyone", "name": "A third name"},
    ]
    for step in steps:
        api.patch(address, step)

    for record in history(api, "experiment", experiment)[:-1]:
        api.patch(address, _undone(api.get(address), record["changes"]))
    assert _settings(api.get(address)) == _settings(experiment)


def _settings(experiment: Json) -> Json:
    """What the steps change; an empty description is as good as none."""
    return {name: experiment[name] for name in UNDONE if experiment.get(name, "") != ""}


def _undone(present: Json, changes: list[Json]) -> Json:
    body: Json = {}
    for change in changes:
        name = change["property"]
        before: Any = change.get("before", "")
        body[name] = _with_variations(present, before) if name == "variations" else before
    return body


def _with_variations(present: Json, before: list[Json]) -> list[Json]:
    """A record holds only the variations that changed."""
    of_id = {one["variation_id"]: one for one in before}
    return [of_id.get(one["variation_id"], one) for one in present["variations"]]


def _web_experiment(api: Caller) -> tuple[Json, Json, Json]:
    project = new_project(api, "web")
    body = {"project_id": project["id"], "name": "Home", "edit_url": "https://shop.example/"}
    page = api.post("/pages", body)
    body = {
        "project_id": project["id"],
        "name": "Buy button",
        "page_ids": [page["id"]],
        "metrics": [{"aggregator": "sum", "field": "revenue"}],
        "variations": [{"name": name, "weight": 5000} for name in ("Original", "Green")],
    }
    return project, page, api.post("/experiments", body)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
