"""`optimizely-api demo traffic`: visitors of the demo's running experiments, as SDKs would report them now.

Experiments, their variations and their events are read by the public operations; the events go to `POST /v1/events` of
the gateway, in batches of ten entries as the SDKs send them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import aiohttp
from rich.console import Console

from optimizely_api.demo import story
from optimizely_api.demo.client import TIMEOUT_SECONDS, DemoError, ServiceClient
from optimizely_api.demo.visitors import Crowd, Target, batch_body

BATCH_ENTRIES = 10  # the SDKs' default
TICK_SECONDS = 0.2
REPORT_SECONDS = 10.0
FASTER = 60  # times: a visitor who would order after four minutes does so after four seconds
PER_PAGE = 100

Entry = dict[str, Any]


@dataclass
class Sent:
    """What was sent so far."""

    visitors: int = 0
    conversions: int = 0
    started: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        seconds = time.monotonic() - self.started
        return f"{seconds:.0f} s: {self.visitors:,} visitors, {self.conversions:,} conversions"


async def send_traffic(
    url: str, token: str, console: Console, *, rate: float, seconds: float | None = None
) -> Sent:
    """Send `rate` visitors a second, at random times, for so many seconds or until it is cancelled.

    A line on `console` every ten seconds says how many were sent. Raises DemoError when the gateway does not answer,
    refuses the token, or has none of the demo's experiments running.
    """
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(
        timeout=timeout, headers={"Authorization": f"Bearer {token}"}
    ) as session:
        gateway = ServiceClient(session, url)
        crowds = await _running(gateway)
        if not crowds:
            raise DemoError(
                f"None of the demo's experiments runs at {url}: `make run` loads them, PATCH ?action=start starts one."
            )
        names = ", ".join(crowd.experiment.key for crowd in crowds)
        console.print(f"Sending {rate:g} visitors a second to {names}. Ctrl-C stops.", highlight=False)
        return await _Sender(gateway, crowds, console, rate).run(seconds)


async def _running(gateway: ServiceClient) -> list[Crowd]:
    """A crowd for each experiment of the demo that runs."""
    known = {experiment.name: experiment for project in story.PROJECTS for experiment in project.experiments}
    crowds = []
    for project in await _all(gateway, "/v2/projects"):
        events = {
            event["key"]: event["id"] for event in await _all(gateway, "/v2/events", project_id=project["id"])
        }
        attributes = await _all(gateway, "/v2/attributes", project_id=project["id"])
        attribute_ids = {attribute["key"]: str(attribute["id"]) for attribute in attributes}
        for entity in await _all(gateway, "/v2/experiments", project_id=project["id"]):
            experiment = known.get(entity["name"])
            if experiment is not None and entity["status"] == "running" and experiment.behaviours:
                target = _target(experiment, entity, project, events)
                target = replace(target, attribute_ids=attribute_ids)
                crowds.append(Crowd(experiment, target, Random()))  # noqa: S311  # not secret
    return crowds


def _target(experiment: story.Experiment, entity: Entry, project: Entry, event_ids: dict[str, int]) -> Target:
    of_name = {variation["name"]: variation["variation_id"] for variation in entity["variations"]}
    try:
        return Target(
            account_id=project["account_id"],
            project_id=project["id"],
            campaign_id=entity["campaign_id"],
            experiment_id=entity["id"],
            variation_ids=tuple(of_name[name] for name in experiment.variations),
            event_ids={behaviour.event: event_ids[behaviour.event] for behaviour in experiment.behaviours},
            first=datetime.now(UTC),
            last=datetime.max.replace(tzinfo=UTC),
            load="",
        )
    except KeyError as exc:
        raise DemoError(f"{experiment.key} is no longer as the demo made it: {exc} is missing.") from None


async def _all(gateway: ServiceClient, path: str, **params: Any) -> list[Any]:
    items: list[Any] = []
    page, found = 1, None
    while found is None or len(found) == PER_PAGE:
        _, found = await gateway.call("GET", path, expected={200}, **params, page=page, per_page=PER_PAGE)
        items, page = items + found, page + 1
    return items


class _Sender:
    """Lets visitors arrive, and sends each entry when its time has come."""

    def __init__(
        self, gateway: ServiceClient, crowds: Sequence[Crowd], console: Console, rate: float
    ) -> None:
        self.gateway, self.crowds, self.console, self.rate = gateway, crowds, console, rate
        self.chance = Random()  # noqa: S311
        self.due: list[tuple[float, int, Target, Entry]] = []  # a heap by time, in seconds since 1970
        self.numbers = itertools.count()  # entries that are due at the same time cannot be compared
        self.sent = Sent()

    async def run(self, seconds: float | None) -> Sent:
        now = time.time()
        ends = now + seconds if seconds is not None else float("inf")
        arrival, report = now, now + REPORT_SECONDS
        try:
            while (now := time.time()) < ends:
                while arrival <= now:
                    self._arrive(arrival)
                    arrival += self.chance.expovariate(self.rate)
                await self._send(now)
                if now >= report:
                    report += REPORT_SECONDS
                    self.console.print(self.sent.line(), highlight=False)
                await asyncio.sleep(TICK_SECONDS)
        finally:
            self.console.print(self.sent.line(), highlight=False)
        return self.sent

    def _arrive(self, moment: float) -> None:
        weights = [crowd.experiment.visitors for crowd in self.crowds]
        (crowd,) = self.chance.choices(self.crowds, weights)
        for entry in crowd.visit(int(moment * 1000)):
            (event,) = entry["snapshots"][0]["events"]
            due = moment + (event["timestamp"] / 1000 - moment) / FASTER
            event["timestamp"] = int(due * 1000)
            heapq.heappush(self.due, (due, next(self.numbers), crowd.target, entry))

    async def _send(self, now: float) -> None:
        due: list[tuple[Target, Entry]] = []
        while self.due and self.due[0][0] <= now:
            _, _, target, entry = heapq.heappop(self.due)
            due.append((target, entry))
        for target, entries in _batches(due):
            body = batch_body(target, entries)
            await self.gateway.call("POST", "/v1/events", expected={204}, body=body)
            arrived = sum("decisions" in entry["snapshots"][0] for entry in entries)
            self.sent.visitors += arrived
            self.sent.conversions += len(entries) - arrived


def _batches(due: Sequence[tuple[Target, Entry]]) -> Iterator[tuple[Target, Sequence[Entry]]]:
    """At most BATCH_ENTRIES entries of one project, and a target in it."""
    by_project: dict[int, list[tuple[Target, Entry]]] = {}
    for target, entry in due:
        by_project.setdefault(target.project_id, []).append((target, entry))
    for of_project in by_project.values():
        for start in range(0, len(of_project), BATCH_ENTRIES):
            batch = of_project[start : start + BATCH_ENTRIES]
            yield batch[0][0], [entry for _, entry in batch]
