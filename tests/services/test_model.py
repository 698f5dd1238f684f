"""Random sequences of calls, held against a model of what the API promises: the same statuses, and the same states.

A failure shows the seed and the calls that led there.
"""

import asyncio
import copy
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from random import Random
from typing import Any

import pytest

from tests.services.conftest import Caller
from tests.services.model_of_lives import (
    ALL_TRAFFIC,
    Experiment,
    Feature,
    Model,
    Refused,
    Variation,
)

Json = dict[str, Any]
ACCOUNT = 1
SEED = int(os.environ.get("MODEL_SEED", "1"))
SEQUENCES, WHOLE_SEQUENCES, STEPS = 40, 5_000, 10  # for each database
AT_ONCE = 4  # sequences: while the database works for one, another goes on
COMPARED = 0.1  # the share of steps after which everything is compared, besides the last
PROJECTS = count(1)
HAVE_PAGES = 0.8  # the share of experiments that name a page from the beginning
SOMEWHERE: Json = {"url_targeting": {"edit_url": "https://shop.example/"}}
ACTIONS = ("start", "resume", "pause", "publish", "unarchive")
NAMES = count(1)


class Player:
    """Makes random calls of one project, and the same on the model."""

    def __init__(self, service: Caller, seed: int) -> None:
        self.service, self.random, self.model = service, Random(seed), Model()
        self.project_id = next(PROJECTS)
        self.calls: list[str] = []

    async def step(self) -> None:
        model = self.model
        choices: list[Callable[[], Any]] = [self.create_experiment, self.create_campaign, self.create_feature]
        if model.experiments:
            choices += [self.act_on_experiment] * 6 + [self.vary] * 4 + [self.delete_experiment] * 2
        if model.experiments and model.features:
            choices += [self.test_another_feature]
        if model.campaigns:
            choices += [self.act_on_campaign] * 3 + [self.delete_campaign]
        if model.features:
            choices += [self.change_feature] * 3 + [self.delete_feature]
        await self.random.choice(choices)()

    # Experiments

    async def create_experiment(self) -> None:
        experiment = Experiment("a/b", variations=self._some_variations())
        experiment.has_page = self.random.random() < HAVE_PAGES
        body: Json = {
            "name": "An experiment",
            "variations": [_sent(one) for one in experiment.variations],
            **(SOMEWHERE if experiment.has_page else {}),
        }
        if self.model.features and self.random.random() < 0.4:
            experiment.kind, experiment.feature = "feature", self.random.choice(list(self.model.features))
            body["feature_id"] = experiment.feature
        elif self.model.campaigns and self.random.random() < 0.6:
            experiment.kind = "personalization"
            experiment.campaign = self.random.choice(list(self.model.campaigns))
            body |= {"type": "personalization", "campaign_id": experiment.campaign}
        action = self.random.choice(("", "", "start", "publish", "pause"))
        made = await self.call(
            lambda: self.model.created(experiment, action) and 201,
            "POST",
            "/experiments",
            action,
            self._owned(body),
        )
        if made:
            self.model.experiments[made["id"]] = experiment
            self._learn_ids(experiment, made)

    async def act_on_experiment(self) -> None:
        experiment_id, action = self._any(self.model.experiments), self.random.choice(ACTIONS)
        body: Json = {} if self.random.random() < 0.7 else {"name": f"Experiment {next(NAMES)}", **SOMEWHERE}
        changes = {"has_page": True} if body else {}
        await self.call(
            lambda: self.model.patch_experiment(experiment_id, action, **changes),
            "PATCH",
            f"/experiments/{experiment_id}",
            action,
            body,
        )

    async def vary(self) -> None:
        """Leave a variation out, add one, pause, archive or bring one back, share the traffic out anew, or wrongly."""
        experiment_id = self._any(self.model.experiments)
        given = copy.deepcopy(self.model.experiments[experiment_id].variations)
        change = self.random.choice(("drop", "add", "pause", "archive", "activate", "share", "wrong"))
        if change == "add":
            given.append(Variation(0))
        elif given and change == "drop":
            given.pop(self.random.randrange(len(given)))
        elif given and change in ("pause", "archive", "activate"):
            status = {"pause": "paused", "archive": "archived", "activate": "active"}[change]
            self.random.choice(given).status = status
        self._share(given)
        if given and change == "wrong":
            given[0].weight += 1 if given[0].weight < ALL_TRAFFIC else -1
        action = self.random.choice(("", "", "", "start", "pause"))
        changed = await self.call(
            lambda: self.model.patch_experiment(experiment_id, action, variations=given),
            "PATCH",
            f"/experiments/{experiment_id}",
            action,
            {"variations": [_sent(one) for one in given], "name": f"Experiment {next(NAMES)}"},
        )
        if changed:
            self._learn_ids(self.model.experiments[experiment_id], changed)

    async def test_another_feature(self) -> None:
        lone = [key for key, one in self.model.experiments.items() if not one.campaign]
        if not lone:
            return
        experiment_id, feature_id = self.random.choice(lone), self._any(self.model.features)
        is_same = self.model.experiments[experiment_id].feature == feature_id
        changes = {} if is_same else {"feature": feature_id}
        await self.call(
            lambda: self.model.patch_experiment(experiment_id, **changes),
            "PATCH",
            f"/experiments/{experiment_id}",
            "",
            {"feature_id": feature_id},
        )

    async def delete_experiment(self) -> None:
        experiment_id = self._any(self.model.experiments)
        path = f"/experiments/{experiment_id}"
        await self.call(lambda: self.model.delete_experiment(experiment_id), "DELETE", path)

    # Campaigns

    async def create_campaign(self) -> None:
        action = self.random.choice(("", "start", "publish"))
        has_page = self.random.random() < HAVE_PAGES / 2
        body = self._owned({"name": "A campaign", **(SOMEWHERE if has_page else {})})
        made = await self.call(lambda: 201, "POST", "/layers", action, body)
        self.model.campaigns[made["id"]] = self.model.created_campaign(action, has_page)

    async def act_on_campaign(self) -> None:
        campaign_id, action = self._any(self.model.campaigns), self.random.choice(ACTIONS)
        path = f"/layers/{campaign_id}"
        await self.call(lambda: self.model.patch_campaign(campaign_id, action), "PATCH", path, action, {})

    async def delete_campaign(self) -> None:
        campaign_id = self._any(self.model.campaigns)
        path = f"/layers/{campaign_id}"
        await self.call(lambda: self.model.delete_campaign(campaign_id), "DELETE", path)

    # Features

    async def create_feature(self) -> None:
        feature = Feature(enabled=self.random.random() < 0.3)
        feature.has_been_on = feature.enabled
        variable = {"key": "limit", "type": feature.variable_type, "default_value": "1"}
        body = {"key": f"feature_{next(NAMES)}", "variables": [variable], **_rule(feature.enabled)}
        made = await self.call(lambda: 201, "POST", "/features", "", self._owned(body))
        (stored,) = made["variables"]
        feature.variable = stored["id"]
        self.model.features[made["id"]] = feature

    async def change_feature(self) -> None:
        feature_id = self._any(self.model.features)
        variable = {"id": self.model.features[feature_id].variable, "archived": False}
        variable |= {"key": "limit", "default_value": "1"}
        changes: Json
        body: Json
        changes, body = self.random.choice(
            (
                ({"enabled": True}, _rule(True)),
                ({"enabled": False}, _rule(False)),
                ({"archived": True}, {"archived": True}),
                ({"archived": False}, {"archived": False}),
                ({"variable_type": "integer"}, {"variables": [{**variable, "type": "integer"}]}),
                ({"variable_type": "string"}, {"variables": [{**variable, "type": "string"}]}),
            )
        )
        path = f"/features/{feature_id}"
        await self.call(lambda: self.model.patch_feature(feature_id, **changes), "PATCH", path, "", body)

    async def delete_feature(self) -> None:
        feature_id = self._any(self.model.features)
        path = f"/features/{feature_id}"
        await self.call(lambda: self.model.delete_feature(feature_id), "DELETE", path)

    # Calls

    async def call(
        self, expected: Callable[[], Any], method: str, path: str, action: str = "", body: Json | None = None
    ) -> Any:
        """The body of the response, None when the call is refused; AssertionError for another status than expected."""
        try:
            wanted = expected()
        except Refused as refused:
            wanted = refused.status
        query = f"?action={action}" if action else ""
        self.calls.append(f"{method} {path}{query} {body} -> {wanted}")
        status, answer = await self.service.call(method, path + query, json=body)
        assert status == wanted, f"{status} {answer}"
        return answer if status < 300 else None

    async def compare(self) -> None:
        """The service shows all that the model has, as the model has it."""
        shown = {}
        for kind in ("experiments", "layers", "features"):
            path = f"/{kind}?project_id={self.project_id}&per_page=100"
            if kind == "layers":
                path += "&type=personalization"
            _, page = await self.service.get(path)
            shown[kind] = {one["id"]: one for one in page["items"]}
        model = self.model
        assert {key: _experiment(one) for key, one in shown["experiments"].items()} == {
            key: (
                model.shown(one),
                one.has_started,
                one.kind,
                [(v.id, v.weight, v.status) for v in one.variations],
            )
            for key, one in model.experiments.items()
        }
        assert {key: (one["status"], "earliest" in one) for key, one in shown["layers"].items()} == {
            key: (one.status, one.has_started) for key, one in model.campaigns.items()
        }
        assert {key: _feature(one) for key, one in shown["features"].items()} == {
            key: (one.archived, one.enabled, one.variable_type) for key, one in model.features.items()
        }

    # Parts

    def _any(self, entities: dict[int, Any]) -> int:
        return self.random.choice(list(entities))

    def _owned(self, body: Json) -> Json:
        return {"account_id": ACCOUNT, "project_id": self.project_id, **body}

    def _some_variations(self) -> list[Variation]:
        variations = [Variation(0) for _ in range(self.random.choice((0, 1, 2, 2, 3)))]
        if variations and self.random.random() < 0.2:
            variations[0].status = "paused"
        self._share(variations)
        return variations

    def _share(self, variations: list[Variation]) -> None:
        """All traffic to the active ones, or to those that are not archived."""
        statuses = self.random.choice((("active",), ("active", "paused")))
        sharing = [one for one in variations if one.status in statuses]
        for one in variations:
            one.weight = 0
        if sharing:
            left = ALL_TRAFFIC
            for one in sharing[1:]:
                one.weight = self.random.randrange(left // 2)
                left -= one.weight
            sharing[0].weight = left

    def _learn_ids(self, experiment: Experiment, shown: Json) -> None:
        for known, one in zip(experiment.variations, shown["variations"], strict=True):
            assert known.id in (0, one["variation_id"])
            known.id = one["variation_id"]


def _sent(variation: Variation) -> Json:
    known = {"variation_id": variation.id} if variation.id else {}
    return {**known, "weight": variation.weight, "status": variation.status}


def _rule(enabled: bool) -> Json:
    rule = {"audience_conditions": "everyone", "enabled": enabled, "percentage_included": 5000}
    return {"environments": {"production": {"id": 1, "is_primary": True, "rollout_rules": [rule]}}}


def _experiment(shown: Json) -> Any:
    variations = [(one["variation_id"], one["weight"], one["status"]) for one in shown["variations"]]
    return shown["status"], "earliest" in shown, shown["type"], variations


def _feature(shown: Json) -> Any:
    (rule,) = shown["environments"]["production"]["rollout_rules"]
    return shown["archived"], rule["enabled"], shown["variables"][0]["type"]


async def play(service: Caller, seeds: Iterable[int]) -> None:
    """Play a sequence for each seed, each in a project of its own."""
    left = iter(seeds)
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(_play_each(service, left))


async def _play_each(service: Caller, seeds: Iterator[int]) -> None:
    for seed in seeds:
        player = Player(service, seed)
        try:
            for _ in range(STEPS):
                await player.step()
                if player.random.random() < COMPARED:
                    await player.compare()
            await player.compare()
        except AssertionError as exc:
            exc.add_note("\n".join([f"MODEL_SEED={seed}", *player.calls]))
            raise


async def test_every_sequence_of_calls_has_the_statuses_and_the_states_of_the_model(
    experiments: Caller,
) -> None:
    await play(experiments, range(SEED, SEED + SEQUENCES))


@pytest.mark.whole
async def test_ten_thousand_sequences(experiments: Caller) -> None:
    """Half of them on each database."""
    first = SEED if experiments.database_url.startswith("sqlite") else SEED + WHOLE_SEQUENCES
    await play(experiments, range(first, first + WHOLE_SEQUENCES))
