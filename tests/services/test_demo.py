"""The demo data: what is generated, and how it gets into the services."""

from __future__ import annotations

import dataclasses
import io
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from optimizely_api.contract.times import format_time
from optimizely_api.demo import DemoError, DemoSummary, load_demo, story
from optimizely_api.demo.client import ATTEMPTS, ServiceClient
from optimizely_api.demo.loader import TOKEN_SHA256, Loader
from optimizely_api.demo.visitors import Batch, Target, batches
from optimizely_api.services.http.server import SERVICES
from tests.services.conftest import Caller, NewDatabase, Serve, running, session_with_key
from tests.support import samples
from tests.support.ports import free_port

KEY = samples.SERVICES_KEY
NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)
EXPERIMENTS = [(project, one) for project in story.PROJECTS for one in project.experiments]


def target(
    project: story.Project, experiment: story.Experiment, experiment_id: int = 500, load: str = ""
) -> Target:
    return Target(
        account_id=1,
        project_id=2,
        campaign_id=3,
        experiment_id=experiment_id,
        variation_ids=tuple(range(100, 100 + len(experiment.variations))),
        event_ids={event.key: 10 + number for number, event in enumerate(project.events)},
        first=NOW - timedelta(days=experiment.started or 0),
        last=NOW - timedelta(days=experiment.ended),
        load=load,
    )


def generated(number: int = 0, **changes: Any) -> list[Batch]:
    project, experiment = EXPERIMENTS[number]
    experiment = dataclasses.replace(experiment, visitors=1_200)
    return list(batches(experiment, target(project, experiment, **changes)))


def entries(parts: list[Batch]) -> Iterator[dict[str, Any]]:
    for part in parts:
        yield from json.loads(part.body)["visitors"]


def events(parts: list[Batch]) -> Iterator[dict[str, Any]]:
    for entry in entries(parts):
        for snapshot in entry["snapshots"]:
            yield from snapshot["events"]


# What is generated


def test_the_story_has_three_projects_twelve_experiments_and_fifty_thousand_visitors() -> None:
    assert len(story.PROJECTS) == 3
    assert (story.EXPERIMENTS, story.VISITORS) == (12, 50_000)
    keys = [experiment.key for _, experiment in EXPERIMENTS]
    assert len(set(keys)) == 12
    assert story.HEADLINE in keys


@pytest.mark.parametrize(("project", "experiment"), EXPERIMENTS, ids=[one.key for _, one in EXPERIMENTS])
def test_the_story_fits_together(project: story.Project, experiment: story.Experiment) -> None:
    assert sum(experiment.weights) == 10_000
    assert len(experiment.weights) == len(experiment.variations)
    assert all(len(one.rates) == len(experiment.variations) for one in experiment.behaviours)
    known = {event.key for event in project.events}
    assert {one.event for one in experiment.behaviours} <= known
    assert {metric["event"] for metric in experiment.metrics if "event" in metric} <= known
    assert bool(experiment.visitors) == (experiment.started is not None)
    assert experiment.campaign is None or experiment.campaign in project.campaigns


def test_the_same_experiment_gives_the_same_bytes() -> None:
    assert [part.body for part in generated()] == [part.body for part in generated()]


def test_another_experiment_id_gives_other_visitors_and_uuids() -> None:
    one, other = list(events(generated())), list(events(generated(experiment_id=501)))
    assert not {event["uuid"] for event in one} & {event["uuid"] for event in other}


def test_another_load_of_the_same_ids_gives_other_visitors_and_uuids() -> None:
    one, other = list(events(generated())), list(events(generated(load="2026-04-12T12:00:00+00:00")))
    assert not {event["uuid"] for event in one} & {event["uuid"] for event in other}


def test_uuids_are_version_4_and_come_once() -> None:
    names = [event["uuid"] for event in events(generated())]
    assert len(set(names)) == len(names)
    assert {uuid.UUID(name).version for name in names} == {4}


def test_batches_say_what_is_in_them() -> None:
    parts = generated()
    assert [part.visitors for part in parts] == [500, 500, 200]
    assert sum(part.events for part in parts) == len(list(events(parts)))
    assert all(len(part.body) < 3_500_000 for part in parts)


@pytest.mark.parametrize("number", [n for n, (_, one) in enumerate(EXPERIMENTS) if one.visitors])
def test_every_visitor_decides_once_and_acts_afterwards_within_the_experiments_time(number: int) -> None:
    project, experiment = EXPERIMENTS[number]
    first, last = (
        int(moment.timestamp() * 1000)
        for moment in (NOW - timedelta(days=experiment.started or 0), NOW - timedelta(days=experiment.ended))
    )
    decided: dict[str, int] = {}
    for entry in entries(generated(number)):
        (snapshot,) = entry["snapshots"]
        (event,) = snapshot["events"]
        assert first <= event["timestamp"] <= last
        if "decisions" in snapshot:
            assert entry["visitor_id"] not in decided
            assert event["key"] == "campaign_activated"
            decided[entry["visitor_id"]] = event["timestamp"]
        else:
            assert decided[entry["visitor_id"]] <= event["timestamp"]
            assert event["key"] in {one.key for one in project.events}
    assert len(decided) == 1_200


def test_entries_have_the_shape_of_the_sdks() -> None:
    parts = generated()
    body = json.loads(parts[0].body)
    assert (body["account_id"], body["project_id"], body["enrich_decisions"]) == ("1", "2", True)
    impression = next(entries(parts))
    (decision,) = impression["snapshots"][0]["decisions"]
    assert (decision["campaign_id"], decision["experiment_id"]) == ("3", "500")
    assert decision["variation_id"] in {"100", "101"}
    assert {one["key"] for one in impression["attributes"]} == {"browser", "device", "source", "customer"}
    order = next(event for event in events(parts) if event["key"] == story.ORDERED)
    assert order["tags"] == {"revenue": order["revenue"], "value": order["value"]}
    assert isinstance(order["revenue"], int)


# How it gets into the services


@pytest.fixture
def small_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same story with a fiftieth of the visitors."""

    def smaller(project: story.Project) -> story.Project:
        fewer = (dataclasses.replace(one, visitors=one.visitors // 50) for one in project.experiments)
        return dataclasses.replace(project, experiments=tuple(fewer))

    monkeypatch.setattr(story, "PROJECTS", tuple(smaller(project) for project in story.PROJECTS))
    monkeypatch.setattr(story, "VISITORS", 1_000)


@dataclasses.dataclass
class Services:
    """The three services, and whether the results service takes events."""

    projects: Caller
    experiments: Caller
    results: Caller
    refuse_after: int | None = None
    batches: int = 0

    async def load(self, output: io.StringIO | None = None) -> DemoSummary:
        console = Console(file=output or io.StringIO(), width=100)
        return await load_demo(self.projects.url, self.experiments.url, self.results.url, console, key=KEY)

    async def load_again(self) -> None:
        """Send everything once more, though it is there."""
        async with session_with_key() as session:
            urls = (self.projects.url, self.experiments.url, self.results.url)
            loader = Loader(*(ServiceClient(session, url) for url in urls))
            await loader.load(Console(file=io.StringIO()))

    async def token_status(self) -> int:
        return (await self.projects.get(f"/tokens/{TOKEN_SHA256}"))[0]

    async def reach(self) -> dict[str, dict[str, int]]:
        """By experiment: the visitors of each variation and the numerator of each metric."""
        _, found = await self.experiments.get("/experiments?per_page=100")
        return {one["key"]: await self._figures(one) for one in found["items"]}

    async def _figures(self, experiment: dict[str, Any]) -> dict[str, int]:
        settings = experiment["results_settings"]
        names = zip(settings["metrics"], settings["metric_names"], strict=True)
        body = {
            **settings,
            "project_id": experiment["project_id"],
            "metrics": [{**metric, "name": name} for metric, name in names],
        }
        if "earliest" in experiment:
            body["earliest"] = experiment["earliest"]
        del body["metric_names"]
        status, results = await self.results.post(f"/results/{experiment['id']}", body)
        if status == 204:
            return {}
        figures = {key: arm["count"] for key, arm in results["reach"]["variations"].items()}
        for number, metric in enumerate(results["metrics"]):
            figures |= {f"{number} {key}": round(arm["value"]) for key, arm in metric["results"].items()}
        return figures


@pytest_asyncio.fixture
async def services(new_database: NewDatabase, serve: Serve) -> Any:
    url = await new_database("results")
    application = SERVICES["results"].create_application(url)
    three: Services

    @web.middleware
    async def count_or_refuse(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path == "/v1/events":
            three.batches += 1
            if three.refuse_after is not None and three.batches > three.refuse_after:
                raise web.HTTPInsufficientStorage
        return await handler(request)  # type: ignore[no-any-return]

    application.middlewares.append(count_or_refuse)
    async with running(application, url) as results:
        projects = await serve("projects")
        experiments = await serve("experiments")
        three = Services(projects, experiments, results)
        yield three


@pytest.mark.usefixtures("small_story")
async def test_a_load_shows_every_state_and_every_visitor(services: Services) -> None:
    output = io.StringIO()
    summary = await services.load(output)
    assert (summary.token, summary.loaded) == (story.TOKEN, True)
    assert summary.counts["visitors"] == story.VISITORS
    assert summary.counts["events"] > 2 * story.VISITORS
    _, found = await services.experiments.get("/experiments?per_page=100")
    assert Counter(one["status"] for one in found["items"]) == {
        "running": 6,
        "not_started": 2,
        "paused": 1,
        "concluded": 1,
        "archived": 1,
        "campaign_paused": 1,
    }
    (headline,) = [one for one in found["items"] if one["id"] == summary.experiment_id]
    assert (headline["key"], headline["status"]) == (story.HEADLINE, "running")
    figures = await services.reach()
    arms = [count for one in figures.values() for key, count in one.items() if " " not in key]
    assert sum(arms) == story.VISITORS
    assert f"Demo data: {story.VISITORS:,} of {story.VISITORS:,} visitors" in output.getvalue()
    (campaign,) = [
        one
        for one in (await services.experiments.get("/layers?per_page=100"))[1]["items"]
        if one.get("name") == "Welcome back"
    ]
    assert len(campaign["experiment_ids"]) == 2


@pytest.mark.usefixtures("small_story")
async def test_the_second_load_sends_nothing(services: Services) -> None:
    first = await services.load()
    sent = services.batches
    second = await services.load()
    assert (second.experiment_id, second.loaded) == (first.experiment_id, False)
    assert services.batches == sent
    assert (await services.projects.get("/projects"))[1]["total"] == 3


@pytest.mark.usefixtures("small_story")
async def test_an_interrupted_load_is_completed_and_counts_nothing_twice(services: Services) -> None:
    services.refuse_after = 8
    with pytest.raises(DemoError, match=r"POST .*/v1/events: 507"):
        await services.load()
    assert await services.token_status() == 404
    services.refuse_after = None
    again = await services.load()
    assert again.loaded
    assert await services.token_status() == 200
    completed = await services.reach()
    assert (
        sum(value for one in completed.values() for key, value in one.items() if " " not in key)
        == story.VISITORS
    )
    await services.load_again()
    assert await services.reach() == completed


@pytest.mark.usefixtures("small_story")
@pytest.mark.parametrize(
    "removed",
    ["projects", *(pytest.param(name, marks=pytest.mark.whole) for name in ("experiments", "results"))],
)
async def test_a_load_after_one_database_was_removed_gives_the_same_figures(
    services: Services, serve: Serve, removed: str
) -> None:
    first = await services.load()
    before = await services.reach()
    setattr(services, removed, await serve(removed))
    again = await services.load()
    assert again.loaded
    assert again.experiment_id == first.experiment_id
    assert await services.reach() == before
    assert not (await services.load()).loaded


@pytest.mark.usefixtures("small_story")
async def test_a_load_beside_the_events_of_an_older_one_is_refused(services: Services, serve: Serve) -> None:
    """Ids start anew with the databases: the results service cannot tell the two loads apart."""
    two_weeks_ago = format_time(datetime.now(UTC) - timedelta(days=14))
    await services.projects.made("/accounts", {"name": story.ACCOUNT}, params={"at": two_weeks_ago})
    await services.load()
    services.projects = await serve("projects")
    services.experiments = await serve("experiments")
    with pytest.raises(DemoError, match=r"counted \d+ of \d+ visitors; remove the databases of all three"):
        await services.load()
    assert await services.token_status() == 404


async def test_an_unreachable_service_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(DemoError, match=url):
        await load_demo(url, url, url, Console(file=io.StringIO()), key=KEY)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_batch_is_sent_until_an_overloaded_service_takes_it(status: int) -> None:
    busy = [web.Response(status=status, headers={"Retry-After": "0"}) for _ in range(2 * ATTEMPTS)]

    async def take_last(request: web.Request) -> web.Response:
        return busy.pop() if busy else web.Response(status=204)

    application = web.Application()
    application.router.add_post("/v1/events", take_last)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        client = ServiceClient(session, str(server.make_url("")))
        assert await client.call("POST", "/v1/events", expected={204}, body=b"{}") == (204, None)
    assert busy == []


@pytest.mark.whole  # tests/system looks at what `make run` loads
async def test_the_whole_demo_loads_and_its_headline_is_significant(
    services: Services,
) -> None:
    summary = await services.load()
    assert summary.counts["visitors"] == 50_000
    _, headline = await services.experiments.get(f"/experiments/{summary.experiment_id}")
    settings = headline["results_settings"]
    body = {
        "project_id": headline["project_id"],
        "metrics": [{**settings["metrics"][0], "name": settings["metric_names"][0]}],
        "variations": settings["variations"],
        "stats_config": settings["stats_config"],
        "earliest": headline["earliest"],
    }
    async with session_with_key() as session:
        url = f"{services.results.url}/results/{headline['id']}"
        async with session.post(url, json=body) as response:
            results = await response.json()
    better = str(settings["variations"][1]["variation_id"])
    assert results["metrics"][0]["results"][better]["lift"]["lift_status"] == "better"
