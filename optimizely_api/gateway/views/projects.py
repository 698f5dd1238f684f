"""Projects: what an account's experiments, campaigns and events belong to."""

from typing import Any

from pyramid.request import Request
from pyramid.view import view_config

from optimizely_api.contract.definitions import public
from optimizely_api.gateway.identity import check_account
from optimizely_api.gateway.paging import answer_page, requested_page
from optimizely_api.upstream import calls


@view_config(route_name="list_projects", renderer="json")
async def list_projects(request: Request) -> list[Any]:
    page = requested_page(request)
    filters = request.swagger_data.get("filter") or ()
    listed = await request.fetch(calls.list_projects(request.identity.account_id, page, filters))
    return [public("Project", project) for project in answer_page(request, page, listed)]


@view_config(route_name="get_project", renderer="json")
async def get_project(request: Request) -> dict[str, Any]:
    return public("Project", await visible_project(request, request.swagger_data["project_id"]))


async def visible_project(request: Request, project_id: int) -> dict[str, Any]:
    """Fetch a project; raises EntityNotFound, or Forbidden when it is another account's."""
    project: dict[str, Any] = await request.fetch(calls.get_project(project_id))
    check_account(request.identity, project, f"project {project_id}")
    return project
