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
    makers = composition.experiment_results_makers(request.swagger_data, wait_seconds(request))
    parts = request.fetch_parts(makers, {"experiment": experiment})
    if parts["project"] is not None:
        check_account(request.identity, parts["project"], f"experiment {experiment_id}")
    request.response.status_int, body = composition.results_response(composition.experiment_results(**parts))
    request.response.headers.update(composition.results_headers(parts["results"]))
    return body


@view_config(route_name="get_campaign_results", renderer="json")
def get_campaign_results(request: Request) -> Any:
    campaign_id = request.swagger_data["campaign_id"]
    campaign = request.fetch(calls.get_layer(campaign_id))
    check_account(request.identity, campaign, f"campaign {campaign_id}")
    check_role(request.identity, READ, campaign["project_id"])
    at_most = request.registry["settings"].campaign_fan_out
    makers = composition.campaign_results_makers(request.swagger_data, wait_seconds(request), at_most)
    parts = request.fetch_parts(makers, {"campaign": campaign}, at_most=at_most)
    if parts["project"] is not None:
        check_account(request.identity, parts["project"], f"campaign {campaign_id}")
    merged = composition.campaign_results(**parts)
    request.response.status_int, body = composition.results_response(merged)
    request.response.headers.update(composition.results_headers(merged))
    return body
