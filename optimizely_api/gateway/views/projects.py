"""Projects: what an account's experiments, campaigns and events belong to."""

from typing import Any

from pyramid.request import Request

from optimizely_api.gateway.paging import linked_items, requested_page
from optimizely_api.gateway.resource import Resource, operation
from optimizely_api.upstream import calls

PROJECTS = Resource("Project", "projects")


@operation
async def list_projects(request: Request) -> list[Any]:
    page = requested_page(request)
    filters = request.swagger_data.get("filter") or ()
    listed = await request.fetch(calls.list_projects(request.identity.account_id, page, filters))
    return await PROJECTS.shown(request, linked_items(request, page, listed))


@operation
async def create_project(request: Request) -> dict[str, Any]:
    return await PROJECTS.create(request)


@operation
async def get_project(request: Request) -> dict[str, Any]:
    return await PROJECTS.get(request)


@operation
async def update_project(request: Request) -> dict[str, Any]:
    return await PROJECTS.update(request)
