"""Loads the demo data once, over HTTP; a load may be interrupted.

Existing entities are found by name or key and used again. Visitors and their events are the same in every load, and the
results service counts each event once. The token is written last: until it exists, the next load repeats all steps and
adds what is missing.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from rich.console import Console

from optimizely_api.contract.times import format_time
from optimizely_api.demo import past, present, story
from optimizely_api.demo.client import TIMEOUT_SECONDS, DemoError, ServiceClient
from optimizely_api.demo.progress import Progress
from optimizely_api.demo.visitors import Batch, Target, batches, variation_key
from optimizely_api.services_key import authorization

SENDERS = 4  # batches in flight at once
TOKEN_SHA256 = hashlib.sha256(story.TOKEN.encode()).hexdigest()


@dataclass(frozen=True)
class DemoSummary:
    """The result of `load_demo`: the demo's token, an experiment with results, and counts.

    `counts` has projects and experiments, and after a load also visitors and events.
    """

    token: str
    experiment_id: int
    counts: dict[str, int]
    seconds: float
    loaded: bool  # False: the demo data existed already


async def load_demo(
    projects_url: str,
    experiments_url: str,
    results_url: str,
    console: Console,
    *,
    key: str,
    api_url: str | None = None,
) -> DemoSummary:
    """Load the demo data into the three services unless they exist; show progress on `console`.

    `api_url` is the gateway's `/v2`; without it, what public operations make is left out.
    `key` is the services' key. Raises DemoError when a service refuses a request; another call completes the load.
    """
    started = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, headers=authorization(key)) as session:
        urls = (projects_url, experiments_url, results_url)
        loader = Loader(*(ServiceClient(session, url) for url in urls))
        loader.gateway = ServiceClient(session, api_url) if api_url else None
        headline, counts = await loader.find(), loader.counts()
        loaded = headline is None
        if headline is None:
            headline, counts = await loader.load(console)
    return DemoSummary(story.TOKEN, headline, counts, time.monotonic() - started, loaded)


class Loader:
    """Finds or creates each part of the story."""

    def __init__(self, projects: ServiceClient, experiments: ServiceClient, results: ServiceClient) -> None:
        self.projects, self.experiments, self.results = projects, experiments, results
        self.gateway: ServiceClient | None = None
        self.user_ids: dict[str, str] = {}  # by address

    @staticmethod
    def counts() -> dict[str, int]:
        """The counts that do not depend on a load."""
        return {"projects": len(story.PROJECTS), "experiments": story.EXPERIMENTS}

    async def find(self) -> int | None:
        """The headline experiment's id if the demo data are complete, else None."""
        status, token = await self.projects.call("GET", f"/tokens/{TOKEN_SHA256}", expected={200, 404})
        if status == 404:
            return None
        experiments = await self.experiments.list_all("/experiments", account_id=token["account_id"])
        by_key = {experiment.get("key"): experiment for experiment in experiments}
        headline = by_key.get(story.HEADLINE)
        if headline is None or not await self._has_results(headline):
            return None  # the database of another service was removed
        return int(headline["id"])

    async def _has_results(self, experiment: dict[str, Any]) -> bool:
        return await self._reach(experiment) > 0

    async def _reach(self, experiment: dict[str, Any]) -> int:
        """The number of visitors that the results service has counted in the experiment."""
        settings = experiment["results_settings"]
        metrics = [
            {**metric, "name": name}
            for metric, name in zip(settings["metrics"], settings["metric_names"], strict=True)
        ]
        body = {
            "project_id": experiment["project_id"],
            "metrics": metrics,
            "variations": settings["variations"],
            "baseline_variation_id": settings["baseline_variation_id"],
            "stats_config": settings["stats_config"],
            **({"earliest": experiment["earliest"]} if "earliest" in experiment else {}),
        }
        path = f"/results/{experiment['id']}"
        status, results = await self.results.call("POST", path, expected={200, 204}, body=body)
        return int(results["reach"]["total_count"]) if status == 200 else 0

    async def load(self, console: Console) -> tuple[int, dict[str, int]]:
        """Create everything that is missing; return the headline experiment's id and the counts."""
        account = await self._account()
        now = await self._beginning(account)
        await self._people(account["id"])
        targets: list[tuple[story.Experiment, Target]] = []
        for project in story.PROJECTS:
            targets += await self._project(account["id"], project, now)
        visitors, events = await self._send_visitors(targets, console)
        await self._verify(account["id"])
        await self._present(account["id"], targets)
        token = {"name": "Demo", "token_sha256": TOKEN_SHA256}
        await self.projects.create(f"/accounts/{account['id']}/tokens", token)
        (headline,) = (target for experiment, target in targets if experiment.key == story.HEADLINE)
        return headline.experiment_id, {**self.counts(), "visitors": visitors, "events": events}

    async def _beginning(self, account: dict[str, Any]) -> datetime:
        """The time of the first load, interrupted or not: a repeated load must send events with the same times."""
        (headline,) = (item for item in story.SHOP.experiments if item.key == story.HEADLINE)
        for experiment in await self.experiments.list_all("/experiments", account_id=account["id"]):
            if experiment.get("key") == story.HEADLINE and "earliest" in experiment:
                return datetime.fromisoformat(experiment["earliest"]) + timedelta(days=headline.started or 0)
        return datetime.fromisoformat(account["created"])

    async def _people(self, account_id: int) -> None:
        """Add the account's users; what follows is by the first unless another is named."""
        path = f"/accounts/{account_id}/users"
        known = {user["email"]: user["id"] for user in await self.projects.list_all(path)}
        for person in past.PEOPLE:
            email = person["email"]
            self.user_ids[email] = known.get(email) or (await self.projects.create(path, person))["id"]
        self.experiments.session.headers.update(past.made_by(self.user_ids[past.ANA], past.ANA))

    async def _account(self) -> Any:
        accounts = await self.projects.list_all("/accounts", name=story.ACCOUNT)
        return accounts[0] if accounts else await self.projects.create("/accounts", {"name": story.ACCOUNT})

    async def _project(
        self, account_id: int, project: story.Project, now: datetime
    ) -> list[tuple[story.Experiment, Target]]:
        existing = {
            item["name"]: item for item in await self.projects.list_all("/projects", account_id=account_id)
        }
        settings = {
            "account_id": account_id,
            "name": project.name,
            "description": project.description,
            "platform": project.platform,
            "confidence_threshold": project.confidence_threshold,
            **({"sdks": list(project.sdks)} if project.sdks else {}),
        }
        created_at = _days_before(now, 40)
        entity = existing.get(project.name) or await self.projects.create(
            "/projects", settings, at=created_at
        )
        owner = {"account_id": account_id, "project_id": entity["id"]}
        event_ids = await self._events(project, owner, created_at)
        campaign_ids = await self._campaigns(project, owner, event_ids, created_at)
        targets = [
            (experiment, await self._experiment(project, experiment, owner, event_ids, campaign_ids, now))
            for experiment in project.experiments
        ]
        people = past.Past(self.experiments, owner, now, self.user_ids)
        customer_id = await past.customer_attribute(people)
        page_ids = await people.pages(project)
        await self._pages_of_campaigns(project, people, page_ids, campaign_ids)
        for experiment, target in targets:
            await self._live(experiment, target.experiment_id, page_ids, now)
        await self._past(project, people, targets, campaign_ids)
        await self._pause_campaigns(project, campaign_ids, now)
        attribute_ids = {"customer": str(customer_id)}
        return [(experiment, replace(target, attribute_ids=attribute_ids)) for experiment, target in targets]

    async def _past(
        self,
        project: story.Project,
        people: past.Past,
        targets: list[tuple[story.Experiment, Target]],
        campaign_ids: dict[str, int],
    ) -> None:
        """What the people of the shop did before the load."""
        roles = f"/accounts/{people.owner['account_id']}/users/{self.user_ids[past.EDITOR]}/roles"
        path = f"{roles}/{people.owner['project_id']}"
        await self.projects.call("PUT", path, expected={200}, body={"role": "editor"})
        experiment_ids = {experiment.key: target.experiment_id for experiment, target in targets}
        await past.HAPPENED[project.name](people, experiment_ids, campaign_ids)

    async def _present(self, account_id: int, targets: list[tuple[story.Experiment, Target]]) -> None:
        """What public operations make, with a token for the time of the load."""
        if self.gateway is None:
            return
        tokens = f"/accounts/{account_id}/tokens"
        whose = {"name": present.USER, "user_id": self.user_ids[present.USER]}
        token = await self.projects.create(tokens, whose)
        maker = present.Present(self.gateway, token["token"])
        project_ids = await maker.ids("/projects")
        experiment_ids = {experiment.key: target.experiment_id for experiment, target in targets}
        for name, furnish in present.FURNISH.items():
            await furnish(maker, project_ids[name], experiment_ids)
        await present.account(maker)
        await self.projects.call("DELETE", f"{tokens}/{token['token_id']}", expected={204})

    async def _events(self, project: story.Project, owner: dict[str, int], created_at: str) -> dict[str, int]:
        ids = {event["key"]: event["id"] for event in await self.experiments.list_all("/events", **owner)}
        for event in project.events:
            if event.key not in ids:
                body = {
                    **owner,
                    "key": event.key,
                    "name": event.name,
                    "category": event.category,
                    "event_type": event.event_type,
                }
                ids[event.key] = (await self.experiments.create("/events", body, at=created_at))["id"]
        return ids

    async def _campaigns(
        self, project: story.Project, owner: dict[str, int], event_ids: dict[str, int], created_at: str
    ) -> dict[str, int]:
        layers = await self.experiments.list_all("/layers", **owner)
        ids = {layer.get("name"): layer["id"] for layer in layers if layer["type"] == "personalization"}
        for name in project.campaigns:
            if name not in ids:
                # All experiments of a campaign are measured alike.
                first = next(one for one in project.experiments if one.campaign == name)
                metrics = _metrics(first, event_ids)
                body = {**owner, "name": name, "type": "personalization", "metrics": metrics}
                layer = await self.experiments.create("/layers", body, at=created_at, action="start")
                ids[name] = layer["id"]
        return ids

    async def _pages_of_campaigns(
        self,
        project: story.Project,
        people: past.Past,
        page_ids: dict[str, int],
        campaign_ids: dict[str, int],
    ) -> None:
        """Let the experiments of a campaign run on the pages of the first one."""
        for name, campaign_id in campaign_ids.items():
            first = next(one for one in project.experiments if one.campaign == name)
            of_first = [page_ids[key] for key in first.pages]
            await people.change("layers", campaign_id, 37, past.ANA, page_ids=of_first)

    async def _pause_campaigns(
        self, project: story.Project, campaign_ids: dict[str, int], now: datetime
    ) -> None:
        for experiment in project.experiments:
            if experiment.end == "campaign" and experiment.campaign is not None:
                path = f"/layers/{campaign_ids[experiment.campaign]}"
                at = _days_before(now, experiment.ended)
                await self.experiments.call("PATCH", path, expected={200}, body={}, action="pause", at=at)

    async def _experiment(
        self,
        project: story.Project,
        experiment: story.Experiment,
        owner: dict[str, int],
        event_ids: dict[str, int],
        campaign_ids: dict[str, int],
        now: datetime,
    ) -> Target:
        existing = {
            item.get("key"): item for item in await self.experiments.list_all("/experiments", **owner)
        }
        entity = existing.get(experiment.key)
        if entity is None:
            body = {**owner, **_definition(project, experiment, event_ids, now)}
            if experiment.campaign is not None:
                body["campaign_id"] = campaign_ids[experiment.campaign]
            made = _days_before(now, experiment.started or 2)
            entity = await self.experiments.create("/experiments", body, at=made)
        return Target(
            account_id=owner["account_id"],
            project_id=owner["project_id"],
            campaign_id=entity["campaign_id"],
            experiment_id=entity["id"],
            variation_ids=tuple(variation["variation_id"] for variation in entity["variations"]),
            event_ids=event_ids,
            first=now - timedelta(days=experiment.started or 0),
            last=now - timedelta(days=experiment.ended),
            load=now.isoformat(),
        )

    async def _live(
        self, experiment: story.Experiment, experiment_id: int, page_ids: dict[str, int], now: datetime
    ) -> None:
        """Start the experiment on its pages, unless it was started before, and end it."""
        path = f"/experiments/{experiment_id}"
        _, entity = await self.experiments.call("GET", path, expected={200})
        if experiment.started is not None and entity["status"] == "not_started":
            # An experiment of a campaign runs on the campaign's pages.
            pages = () if experiment.campaign else experiment.pages
            body = {"page_ids": [page_ids[key] for key in pages]} if pages else {}
            at = _days_before(now, experiment.started)
            await self.experiments.call("PATCH", path, expected={200}, body=body, action="start", at=at)
        await self._end(experiment, experiment_id, now)

    async def _end(self, experiment: story.Experiment, experiment_id: int, now: datetime) -> None:
        path, at = f"/experiments/{experiment_id}", _days_before(now, experiment.ended)
        if experiment.end == "pause":
            await self.experiments.call("PATCH", path, expected={200}, body={}, action="pause", at=at)
        if experiment.end == "archive":
            await self.experiments.call("DELETE", path, expected={204, 410}, at=at)

    async def _send_visitors(
        self, targets: list[tuple[story.Experiment, Target]], console: Console
    ) -> tuple[int, int]:
        waiting: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=SENDERS)
        failed: list[Exception] = []
        with Progress(console, total=story.VISITORS) as progress:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(SENDERS):
                        group.create_task(self._send(waiting, progress))
                    for batch in _all_batches(targets):
                        await waiting.put(batch)
                    for _ in range(SENDERS):
                        await waiting.put(None)
            except* DemoError as failures:
                failed.extend(failures.exceptions)
        if failed:
            raise failed[0]
        return progress.visitors, progress.events

    async def _verify(self, account_id: int) -> None:
        """Compare the visitors that the results service has counted with those sent."""
        entities = await self.experiments.list_all("/experiments", account_id=account_id)
        by_key = {entity.get("key"): entity for entity in entities}
        for experiment in (item for project in story.PROJECTS for item in project.experiments):
            reach = await self._reach(by_key[experiment.key])
            if reach != experiment.visitors:
                raise DemoError(
                    f"{experiment.key}: {self.results.url} counted {reach} of {experiment.visitors} visitors;"
                    " remove the databases of all three services and load the demo again"
                )

    async def _send(self, waiting: asyncio.Queue[Batch | None], progress: Progress) -> None:
        while (batch := await waiting.get()) is not None:
            await self.results.call("POST", "/v1/events", expected={204}, body=batch.body)
            progress.sent(batch)


def _all_batches(targets: list[tuple[story.Experiment, Target]]) -> Iterator[Batch]:
    for experiment, target in targets:
        yield from batches(experiment, target)


def _metrics(experiment: story.Experiment, event_ids: dict[str, int]) -> list[dict[str, Any]]:
    metrics = [dict(metric) for metric in experiment.metrics]
    for metric in metrics:
        if "event" in metric:
            metric["event_id"] = event_ids[metric.pop("event")]
    return metrics


def _definition(
    project: story.Project, experiment: story.Experiment, event_ids: dict[str, int], now: datetime
) -> dict[str, Any]:
    """The request body that creates the experiment."""
    variations = [
        {"key": variation_key(name), "name": name, "weight": weight}
        for name, weight in zip(experiment.variations, experiment.weights, strict=True)
    ]
    body: dict[str, Any] = {
        "key": experiment.key,
        "name": experiment.name,
        "description": experiment.description,
        "variations": variations,
        "metrics": _metrics(experiment, event_ids),
        "platform": project.platform,
        "stats_config": {"confidence_level": project.confidence_threshold},
    }
    if experiment.end == "schedule":
        # Times of schedules have no seconds.
        stop = (now - timedelta(days=experiment.ended)).replace(second=0, microsecond=0)
        body["schedule"] = {"stop_time": stop.strftime("%Y-%m-%dT%H:%M:00Z"), "time_zone": "UTC"}
    return body


def _days_before(now: datetime, days: float) -> str:
    return format_time(now.astimezone(UTC) - timedelta(days=days))
