"""Generates the visitors of one experiment as batches in the SDKs' shape.

The same experiment, ids, times and seed give the same batches, including uuids, so a batch that is sent again after an
interrupted load counts once. Another load must have other uuids even if its ids are the same (they start again with a
new database), or the results service would ignore its events as duplicates.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from random import Random
from typing import Any

import orjson

from optimizely_api.demo import story

VISITORS_A_BATCH = 500
DAY = 86_400_000  # milliseconds
MINUTE = 60_000
# Buying on a small screen is harder.
DEVICE_FACTORS = {"mobile": 0.92, "iphone": 0.96}


@dataclass(frozen=True)
class Target:
    """The ids and times of an experiment's events."""

    account_id: int
    project_id: int
    campaign_id: int
    experiment_id: int
    variation_ids: tuple[int, ...]
    event_ids: dict[str, int]
    first: datetime
    last: datetime
    load: str  # distinguishes this load from others (its account's creation time)
    attribute_ids: dict[str, str] = field(default_factory=dict)  # of attributes that are entities, by key


@dataclass(frozen=True)
class Batch:
    """The request body of one POST to `/v1/events`, with the numbers of its visitors and events."""

    body: bytes
    visitors: int
    events: int


def batches(experiment: story.Experiment, target: Target, seed: int = story.SEED) -> Iterator[Batch]:
    """The experiment's visitors, in batches of VISITORS_A_BATCH."""
    chance = Random(f"{seed}:{target.load}:{target.experiment_id}")  # noqa: S311  # to be repeatable, not secret
    crowd = Crowd(experiment, target, chance)
    remaining = experiment.visitors
    while remaining > 0:
        size = min(VISITORS_A_BATCH, remaining)
        remaining -= size
        entries = [entry for _ in range(size) for entry in crowd.visit()]
        yield Batch(batch_body(target, entries), size, len(entries))


def batch_body(target: Target, entries: Sequence[dict[str, Any]]) -> bytes:
    """The body of one POST to `/v1/events`, as an SDK sends it."""
    body = {
        "account_id": str(target.account_id),
        "project_id": str(target.project_id),
        "revision": "1",
        "client_name": "python-sdk",
        "client_version": "5.7.0",
        "anonymize_ip": True,
        "enrich_decisions": True,
        "visitors": entries,
    }
    return orjson.dumps(body)


class Crowd:
    """Generates the visitors of one experiment."""

    def __init__(self, experiment: story.Experiment, target: Target, chance: Random) -> None:
        self.experiment, self.target, self.chance = experiment, target, chance
        self.first = int(target.first.timestamp() * 1000)
        self.last = int(target.last.timestamp() * 1000)
        self.arms = range(len(experiment.variations))
        self.shares = list(accumulate(experiment.weights))
        self.hours = list(accumulate(story.HOURS))

    def visit(self, arrival: int | None = None) -> Iterator[dict[str, Any]]:
        """One visitor: an entry with the decision, then one for each conversion, as the SDKs send them.

        `arrival` is in milliseconds since 1970; None for some time while the experiment ran.
        """
        (arm,) = self.chance.choices(self.arms, cum_weights=self.shares)
        traits = self._traits()
        visitor = {
            "visitor_id": f"v{self.chance.getrandbits(64):016x}",
            "attributes": self._attributes(traits),
        }
        arrival = self._arrival() if arrival is None else arrival
        yield {**visitor, "snapshots": [self._decision(arm, arrival)]}
        for event in self._actions(arm, arrival, DEVICE_FACTORS.get(traits["device"], 1.0)):
            yield {**visitor, "snapshots": [{"events": [event]}]}

    def _attributes(self, traits: dict[str, str]) -> list[dict[str, str]]:
        ids = {**story.ATTRIBUTE_IDS, **self.target.attribute_ids}
        return [
            {"entity_id": ids[key], "key": key, "type": "custom", "value": value}
            for key, value in traits.items()
        ]

    def _traits(self) -> dict[str, str]:
        return {
            "browser": _pick(self.chance, story.BROWSERS),
            "device": _pick(self.chance, story.DEVICES),
            "source": _pick(self.chance, story.SOURCES),
            "customer": _pick(self.chance, story.CUSTOMERS),
        }

    def _arrival(self) -> int:
        """A time between the experiment's start and end, distributed over the day by `story.HOURS`."""
        while True:
            day = self.chance.randrange(self.first, self.last) // DAY * DAY
            (hour,) = self.chance.choices(range(24), cum_weights=self.hours)
            moment = day + hour * 60 * MINUTE + self.chance.randrange(60 * MINUTE)
            if self.first <= moment < self.last:
                return moment

    def _decision(self, arm: int, moment: int) -> dict[str, Any]:
        decision = {
            "campaign_id": str(self.target.campaign_id),
            "experiment_id": str(self.target.experiment_id),
            "variation_id": str(self.target.variation_ids[arm]),
            "is_campaign_holdback": False,
            "metadata": {
                "flag_key": "",
                "rule_key": self.experiment.key,
                "rule_type": "experiment",
                "variation_key": variation_key(self.experiment.variations[arm]),
                "enabled": True,
            },
        }
        event = self._event(self.target.campaign_id, "campaign_activated", moment)
        return {"decisions": [decision], "events": [event]}

    def _actions(self, arm: int, moment: int, factor: float) -> Iterator[dict[str, Any]]:
        done: set[str] = set()
        for behaviour in self.experiment.behaviours:
            if behaviour.after is not None and behaviour.after not in done:
                continue
            if self.chance.random() >= behaviour.rates[arm] * factor:
                continue
            done.add(behaviour.event)
            for _ in range(_times(self.chance, behaviour.times)):
                # Not after the end: later conversions would not count, and the figures would differ from the story.
                moment = min(moment + int(self.chance.expovariate(1 / 4) * MINUTE), self.last)
                yield self._conversion(behaviour, moment)

    def _conversion(self, behaviour: story.Behaviour, moment: int) -> dict[str, Any]:
        event = self._event(self.target.event_ids[behaviour.event], behaviour.event, moment)
        tags: dict[str, Any] = {}
        if behaviour.revenue is not None:
            typical, spread = behaviour.revenue
            tags["revenue"] = round(self.chance.lognormvariate(math.log(typical), spread))
        if behaviour.value is not None:
            tags["value"] = round(self.chance.uniform(*behaviour.value), 1)
        return {**event, **tags, "tags": tags} if tags else event

    def _event(self, entity_id: int, key: str, moment: int) -> dict[str, Any]:
        name = uuid.UUID(int=self.chance.getrandbits(128), version=4)
        return {"entity_id": str(entity_id), "key": key, "uuid": str(name), "timestamp": moment}


def variation_key(name: str) -> str:
    """A variation's key, from its name."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


def _pick(chance: Random, shares: tuple[tuple[str, int], ...]) -> str:
    point = chance.random() * sum(share for _, share in shares)
    for value, share in shares:
        point -= share
        if point < 0:
            return value
    return shares[-1][0]


def _times(chance: Random, mean: float) -> int:
    """A random number of times, at least 1, geometrically distributed."""
    times = 1
    while mean > 1 and chance.random() < 1 - 1 / mean:
        times += 1
    return times
