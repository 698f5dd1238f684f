"""Loading the demo: once, over HTTP, and safe to interrupt.

What exists already is found by its name or key and used again, visitors and their events are the same
every time, and the results service counts each event once. The token is written last: as long as it does
not work, the next load goes through everything again and adds what is missing.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from rich.console import Console

from optimizely_api.demo import story
from optimizely_api.demo.client import TIMEOUT_SECONDS, DemoError, ServiceClient
from optimizely_api.demo.progress import Progress
from optimizely_api.demo.visitors import Batch, Target, batches, variation_key
from optimizely_api.services_key import authorization

SENDERS = 4  # batches under way at once
TOKEN_SHA256 = hashlib.sha256(story.TOKEN.encode()).hexdigest()


@dataclass(frozen=True)
class DemoSummary:
    """What the demo holds: the token to ask with, the experiment to ask for, and what it took.

    `counts` has projects and experiments, and after a load visitors and events as well.
    """

    token: str
    experiment_id: int
    counts: dict[str, int]
    seconds: float
    loaded: bool  # False: it was there already


async def load_demo(
    projects_url: str, experiments_url: str, results_url: str, console: Console, *, key: str
) -> DemoSummary:
    """Load the demo into the three services, unless it is there; progress goes to `console`.

    `key` is the services' key.

    Raises DemoError when a service does not take its part. Another call then completes the load.
    """
    started = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, headers=authorization(key)) as session:
        urls = (projects_url, experiments_url, results_url)
        loader = Loader(*(ServiceClient(session, url) for url in urls))
        headline, counts = await loader.find(), loader.counts()
        loaded = headline is None
        if headline is None:
            headline, counts = await loader.load(console)
    return DemoSummary(story.TOKEN, headline, counts, time.monotonic() - started, loaded)


class Loader:
    """What knows, for each part of the story, whether it is there, and how to make it."""

    def __init__(self, projects: ServiceClient, experiments: ServiceClient, results: ServiceClient) -> None:
        self.projects, self.experiments, self.results = projects, experiments, results

    @staticmethod
    def counts() -> dict[str, int]:
        """How much there is of what is always there."""
        return {"projects": len(story.PROJECTS), "experiments": story.EXPERIMENTS}

    async def find(self) -> int | None:
        """The headline experiment's id, if the whole demo is there."""
        status, token = await self.projects.call("GET", f"/tokens/{TOKEN_SHA256}", expected={200, 404})
        if status == 404:
            return None
        found = await self.experiments.listed("/experiments", account_id=token["account_id"])
        by_key = {experiment.get("key"): experiment for experiment in found}
        headline = by_key.get(story.HEADLINE)
        if headline is None or not await self._has_results(headline):
            return None  # one of the databases was removed
        return int(headline["id"])

    async def _has_results(self, experiment: dict[str, Any]) -> bool:
        return await self._reach(experiment) > 0

    async def _reach(self, experiment: dict[str, Any]) -> int:
        """How many visitors the results service has counted in the experiment."""
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
        """Everything that is missing; returns the headline experiment's id and what was sent."""
        account = await self._account()
        now = await self._beginning(account)
        targets: list[tuple[story.Experiment, Target]] = []
        for project in story.PROJECTS:
            targets += await self._project(account["id"], project, now)
        visitors, events = await self._send_visitors(targets, console)
        await self._verify(account["id"])
        given = {"name": "Demo", "token_sha256": TOKEN_SHA256}
        await self.projects.made(f"/accounts/{account['id']}/tokens", given)
        (headline,) = (target for experiment, target in targets if experiment.key == story.HEADLINE)
        return headline.experiment_id, {**self.counts(), "visitors": visitors, "events": events}

    async def _beginning(self, account: dict[str, Any]) -> datetime:
        """When this load began: one that was interrupted, or lost its account, goes on with the same times."""
        (headline,) = (one for one in story.SHOP.experiments if one.key == story.HEADLINE)
        for found in await self.experiments.listed("/experiments", account_id=account["id"]):
            if found.get("key") == story.HEADLINE and "earliest" in found:
                return datetime.fromisoformat(found["earliest"]) + timedelta(days=headline.started or 0)
        return datetime.fromisoformat(account["created"])

    async def _account(self) -> Any:
        found = await self.projects.listed("/accounts", name=story.ACCOUNT)
        return found[0] if found else await self.projects.made("/accounts", {"name": story.ACCOUNT})

    async def _project(
        self, account_id: int, project: story.Project, now: datetime
    ) -> list[tuple[story.Experiment, Target]]:
        known = {
            found["name"]: found for found in await self.projects.listed("/projects", account_id=account_id)
        }
        settings = {
            "account_id": account_id,
            "name": project.name,
            "description": project.description,
            "platform": project.platform,
            "confidence_threshold": project.confidence_threshold,
            **({"sdks": list(project.sdks)} if project.sdks else {}),
        }
        made_at = _days_before(now, 40)
        made = known.get(project.name) or await self.projects.made("/projects", settings, at=made_at)
        owner = {"account_id": account_id, "project_id": made["id"]}
        event_ids = await self._events(project, owner, made_at)
        campaign_ids = await self._campaigns(project, owner, event_ids, made_at)
        targets = [
            (experiment, await self._experiment(project, experiment, owner, event_ids, campaign_ids, now))
            for experiment in project.experiments
        ]
        await self._pause_campaigns(project, campaign_ids, now)
        return targets

    async def _events(self, project: story.Project, owner: dict[str, int], made_at: str) -> dict[str, int]:
        known = {event["key"]: event["id"] for event in await self.experiments.listed("/events", **owner)}
        for event in project.events:
            if event.key not in known:
                given = {"key": event.key, "name": event.name, "category": event.category}
                body = {**owner, **given, "event_type": event.event_type}
                known[event.key] = (await self.experiments.made("/events", body, at=made_at))["id"]
        return known

    async def _campaigns(
        self, project: story.Project, owner: dict[str, int], event_ids: dict[str, int], made_at: str
    ) -> dict[str, int]:
        listed = await self.experiments.listed("/layers", **owner)
        known = {layer.get("name"): layer["id"] for layer in listed if layer["type"] == "personalization"}
        for name in project.campaigns:
            if name not in known:
                # All experiments of a campaign are measured alike.
                first = next(one for one in project.experiments if one.campaign == name)
                metrics = _metrics(first, event_ids)
                body = {**owner, "name": name, "type": "personalization", "metrics": metrics}
                known[name] = (await self.experiments.made("/layers", body, at=made_at, action="start"))["id"]
        return known

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
        known = {found.get("key"): found for found in await self.experiments.listed("/experiments", **owner)}
        made = known.get(experiment.key)
        if made is None:
            body = {**owner, **_definition(project, experiment, event_ids, now)}
            if experiment.campaign is not None:
                body["campaign_id"] = campaign_ids[experiment.campaign]
            params = {"at": _days_before(now, experiment.started or 2)}
            if experiment.started is not None:
                params["action"] = "start"
            made = await self.experiments.made("/experiments", body, **params)
        await self._end(experiment, made["id"], now)
        return Target(
            **owner,
            campaign_id=made["campaign_id"],
            experiment_id=made["id"],
            variation_ids=tuple(variation["variation_id"] for variation in made["variations"]),
            event_ids=event_ids,
            first=now - timedelta(days=experiment.started or 0),
            last=now - timedelta(days=experiment.ended),
            load=now.isoformat(),
        )

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
        """Compare what the results service has counted with what was sent."""
        found = await self.experiments.listed("/experiments", account_id=account_id)
        by_key = {experiment.get("key"): experiment for experiment in found}
        for experiment in (one for project in story.PROJECTS for one in project.experiments):
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
    """The body that makes the experiment."""
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
        "stats_config": {"confidence_level": project.confidence_threshold},
    }
    if experiment.end == "schedule":
        # Schedules know whole minutes only.
        stop = (now - timedelta(days=experiment.ended)).replace(second=0, microsecond=0)
        body["schedule"] = {"stop_time": stop.strftime("%Y-%m-%dT%H:%M:00Z"), "time_zone": "UTC"}
    return body


def _days_before(now: datetime, days: float) -> str:
    return (now.astimezone(UTC) - timedelta(days=days)).isoformat().replace("+00:00", "Z")
