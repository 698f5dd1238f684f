"""What the API promises about the lives of experiments, campaigns and features: a model that knows nothing of the code.

Each method makes one call's effect on the model and returns the status that the call must have. A refused call leaves
everything as it was.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
ALL_TRAFFIC = 10_000

# from -> action -> to; what is missing is a 409
NEXT: dict[str, dict[str, str]] = {
    "not_started": {"start": "running", "publish": "not_started"},
    "running": {"start": "running", "resume": "running", "pause": "paused", "publish": "running"},
    "paused": {"start": "running", "resume": "running", "pause": "paused", "publish": "paused"},
    "archived": {"unarchive": "paused"},
}


class Refused(Exception):
    """The call is refused with this status."""

    def __init__(self, status: int) -> None:
        self.status = status


@dataclass
class Feature:
    archived: bool = False
    enabled: bool = False
    has_been_on: bool = False
    variable_type: str = "string"
    variable: int = 0  # its id


@dataclass
class Campaign:
    status: str = "not_started"
    has_page: bool = False
    has_started: bool = False
    archived_with: dict[int, str] = field(default_factory=dict)


@dataclass
class Variation:
    weight: int
    status: str = "active"
    id: int = 0  # 0: the service has not been asked yet


@dataclass
class Experiment:
    kind: str
    status: str = "not_started"
    has_page: bool = False
    has_started: bool = False
    variations: list[Variation] = field(default_factory=list)
    feature: int = 0
    campaign: int = 0


@dataclass
class Model:
    """The experiments, campaigns and features of a project for the web, by their ids."""

    experiments: dict[int, Experiment] = field(default_factory=dict)
    campaigns: dict[int, Campaign] = field(default_factory=dict)
    features: dict[int, Feature] = field(default_factory=dict)

    def shown(self, experiment: Experiment) -> str:
        """The status that callers see: an experience runs only while its campaign does."""
        has_to_wait = experiment.campaign and self.campaigns[experiment.campaign].status != "running"
        return "campaign_paused" if has_to_wait and experiment.status == "running" else experiment.status

    # Experiments

    def created(self, experiment: Experiment, action: str) -> Experiment:
        """The new experiment after the action with which it is made."""
        self._check_references(experiment.feature, experiment.campaign)
        _check_weights(experiment.variations)
        if action == "pause":
            experiment.status = "paused"
        elif action:
            self._act(experiment, action)
        return experiment

    def _check_references(self, feature: int, campaign: int) -> None:
        if feature and self.features[feature].archived:
            raise Refused(400)
        if campaign and self.campaigns[campaign].status == "archived":
            raise Refused(400)

    def patch_experiment(self, experiment_id: int, action: str = "", **changes: Any) -> int:
        """The changes are applied first, then the action; but an archived experiment has to come back first."""
        before = self.experiments[experiment_id]
        experiment = copy.deepcopy(before)
        if action == "unarchive":
            self._act(experiment, action)
        if experiment.status == "archived" and (changes or action):
            raise Refused(409)
        if "feature" in changes and changes["feature"] != experiment.feature:
            if experiment.has_started:
                raise Refused(409)
            self._check_references(changes["feature"], 0)
            experiment.feature, experiment.kind = changes["feature"], "feature"
        if "has_page" in changes:
            experiment.has_page = changes["has_page"]
        if "variations" in changes:
            experiment.variations = _merged(experiment, changes["variations"])
            _check_weights(experiment.variations)
        if action and action != "unarchive":
            self._act(experiment, action)
        self.experiments[experiment_id] = experiment
        return 200

    def delete_experiment(self, experiment_id: int) -> int:
        experiment = self.experiments[experiment_id]
        if experiment.status == "archived":
            raise Refused(410)
        experiment.status = "archived"
        return 204

    def _act(self, experiment: Experiment, action: str) -> None:
        before = experiment.status
        after = NEXT[before].get(action)
        if after is None:
            raise Refused(409)
        if experiment.campaign and self.campaigns[experiment.campaign].status == "archived":
            raise Refused(409)
        if after == "running" and before != "running":
            if not any(one.status == "active" for one in experiment.variations):
                raise Refused(409)
            if experiment.feature and self.features[experiment.feature].archived:
                raise Refused(409)
            if not self._has_page(experiment):
                raise Refused(409)
            experiment.has_started = True
            if experiment.feature:
                self.features[experiment.feature].has_been_on = True
        experiment.status = after

    def _has_page(self, experiment: Experiment) -> bool:
        """Whether it names a page to run on, or its campaign does."""
        campaign = self.campaigns.get(experiment.campaign)
        return experiment.has_page or (campaign is not None and campaign.has_page)

    # Campaigns

    def created_campaign(self, action: str, has_page: bool) -> Campaign:
        """Unlike an experiment, a campaign may be started without a page."""
        status = {"": "not_started", "start": "running", "publish": "paused"}[action]
        return Campaign(status, has_page, has_started=status == "running")

    def patch_campaign(self, campaign_id: int, action: str) -> int:
        campaign = self.campaigns[campaign_id]
        after = NEXT[campaign.status].get(action)
        if after is None:
            raise Refused(409)
        if action == "unarchive":
            for experiment_id, status in campaign.archived_with.items():
                if self.experiments[experiment_id].status == "archived":
                    self.experiments[experiment_id].status = status
            campaign.archived_with = {}
        campaign.status = after
        campaign.has_started |= after == "running"
        return 200

    def delete_campaign(self, campaign_id: int) -> int:
        """Its experiences go into the archive with it, and come back with it as they were."""
        campaign = self.campaigns[campaign_id]
        if campaign.status == "archived":
            raise Refused(410)
        for experiment_id, experiment in self.experiments.items():
            if experiment.campaign == campaign_id and experiment.status != "archived":
                campaign.archived_with[experiment_id] = experiment.status
                experiment.status = "archived"
        campaign.status = "archived"
        return 204

    # Features

    def patch_feature(self, feature_id: int, **changes: Any) -> int:
        before = self.features[feature_id]
        feature = copy.copy(before)
        for name, value in changes.items():
            setattr(feature, name, value)
        if before.archived and feature.archived and feature != before:
            raise Refused(409)
        if feature.archived and not before.archived and self._is_tested(feature_id):
            raise Refused(409)
        if feature.variable_type != before.variable_type and before.has_been_on:
            raise Refused(409)
        feature.has_been_on |= feature.enabled
        self.features[feature_id] = feature
        return 200

    def delete_feature(self, feature_id: int) -> int:
        if self.features[feature_id].archived:
            raise Refused(410)
        self.patch_feature(feature_id, archived=True)
        return 204

    def _is_tested(self, feature_id: int) -> bool:
        return any(one.feature == feature_id and one.status == "running" for one in self.experiments.values())


def _check_weights(variations: list[Variation]) -> None:
    """All traffic is shared out, among those that are not archived or among the active ones alone."""
    if not variations:
        return
    sums = [
        sum(one.weight for one in variations if one.status in statuses)
        for statuses in (("active", "paused"), ("active",))
    ]
    if ALL_TRAFFIC not in sums:
        raise Refused(400)


def _merged(experiment: Experiment, given: list[Variation]) -> list[Variation]:
    """The whole list as given; after the first start those left out stay, archived for good and without traffic."""
    known = {one.id: one for one in experiment.variations}
    if experiment.has_started:
        if any(one.id and known[one.id].status == "archived" != one.status for one in given):
            raise Refused(409)
        kept = {one.id for one in given}
        left_out = [Variation(0, "archived", one.id) for one in experiment.variations if one.id not in kept]
        return [*given, *left_out]
    return given
