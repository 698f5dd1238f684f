"""Features: parts of an app that are rolled out bit by bit."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.environments import Environment, environments_of_project
from optimizely_api.gateway.resource import Entity, Resource, operation


class Features(Resource):
    """A feature's `environments` are those that its project has, whether the feature's service knows them or not."""

    async def prepared(self, request: Request, body: Entity, before: Entity | None) -> Entity:
        """The body with what the service does not know of environments; a new feature names all of them."""
        project_id = (before or body).get("project_id")
        if (before and "environments" not in body) or project_id is None:
            return body
        known = {one.key: one for one in await environments_of_project(request, project_id)}
        given = _with_audiences(body.get("environments", {}), request.swagger_data["body"])
        named = {
            **({} if before else {key: {"rollout_rules": []} for key in known}),
            **given,
        }
        marked = {
            key: {**value, **(known[key].shown if key in known else {})} for key, value in named.items()
        }
        return {**body, "environments": marked}

    async def shown(self, request: Request, entities: Iterable[Mapping[str, Any]]) -> list[Entity]:
        shown = await super().shown(request, entities)
        of_project: dict[int, list[Environment]] = {}  # asked once, for a list is of one project
        for feature in shown:
            project_id = feature["project_id"]
            if project_id not in of_project:
                of_project[project_id] = await environments_of_project(request, project_id)
            feature["environments"] = _as_they_are(feature.get("environments", {}), of_project[project_id])
        return shown


FEATURES = Features("Feature", "experiments")


@operation
async def list_features(request: Request) -> list[Any]:
    return await FEATURES.list(request)


@operation
async def create_feature(request: Request) -> dict[str, Any]:
    return await FEATURES.create(request)


@operation
async def get_feature(request: Request) -> dict[str, Any]:
    return await FEATURES.get(request)


@operation
async def update_feature(request: Request) -> dict[str, Any]:
    return await FEATURES.update(request)


@operation
async def delete_feature(request: Request) -> None:
    await FEATURES.archive(request)


def _as_they_are(stored: Mapping[str, Entity], environments: Iterable[Environment]) -> dict[str, Entity]:
    """The map of the project's present environments: in one that is new the feature is off, for the same people."""
    rules = [value["rollout_rules"] for value in stored.values() if value["rollout_rules"]]
    audiences = rules[0][0].get("audience_conditions", "everyone") if rules else "everyone"
    off = {"rollout_rules": [{"audience_conditions": audiences, "enabled": False, "percentage_included": 0}]}
    # By id: an environment keeps its rule under another key, and a new one gets no rule of one that had its key.
    of_id = {value.get("id"): value for value in stored.values()}
    return {one.key: {**off, **of_id.get(one.id, {}), **one.shown} for one in environments}


def _with_audiences(environments: dict[str, Entity], sent: Mapping[str, Any]) -> dict[str, Entity]:
    """Old scripts name `audience_ids`, a list of which one must fit, where there are no `audience_conditions` yet."""
    return {
        key: {
            **value,
            "rollout_rules": [
                _with_conditions(rule, sent["environments"][key]["rollout_rules"][number])
                for number, rule in enumerate(value["rollout_rules"])
            ],
        }
        for key, value in environments.items()
    }


def _with_conditions(rule: Entity, sent: Mapping[str, Any]) -> Entity:
    ids = sent.get("audience_ids")
    if "audience_conditions" in rule or not isinstance(ids, list):
        return rule
    leaves = [{"audience_id": audience_id} for audience_id in ids]
    return {**rule, "audience_conditions": json.dumps(["or", *leaves]) if leaves else "everyone"}
