"""Events: what visitors do, and what metrics count."""

from typing import Any

from pyramid.request import Request
from pyramid.view import view_config

from optimizely_api.contract.definitions import public
from optimizely_api.gateway.identity import check_account
from optimizely_api.gateway.paging import answer_page, requested_page
from optimizely_api.gateway.views.projects import visible_project
from optimizely_api.upstream import calls


@view_config(route_name="list_events", renderer="json")
async def list_events(request: Request) -> list[Any]:
    query, page = request.swagger_data, requested_page(request)
    await visible_project(request, query["project_id"])
    filters = {name: query.get(name) for name in ("project_id", "include_classic")}
    listed = await request.fetch(calls.list_events(request.identity.account_id, page, filters))
    return [public("Event", event) for event in answer_page(request, page, listed)]


@view_config(route_name="get_event", renderer="json")
async def get_event(request: Request) -> dict[str, Any]:
    event = await request.fetch(calls.get_event(request.swagger_data["event_id"]))
    check_account(request.identity, event, f"event {event['id']}")
    return public("Event", event)
