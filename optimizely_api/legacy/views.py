"""The two composites as blocking views: line by line the same as the coroutines in `gateway/views/`."""

from typing import Any

from pyramid.request import Request
from pyramid.view import view_config

from optimizely_api.gateway.composition import results as composition
from optimizely_api.gateway.identity import check_account
from optimizely_api.gateway.roles import READ, check_role
from optimizely_api.gateway.waiting import wait_seconds
from optimizely_api.upstream import calls


@view_config(route_name="get_experiment_results", renderer="json")
def get_experiment_results(request: Request) -> Any:
    experiment_id = request.swagger_data["experiment_id"]
    experiment = request.fetch(calls.get_experiment(experiment_id))
    check_account(request.identity, experiment, f"experiment {experiment_id}")
    check_role(request.identity, READ, experiment["project_id"])
    calls_together = composition.experiment_results_calls(experiment, request.swagger_data)
    layer, project, results = request.fetch_all(composition.with_wait(calls_together, wait_seconds(request)))
    check_account(request.identity, project, f"experiment {experiment_id}")
    request.response.status_int, body = composition.results_response(
        composition.experiment_results(experiment, layer, project, results)
    )
    request.response.headers.update(composition.results_headers(results))
    return body


@view_config(route_name="get_campaign_results", renderer="json")
def get_campaign_results(request: Request) -> Any:
    campaign_id = request.swagger_data["campaign_id"]
    layer = request.fetch(calls.get_layer(campaign_id))
    check_account(request.identity, layer, f"campaign {campaign_id}")
    check_role(request.identity, READ, layer["project_id"])
    project, *pages = request.fetch_all(composition.campaign_calls(layer))
    check_account(request.identity, project, f"campaign {campaign_id}")
    experiments = composition.experiments_of(pages)
    at_most = request.registry["settings"].campaign_fan_out
    results_calls = composition.campaign_results_calls(layer, experiments, request.swagger_data)
    results = request.fetch_all(
        composition.with_wait(results_calls, wait_seconds(request), at_most), at_most=at_most
    )
    merged = composition.campaign_results(layer, project, experiments, results)
    request.response.status_int, body = composition.results_response(merged)
    request.response.headers.update(composition.results_headers(merged))
    return body
