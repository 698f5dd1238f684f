"""Experiments, and the composite that replaces four calls by one: `get_experiment_results`."""

from typing import Any

from pyramid.request import Request
from pyramid.view import view_config

from optimizely_api.contract.definitions import public
from optimizely_api.gateway.composition import results as composition
from optimizely_api.gateway.identity import check_account
from optimizely_api.gateway.paging import answer_page, requested_page
from optimizely_api.gateway.resource import visible_project
from optimizely_api.gateway.views.campaigns import visible_campaign
from optimizely_api.upstream import calls


@view_config(route_name="list_experiments", renderer="json")
async def list_experiments(request: Request) -> list[Any]:
    """The account's experiments, or those of one project or campaign."""
    query, page = request.swagger_data, requested_page(request)
    if query.get("project_id") is not None:
        await visible_project(request, query["project_id"])
    if query.get("campaign_id") is not None:
        await visible_campaign(request, query["campaign_id"])
    filters = {name: query.get(name) for name in ("project_id", "campaign_id", "include_classic")}
    listed = await request.fetch(calls.list_experiments(request.identity.account_id, page, filters))
    return [public("Experiment", experiment) for experiment in answer_page(request, page, listed)]


@view_config(route_name="get_experiment", renderer="json")
async def get_experiment(request: Request) -> dict[str, Any]:
    return public("Experiment", await visible_experiment(request, request.swagger_data["experiment_id"]))


@view_config(route_name="get_experiment_results", renderer="json")
async def get_experiment_results(request: Request) -> Any:
    """One call instead of four: the experiment, then its campaign, project and results together."""
    experiment = await visible_experiment(request, request.swagger_data["experiment_id"])
    layer, project, results = await request.fetch_all(
        composition.experiment_results_calls(experiment, request.swagger_data)
    )
    check_account(request.identity, project, f"experiment {experiment['id']}")
    request.response.status_int, body = composition.results_answer(
        composition.experiment_results(experiment, layer, project, results)
    )
    request.response.headers.update(composition.sample_ratio_headers(results))
    return body


async def visible_experiment(request: Request, experiment_id: int) -> dict[str, Any]:
    """Fetch an experiment; raises EntityNotFound, or Forbidden when it is another account's."""
    experiment: dict[str, Any] = await request.fetch(calls.get_experiment(experiment_id))
    check_account(request.identity, experiment, f"experiment {experiment_id}")
    return experiment
