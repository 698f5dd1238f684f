"""Campaigns, which the services call layers: a set of experiments that share pages, metrics and a schedule."""

from typing import Any

from pyramid.request import Request
from pyramid.view import view_config

from optimizely_api.contract.definitions import public
from optimizely_api.gateway.composition import results as composition
from optimizely_api.gateway.identity import check_account
from optimizely_api.gateway.paging import answer_page, requested_page
from optimizely_api.gateway.resource import visible_project
from optimizely_api.upstream import calls


@view_config(route_name="list_campaigns", renderer="json")
async def list_campaigns(request: Request) -> list[Any]:
    page = requested_page(request)
    project = await visible_project(request, request.swagger_data["project_id"])
    listed = await request.fetch(
        calls.list_layers(request.identity.account_id, page, {"project_id": project["id"]})
    )
    return [public("Campaign", layer) for layer in answer_page(request, page, listed)]


@view_config(route_name="get_campaign", renderer="json")
async def get_campaign(request: Request) -> dict[str, Any]:
    return public("Campaign", await visible_campaign(request, request.swagger_data["campaign_id"]))


@view_config(route_name="get_campaign_results", renderer="json")
async def get_campaign_results(request: Request) -> Any:
    """The results of all experiments of a campaign: three steps, the last one a call per experiment."""
    layer = await visible_campaign(request, request.swagger_data["campaign_id"])
    project, *pages = await request.fetch_all(composition.campaign_calls(layer))
    check_account(request.identity, project, f"campaign {layer['id']}")
    experiments = composition.experiments_of(pages)
    results = await request.fetch_all(
        composition.campaign_results_calls(layer, experiments, request.swagger_data),
        at_most=request.registry["settings"].campaign_fan_out,
    )
    request.response.status_int, body = composition.results_answer(
        composition.campaign_results(layer, project, experiments, results)
    )
    return body


async def visible_campaign(request: Request, campaign_id: int) -> dict[str, Any]:
    """Fetch a campaign; raises EntityNotFound, or Forbidden when it is another account's."""
    layer: dict[str, Any] = await request.fetch(calls.get_layer(campaign_id))
    check_account(request.identity, layer, f"campaign {campaign_id}")
    return layer
