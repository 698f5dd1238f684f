"""Experiments, and the composite that replaces four calls by one: `get_experiment_results`."""

from collections.abc import Iterable, Mapping
from typing import Any

from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.gateway.composition import results as composition
from optimizely_api.gateway.composition.results_csv import EXPERIMENT_COLUMNS
from optimizely_api.gateway.csv_files import results_file
from optimizely_api.gateway.environments import (
    Environment,
    environments_of_project,
    environments_of_projects,
)
from optimizely_api.gateway.identity import check_account
from optimizely_api.gateway.platforms import WEB, check_for_the_web
from optimizely_api.gateway.resource import Entity, Resource, operation, visible_project
from optimizely_api.gateway.views.campaigns import CAMPAIGNS
from optimizely_api.gateway.waiting import wait_seconds
from optimizely_api.upstream import calls


class Experiments(Resource):
    """Experiments, which stand differently in each environment of a project that is not for the web."""

    async def prepared(self, request: Request, body: Entity, before: Entity | None) -> Entity:
        """The body with the project's environments, all of them if it is about one, and if the experiment is new.

        A new experiment is told the platform too: on the web it needs a page to run on.
        """
        project_id = (before or body).get("project_id")
        if (before and "environments" not in body) or project_id is None:
            return body
        platform = (await visible_project(request, project_id)).get("platform", WEB)
        if before is None:
            body = {**body, "platform": platform}
        if platform == WEB:
            return {name: value for name, value in body.items() if name != "environments"}
        known = {one.key: one.shown for one in await environments_of_project(request, project_id)}
        given = body.get("environments", {})
        named = {key: {**given.get(key, {}), **known.get(key, {})} for key in (*known, *given)}
        return {**body, "environments": named}

    async def shown(self, request: Request, entities: Iterable[Mapping[str, Any]]) -> list[Entity]:
        entities = list(entities)
        shown = await super().shown(request, entities)
        known = {one["project_id"] for one in entities if "environments" in one}
        of_project = await environments_of_projects(request, known) if known else {}
        for experiment, entity in zip(shown, entities, strict=True):
            if "environments" in entity:
                experiment["environments"] = _as_they_are(entity, of_project[entity["project_id"]])
        return shown


EXPERIMENTS = Experiments("Experiment", "experiments")


@operation
async def list_experiments(request: Request) -> list[Any]:
    """The account's experiments, or those of one project or campaign."""
    if request.swagger_data.get("campaign_id") is not None:
        await CAMPAIGNS.visible(request)
    return await EXPERIMENTS.list(request, "campaign_id", "include_classic")


@operation
async def create_experiment(request: Request) -> dict[str, Any]:
    if request.swagger_data["body"].get("type") == "multivariate":
        await check_for_the_web(request)
    return await EXPERIMENTS.create(request)


@operation
async def get_experiment(request: Request) -> dict[str, Any]:
    return await EXPERIMENTS.get(request)


@operation
async def update_experiment(request: Request) -> dict[str, Any]:
    return await EXPERIMENTS.update(request)


@operation
async def delete_experiment(request: Request) -> None:
    await EXPERIMENTS.archive(request)


@operation
async def get_experiment_results(request: Request) -> Any:
    """One call instead of four: the experiment, then its campaign, project and results together."""
    return await _results(request)


@operation
async def get_experiment_results_csv(request: Request) -> Response | None:
    return results_file("experiment", EXPERIMENT_COLUMNS, await _results(request))


@operation
async def get_experiment_report(request: Request) -> dict[str, Any] | None:
    results = await _results(request)
    return None if results is None else composition.experiment_report(results)


@operation
async def get_experiment_timeseries(request: Request) -> Any:
    return await _results(request, calls.compute_timeseries)


async def _results(request: Request, compute: composition.Compute = calls.compute_results) -> Any:
    """The results or the series; None without data and while they are computed, as the status then says."""
    experiment = await EXPERIMENTS.visible(request)
    makers = composition.experiment_results_makers(request.swagger_data, wait_seconds(request), compute)
    parts = await request.fetch_parts(makers, {"experiment": experiment})
    if parts["project"] is not None:
        check_account(request.identity, parts["project"], f"experiment {experiment['id']}")
    request.response.status_int, body = composition.results_response(composition.experiment_results(**parts))
    request.response.headers.update(composition.results_headers(parts["results"]))
    return body


def _as_they_are(experiment: Mapping[str, Any], environments: Iterable[Environment]) -> dict[str, Entity]:
    """The map of the project's present environments, known by id; in a new one the experiment has not started."""
    stored: Mapping[str, Entity] = experiment["environments"]
    of_id = {value["id"]: value["status"] for value in stored.values() if "id" in value}
    of_key = {key: value["status"] for key, value in stored.items() if "id" not in value}
    unknown = "archived" if experiment["status"] == "archived" else "not_started"
    return {one.key: {"status": of_id.get(one.id) or of_key.get(one.key, unknown)} for one in environments}
