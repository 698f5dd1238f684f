"""Campaigns, which the services call layers: a set of experiments that share pages and metrics."""

from typing import Any

from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.gateway.composition import results as composition
from optimizely_api.gateway.composition.results_csv import CAMPAIGN_COLUMNS
from optimizely_api.gateway.csv_files import results_file
from optimizely_api.gateway.identity import check_account
from optimizely_api.gateway.platforms import check_for_the_web
from optimizely_api.gateway.resource import Resource, operation
from optimizely_api.gateway.waiting import wait_seconds

CAMPAIGNS = Resource("Campaign", "experiments", path="/layers", shape="Layer")


@operation
async def list_campaigns(request: Request) -> list[Any]:
    """Those for personalization: the campaign of a single experiment is read by its id only."""
    return await CAMPAIGNS.list(request, type="personalization")


@operation
async def create_campaign(request: Request) -> dict[str, Any]:
    await check_for_the_web(request)
    return await CAMPAIGNS.create(request)


@operation
async def get_campaign(request: Request) -> dict[str, Any]:
    return await CAMPAIGNS.get(request)


@operation
async def update_campaign(request: Request) -> dict[str, Any]:
    return await CAMPAIGNS.update(request)


@operation
async def delete_campaign(request: Request) -> None:
    await CAMPAIGNS.archive(request)


@operation
async def get_campaign_results(request: Request) -> Any:
    """The results of all experiments of a campaign: three steps, with a call per experiment in the last."""
    return await _results(request)


@operation
async def get_campaign_results_csv(request: Request) -> Response | None:
    return results_file("campaign", CAMPAIGN_COLUMNS, await _results(request))


async def _results(request: Request) -> Any:
    """The contract's CampaignResults; None without data and while they are computed, as the status then says."""
    campaign = await CAMPAIGNS.visible(request)
    at_most = request.registry["settings"].campaign_fan_out
    makers = composition.campaign_results_makers(request.swagger_data, wait_seconds(request), at_most)
    parts = await request.fetch_parts(makers, {"campaign": campaign}, at_most=at_most)
    if parts["project"] is not None:
        check_account(request.identity, parts["project"], f"campaign {campaign['id']}")
    merged = composition.campaign_results(**parts)
    request.response.status_int, body = composition.results_response(merged)
    request.response.headers.update(composition.results_headers(merged))
    return body
