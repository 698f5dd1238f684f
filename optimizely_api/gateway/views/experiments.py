"""Experiments, and the composite that replaces four calls by one: `get_experiment_results`."""

from typing import Any

from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.gateway.composition import results as composition
from optimizely_api.gateway.composition.results_csv import EXPERIMENT_COLUMNS, csv_chunks
from optimizely_api.gateway.csv_files import csv_file
from optimizely_api.gateway.identity import check_account
from optimizely_api.gateway.platforms import check_for_the_web
from optimizely_api.gateway.resource import Resource, operation
from optimizely_api.gateway.views.campaigns import CAMPAIGNS

EXPERIMENTS = Resource("Experiment", "experiments")


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
    results = await _results(request)
    if results is None:
        return None
    name = f"experiment_{results['experiment_id']}_results.csv"
    return csv_file(name, results, csv_chunks(EXPERIMENT_COLUMNS, results))


async def _results(request: Request) -> Any:
    """The contract's ExperimentResults; None without data and while they are computed, as the status then says."""
    experiment = await EXPERIMENTS.visible(request)
    layer, project, results = await request.fetch_all(
        composition.experiment_results_calls(experiment, request.swagger_data)
    )
    check_account(request.identity, project, f"experiment {experiment['id']}")
    request.response.status_int, body = composition.results_response(
        composition.experiment_results(experiment, layer, project, results)
    )
    request.response.headers.update(composition.sample_ratio_headers(results))
    return body
